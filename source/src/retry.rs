//! What to do about a fault: try again and when, wait for the network, or give up. Pure: faults, clock and randomness
//! come in, a decision goes out.

use std::time::Duration;

use crate::SourceError;

/// How patiently a read deals with faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts without a byte after which a read gives up. A byte that arrives starts the count again.
    pub attempts: u32,
    /// Like `attempts`, for faults that are likely to stay: nobody answers at the first contact, or a file that could
    /// be read before is refused or gone.
    pub doubtful_attempts: u32,
    /// Upper bound of the wait before the second attempt; doubles from one attempt to the next.
    pub first_wait: Duration,
    /// Limit at which the doubling stops.
    pub longest_wait: Duration,
    /// The longest wait that a host may ask for with `Retry-After`.
    pub longest_asked_wait: Duration,
    /// A source that brings no byte for this long is silent: its requests are given up and made again.
    pub stall: Duration,
}

impl Default for RetryPolicy {
    /// Bridges about half a minute of a host that is not there.
    fn default() -> Self {
        Self {
            attempts: 12,
            doubtful_attempts: 3,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(8),
            longest_asked_wait: Duration::from_secs(120),
            stall: Duration::from_secs(20),
        }
    }
}

/// How many stalls a request may last before the first answer. The browser may be asking the user for permission
/// meanwhile, and aborting the request would take the question away.
const STALLS_BEFORE_FIRST_ANSWER: u32 = 3;

/// How many stalls one request may be silent while others of the source bring bytes: over one connection a host may
/// send one answer after the other.
const STALLS_WHILE_OTHERS_FLOW: u32 = 6;

impl RetryPolicy {
    /// How much longer a request may stay silent; zero when it is time to give up. `own` and `source` are the times at
    /// which this request and the source's latest one brought a byte, or began.
    pub fn silence_left(&self, now: Duration, own: Duration, source: Duration, was_read: bool) -> Duration {
        let stall = if was_read { self.stall } else { self.stall * STALLS_BEFORE_FIRST_ANSWER };
        let deadline = (own.max(source) + stall).min(own + stall * STALLS_WHILE_OTHERS_FLOW);
        deadline.saturating_sub(now)
    }

    /// Exponential backoff with full jitter: anything from zero to the bound, so that reads that failed together do not
    /// retry together.
    fn backoff(&self, failed: u32, random: f64) -> Duration {
        let doublings = failed.saturating_sub(1).min(31);
        let bound = self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}

/// Kind of a fault that may pass, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// No response at all.
    NoAnswer,
    /// The connection broke in the middle of a body.
    BrokenOff,
    /// The body ended before its last byte.
    ShortBody,
    /// No byte for too long.
    Stalled,
    /// HTTP 5xx.
    HostFailed,
    /// HTTP 408 or 429.
    HostBusy,
    /// HTTP 401, 403, 404 or 410 for a file that could be read before: a signed address may have expired.
    Refused,
}

/// What a fault means for the read that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Trying again would not help, or would hide that the file is not what it was.
    Final,
    /// Trying again is likely to help.
    Passing(FaultKind),
    /// The fault may pass, but is more likely to stay.
    Doubtful(FaultKind),
}

/// Decides whether an error is worth another attempt. `was_read`: an earlier answer for this file was good.
pub fn classify(error: &SourceError, was_read: bool) -> Verdict {
    use FaultKind::*;
    use SourceError as E;
    let at_first_doubtful = |kind| if was_read { Verdict::Passing(kind) } else { Verdict::Doubtful(kind) };
    match error {
        E::Network { .. } => at_first_doubtful(NoAnswer),
        E::Stalled { .. } => at_first_doubtful(Stalled),
        E::BodyInterrupted { .. } => Verdict::Passing(BrokenOff),
        E::BodyLength { expected_bytes, got_bytes, .. } if got_bytes < expected_bytes => Verdict::Passing(ShortBody),
        E::HostFailed { .. } => Verdict::Passing(HostFailed),
        E::HostBusy { .. } => Verdict::Passing(HostBusy),
        E::NotFound { .. } | E::Forbidden { status: 401 | 403, .. } if was_read => Verdict::Doubtful(Refused),
        // Every error is listed, so that a new one is a decision and not an oversight.
        E::NotFound { .. }
        | E::Forbidden { .. }
        | E::BodyLength { .. }
        | E::OutOfBounds { .. }
        | E::NotHttpUrl { .. }
        | E::UnexpectedStatus { .. }
        | E::RangesIgnored { .. }
        | E::PageAddress { .. }
        | E::WebPage { .. }
        | E::RangeRefused { .. }
        | E::Empty { .. }
        | E::ContentRangeUnreadable { .. }
        | E::ContentRangeInvalid { .. }
        | E::WrongRange { .. }
        | E::Changed { .. }
        | E::PartsMissing { .. }
        | E::FileChanged { .. }
        | E::FileShrank { .. }
        | E::NotAFile { .. }
        | E::Io { .. }
        | E::Browser { .. }
        | E::WrongContents { .. }
        | E::Nonsense { .. }
        | E::NotCached { .. }
        | E::NothingCached { .. }
        | E::CacheUnreadable { .. }
        | E::GaveUp { .. }
        | E::WaitTooLong { .. } => Verdict::Final,
    }
}

/// What is known when an attempt fails.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Time on a clock that never goes back.
    pub now: Duration,
    /// Random number from 0 to 1, for the jitter.
    pub random: f64,
    /// `false` only if it is certain that the host cannot be reached for want of a network.
    pub online: bool,
    /// Whether an earlier answer for this file was good.
    pub was_read: bool,
    /// Wait that the host asked for with `Retry-After`.
    pub asked_wait: Option<Duration>,
}

/// What to do after a failed attempt.
#[derive(Debug)]
pub enum Next {
    /// Make another attempt after a wait.
    TryAgain {
        /// The kind of fault that is being dealt with.
        kind: FaultKind,
        /// How long to wait first; never less than the host asked for.
        wait: Duration,
        /// Number of the attempt that comes, counted from the last byte: 2 for the first repetition.
        attempt: u32,
        /// The read gives up after this many attempts.
        attempts: u32,
    },
    /// Attempts without a network would prove nothing, so they are neither made nor counted.
    WaitForNetwork,
    /// End the read with this error.
    GiveUp(SourceError),
}

/// Statistics of faults that are over, because bytes flow again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Attempts since the last byte, including the one that succeeded.
    pub attempts: u32,
    /// Time since the last byte.
    pub elapsed: Duration,
}

/// The faults of one read since its last byte.
#[derive(Debug)]
pub struct Patience<'p> {
    policy: &'p RetryPolicy,
    failed: u32,
    /// How many of `failed` were likely to stay.
    doubtful: u32,
    troubled: bool,
    /// When the last byte arrived, or the read began.
    silent_since: Duration,
}

impl<'p> Patience<'p> {
    /// Starts counting for a read that begins at `now`.
    pub fn new(policy: &'p RetryPolicy, now: Duration) -> Self {
        Self { policy, failed: 0, doubtful: 0, troubled: false, silent_since: now }
    }

    /// Forgets all faults because bytes arrived; returns what they cost, if there were any.
    pub fn received(&mut self, now: Duration) -> Option<Recovery> {
        let recovery = Recovery { attempts: self.failed + 1, elapsed: now.saturating_sub(self.silent_since) };
        let troubled = self.troubled;
        *self = Self::new(self.policy, now);
        troubled.then_some(recovery)
    }

    /// Decides what comes after an attempt that failed with `error`.
    pub fn failed(&mut self, error: SourceError, moment: &Moment) -> Next {
        let (kind, doubtful) = match classify(&error, moment.was_read) {
            Verdict::Final => return Next::GiveUp(error),
            Verdict::Passing(kind) => (kind, false),
            Verdict::Doubtful(kind) => (kind, true),
        };
        self.troubled = true;
        let of_network = matches!(kind, FaultKind::NoAnswer | FaultKind::BrokenOff | FaultKind::Stalled);
        if of_network && !moment.online {
            return Next::WaitForNetwork;
        }
        self.failed += 1;
        self.doubtful += u32::from(doubtful);
        let attempts =
            if doubtful { self.policy.doubtful_attempts.min(self.policy.attempts) } else { self.policy.attempts };
        let counted = if doubtful { self.doubtful } else { self.failed };
        if counted >= attempts {
            return Next::GiveUp(self.gave_up(error, moment));
        }
        if let Some(asked) = moment.asked_wait.filter(|asked| *asked > self.policy.longest_asked_wait) {
            return Next::GiveUp(SourceError::WaitTooLong { last: Box::new(error), asked_seconds: asked.as_secs() });
        }
        // The wait is never shorter than the host asked for.
        let wait = moment.asked_wait.unwrap_or_default() + self.policy.backoff(self.failed, moment.random);
        Next::TryAgain { kind, wait, attempt: counted + 1, attempts }
    }

    /// A single attempt has nothing to add to its own error.
    fn gave_up(&self, error: SourceError, moment: &Moment) -> SourceError {
        if self.failed < 2 {
            return error;
        }
        let seconds = moment.now.saturating_sub(self.silent_since).as_secs_f64();
        SourceError::GaveUp { last: Box::new(error), attempts: self.failed, seconds, was_read: moment.was_read }
    }
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date that `date` turns into the time since 1970. `None` if it
/// is neither; a date that has passed asks for no wait.
pub fn parse_retry_after(
    text: &str,
    since_1970: Duration,
    date: impl Fn(&str) -> Option<Duration>,
) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    date(text).map(|at| at.saturating_sub(since_1970))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://host/m.gguf";

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn moment(now: f64) -> Moment {
        Moment { now: seconds(now), random: 1.0, online: true, was_read: true, asked_wait: None }
    }

    fn network() -> SourceError {
        SourceError::Network { url: URL.into(), detail: "TypeError: Failed to fetch".into() }
    }

    fn status(status: u16) -> SourceError {
        let url = URL.to_owned();
        match status {
            404 | 410 => SourceError::NotFound { url, status },
            401 | 403 | 407 => SourceError::Forbidden { url, status },
            408 | 429 => SourceError::HostBusy { url, status },
            500..=599 => SourceError::HostFailed { url, status },
            _ => SourceError::UnexpectedStatus { url, status },
        }
    }

    fn body(expected_bytes: u64, got_bytes: u64) -> SourceError {
        SourceError::BodyLength { url: URL.into(), first: 0, last: expected_bytes - 1, expected_bytes, got_bytes }
    }

    fn waits(random: f64, mut faults: impl FnMut() -> SourceError) -> (Vec<f64>, SourceError) {
        let policy = RetryPolicy::default();
        let mut patience = Patience::new(&policy, Duration::ZERO);
        let (mut now, mut waits) = (0.0, Vec::new());
        loop {
            match patience.failed(faults(), &Moment { random, ..moment(now) }) {
                Next::TryAgain { wait, .. } => {
                    waits.push(wait.as_secs_f64());
                    now += wait.as_secs_f64();
                }
                Next::GiveUp(error) => return (waits, error),
                Next::WaitForNetwork => panic!("there is a network"),
            }
        }
    }

    #[test]
    fn every_fault_is_passing_doubtful_or_final() {
        use FaultKind::*;
        use Verdict::*;
        let stalled = || SourceError::Stalled { url: URL.into(), first: 0, last: 9, seconds: 20.0 };
        let broken =
            || SourceError::BodyInterrupted { url: URL.into(), first: 0, last: 9, detail: "network error".into() };
        let changed = || SourceError::Changed {
            url: URL.into(),
            what: "its ETag",
            expected: "\"a\"".into(),
            got: "\"b\"".into(),
        };
        // The fault, its verdict at first contact, its verdict once the file could be read.
        let rows = [
            (network(), Doubtful(NoAnswer), Passing(NoAnswer)),
            (stalled(), Doubtful(Stalled), Passing(Stalled)),
            (broken(), Passing(BrokenOff), Passing(BrokenOff)),
            (body(10, 9), Passing(ShortBody), Passing(ShortBody)),
            (body(10, 11), Final, Final),
            (status(500), Passing(HostFailed), Passing(HostFailed)),
            (status(503), Passing(HostFailed), Passing(HostFailed)),
            (status(408), Passing(HostBusy), Passing(HostBusy)),
            (status(429), Passing(HostBusy), Passing(HostBusy)),
            (status(401), Final, Doubtful(Refused)),
            (status(403), Final, Doubtful(Refused)),
            (status(404), Final, Doubtful(Refused)),
            (status(410), Final, Doubtful(Refused)),
            (status(407), Final, Final),
            (status(304), Final, Final),
            (SourceError::RangesIgnored { url: URL.into() }, Final, Final),
            (SourceError::PageAddress { url: URL.into(), file_url: None }, Final, Final),
            (SourceError::WebPage { url: URL.into(), content_type: "text/html".into(), file_url: None }, Final, Final),
            (SourceError::RangeRefused { url: URL.into(), first: 0, last: 9 }, Final, Final),
            (SourceError::ContentRangeUnreadable { url: URL.into() }, Final, Final),
            (changed(), Final, Final),
        ];
        for (error, at_first, later) in rows {
            assert_eq!((classify(&error, false), classify(&error, true)), (at_first, later), "{error}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_then_it_gives_up() {
        let (longest, error) = waits(1.0, network);
        assert_eq!(longest, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]);
        assert_eq!(
            error.to_string(),
            "no response from http://host/m.gguf that the browser would let this page read (TypeError: Failed to fetch); \
             tried 12 times in 55.8 s without receiving a byte"
        );
        assert!(error.advice().contains("was there before"), "{}", error.advice());
        let (shortest, _) = waits(0.0, network);
        assert_eq!(shortest, [0.0; 11], "full jitter goes down to nothing");
        let (halves, _) = waits(0.5, || status(503));
        assert_eq!(halves[..3], [0.125, 0.25, 0.5]);
    }

    #[test]
    fn doubtful_faults_get_few_attempts() {
        let (refused, error) = waits(1.0, || status(403));
        assert_eq!(refused.len(), 2);
        assert!(error.to_string().contains("HTTP 403") && error.to_string().contains("tried 3 times"), "{error}");
        assert!(error.advice().contains("expired"), "{}", error.advice());
        let policy = RetryPolicy::default();
        let mut patience = Patience::new(&policy, Duration::ZERO);
        let first_contact = Moment { was_read: false, ..moment(0.5) };
        for _ in 0..2 {
            assert!(matches!(patience.failed(network(), &first_contact), Next::TryAgain { attempts: 3, .. }));
        }
        let Next::GiveUp(error) = patience.failed(network(), &first_contact) else { panic!("three are enough") };
        assert!(error.advice().contains("CORS"), "{}", error.advice());
    }

    #[test]
    fn an_outage_does_not_use_up_the_few_attempts_of_a_refusal() {
        let policy = RetryPolicy::default();
        let mut patience = Patience::new(&policy, Duration::ZERO);
        for _ in 0..5 {
            assert!(matches!(patience.failed(network(), &moment(1.0)), Next::TryAgain { .. }));
        }
        let next = patience.failed(status(403), &moment(2.0));
        assert!(matches!(next, Next::TryAgain { kind: FaultKind::Refused, attempt: 2, attempts: 3, .. }), "{next:?}");
    }

    #[test]
    fn a_byte_forgives_everything_before_it() {
        let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let mut patience = Patience::new(&policy, Duration::ZERO);
        assert_eq!(patience.received(seconds(1.0)), None, "nothing had gone wrong");
        for round in 1..50 {
            let now = f64::from(round) * 10.0;
            for attempt in 2..=3 {
                let next = patience.failed(network(), &moment(now));
                let Next::TryAgain { attempt: got, attempts: 3, wait, .. } = next else { panic!("{next:?}") };
                assert_eq!((got, wait), (attempt, policy.first_wait * (attempt - 1)));
            }
            let recovery = patience.received(seconds(now + 2.0)).expect("it was in trouble");
            assert_eq!(recovery, Recovery { attempts: 3, elapsed: seconds(if round == 1 { 11.0 } else { 10.0 }) });
            assert_eq!(patience.received(seconds(now + 2.0)), None, "said once");
        }
    }

    #[test]
    fn one_attempt_means_the_plain_error() {
        let policy = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let next = Patience::new(&policy, Duration::ZERO).failed(status(500), &moment(1.0));
        assert!(matches!(next, Next::GiveUp(SourceError::HostFailed { .. })), "{next:?}");
    }

    #[test]
    fn without_a_network_nothing_is_counted() {
        let policy = RetryPolicy::default();
        let mut patience = Patience::new(&policy, Duration::ZERO);
        let offline = Moment { online: false, ..moment(1.0) };
        for _ in 0..100 {
            assert!(matches!(patience.failed(network(), &offline), Next::WaitForNetwork));
        }
        // An answer proves that there is a network, whatever the browser thinks.
        assert!(matches!(patience.failed(status(503), &offline), Next::TryAgain { attempt: 2, .. }));
        assert_eq!(patience.received(seconds(100.0)).map(|recovery| recovery.attempts), Some(2));
    }

    #[test]
    fn a_host_may_ask_for_a_wait_but_not_for_any() {
        let policy = RetryPolicy::default();
        let asked = |asked| Moment { asked_wait: Some(seconds(asked)), ..moment(1.0) };
        let next = Patience::new(&policy, Duration::ZERO).failed(status(503), &asked(7.0));
        assert!(matches!(next, Next::TryAgain { wait, .. } if wait == seconds(7.25)), "{next:?}");
        let next = Patience::new(&policy, Duration::ZERO).failed(status(429), &asked(3600.0));
        let Next::GiveUp(error) = next else { panic!("{next:?}") };
        assert!(error.to_string().contains("HTTP 429") && error.to_string().contains("3600 s"), "{error}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let date = |text: &str| (text == "Fri, 31 Dec 1999 23:59:59 GMT").then(|| seconds(1000.0));
        let read = |text, now| parse_retry_after(text, seconds(now), date);
        assert_eq!(read("120", 0.0), Some(seconds(120.0)));
        assert_eq!(read(" 0 ", 0.0), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999", 0.0), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT", 940.0), Some(seconds(60.0)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT", 2000.0), Some(Duration::ZERO));
        for neither in ["", "soon", "-1", "1.5"] {
            assert_eq!(read(neither, 0.0), None, "{neither}");
        }
    }

    #[test]
    fn silence_is_judged_by_the_whole_source() {
        let policy = RetryPolicy::default();
        let left = |now, own, source, was_read| {
            policy.silence_left(seconds(now), seconds(own), seconds(source), was_read).as_secs_f64()
        };
        assert_eq!(left(5.0, 0.0, 0.0, true), 15.0);
        assert_eq!(left(20.0, 0.0, 0.0, true), 0.0);
        assert_eq!(left(21.0, 0.0, 20.0, true), 19.0, "others bring bytes: this one waits for its turn");
        assert_eq!(left(119.0, 0.0, 119.0, true), 1.0, "but not for ever");
        assert_eq!(left(130.0, 0.0, 130.0, true), 0.0);
        assert_eq!(left(20.0, 0.0, 0.0, false), 40.0, "the user may be reading a question of the browser's");
    }
}
