//! A host, or the way to it, that fails: at the first contact, while weights are fetched, and in the middle of an
//! answer, whose experts come on demand. Either the recorded answer is right, or the error says what happened and what
//! to do.
//!
//! What the browser adds nothing to is tested where it is quicker: `source/src/retry.rs` (verdicts, waits, counts) and
//! `source/src/platform/web/tests/faults.rs` (every fault against the real source, the network being made up). The
//! header is read as weights are, and nano's fits into the first answer.

use std::time::{Duration, Instant};

use browser_driver::{Browser, GptossPage, NanoCase, PageState, Snapshot};
use gptoss_protocol::{Envelope, Event, TroubleKind};

use crate::session::{Session, assert_answer, case, follow};
use crate::tiny_host::{Behaviour, Fault, TinyHost, When};
use crate::{event_log, nano_bytes};

/// Short patience, so that tests need little: four attempts, and one second of silence.
const PATIENCE: &str = "attempts=4&stall=1";

/// What is cached is fetched in chunks, of which nano is a single one; without, there are reads to fail at every stage.
const NOT_CACHED: &str = "&cache=no";

/// The most that one fault may cost, as a percentage of the bytes that a run without faults takes.
const MOST_PERCENT: u64 = 102;

const BROKEN: [(&str, Fault); 3] =
    [("reset", Fault::Reset), ("closed", Fault::Closed), ("ended without a length", Fault::Short)];

/// A page with a model of a host that fails when it is told to.
struct Faulty<'a> {
    browser: &'a Browser,
    host: &'a TinyHost,
    page: GptossPage<'a>,
    case: NanoCase,
}

impl<'a> Faulty<'a> {
    async fn open(session: &'a Session, host: &'a TinyHost, options: &str) -> Self {
        Self::open_url(session, host, &host.url(), options).await
    }

    async fn open_url(session: &'a Session, host: &'a TinyHost, url: &str, options: &str) -> Self {
        let case = case("number_words");
        // Nothing is read but what is waited for.
        let page = session.open(&format!("gguf={url}&experts=ahead&{PATIENCE}{options}&{}", case.query())).await;
        Self { browser: &session.browser, host, page, case }
    }

    /// Presses the button: loads and answers, or only answers; gives what the page shows at the end and the body bytes
    /// that the host sent.
    async fn run(&self, button: Button) -> (Snapshot, u64) {
        let before = (self.events().await, self.host.sent_bytes());
        press(self.browser, button).await;
        // One error may come so soon after another that the page never shows anything else.
        let reacted = async |_: &Browser| Ok(if self.events().await != before.0 { Ok(()) } else { Err(String::new()) });
        self.browser.wait_for("events", Duration::from_secs(30), reacted).await.expect("the worker reacts");
        let end = follow(&self.page, &[PageState::Done, PageState::Error]).await;
        (end, self.host.sent_bytes() - before.1)
    }

    /// How many events the page has received; drawn together with what they changed.
    async fn events(&self) -> String {
        self.browser.text("#events-received").await.expect("events are counted")
    }

    /// Runs without faults; returns the body bytes that it took.
    async fn run_well(&self, button: Button) -> u64 {
        let (end, bytes) = self.run(button).await;
        assert_answer(&end, &self.case);
        bytes
    }

    /// The answer is right all the same; gives the body bytes that it took.
    async fn survives(&self, button: Button, name: &str, when: When, fault: Fault) -> u64 {
        let begin = Instant::now();
        self.host.fail(when, fault);
        let (end, bytes) = self.run(button).await;
        assert_eq!(end.error, "", "{name}");
        assert_answer(&end, &self.case);
        assert_eq!(self.host.faults_left(), 0, "{name}: no request met the fault, nothing was tested");
        println!("{button:?}, {name}: {:.1} s", begin.elapsed().as_secs_f64());
        bytes
    }

    /// All of `faults` strike, one after the other, and the answer is right all the same. Gives their names and the body
    /// bytes that it took. Several at once, since a load or an answer takes a software adapter seconds.
    async fn survives_all(
        &self,
        button: Button,
        faults: &[(&str, Fault)],
        when: impl Fn(usize) -> When,
    ) -> (String, u64) {
        let name = faults.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", then ");
        let ((_, last), earlier) = faults.split_last().expect("a fault");
        earlier.iter().enumerate().for_each(|(index, (_, fault))| self.host.fail(when(index), *fault));
        let bytes = self.survives(button, &name, when(earlier.len()), *last).await;
        (name, bytes)
    }

    /// The error is this one, with advice.
    async fn fails(&self, button: Button, name: &str, words: &str, when: When, fault: Fault, times: usize) -> Snapshot {
        let begin = Instant::now();
        self.host.fail_times(when, fault, times);
        let (end, _) = self.run(button).await;
        assert!(end.error.contains(words), "{name}: expected {words:?}, got {end:?}");
        assert_ne!(end.error_advice, "", "{name}: an error comes with advice");
        self.host.be_good();
        println!("{button:?}, {name}: {:?}, {:.1} s", end.error, begin.elapsed().as_secs_f64());
        end
    }
}

#[derive(Clone, Copy, Debug)]
enum Button {
    Load,
    Ask,
}

async fn press(browser: &Browser, button: Button) {
    let css = match button {
        Button::Load => "#load",
        Button::Ask => "#ask",
    };
    GptossPage::bring_back_question(browser).await.expect("the same question");
    let enabled = format!("return !document.querySelector('{css}').disabled;");
    let look = async |browser: &Browser| {
        let is_enabled = browser.eval(&enabled, vec![]).await?;
        Ok(if is_enabled == true { Ok(()) } else { Err("disabled".to_owned()) })
    };
    browser.wait_for(css, Duration::from_secs(30), look).await.expect("the button can be pressed");
    browser.click(css).await.expect("the button can be pressed");
}

fn assert_cheap(name: &str, sent_bytes: u64, needed_bytes: u64) {
    println!("{name}: {sent_bytes} bytes sent, {needed_bytes} needed");
    assert!(sent_bytes * 100 <= needed_bytes * MOST_PERCENT, "{name}: {sent_bytes} bytes sent, {needed_bytes} needed");
}

/// The first request of a load is the range check, with nano's whole header; it brings 65536 bytes.
const IN_FIRST_BYTES: When = When::Request { skip: 0, after_bytes: 40_000 };
/// Any that is not among the first is for weights: more than 150,000 bytes.
const IN_WEIGHTS: When = When::Request { skip: 3, after_bytes: 100_000 };
/// After one there: another request for weights, or for what the one before it left over.
const LATER_IN_WEIGHTS: When = When::Request { skip: 1, after_bytes: 20_000 };
/// Beyond the first bytes, which the range check brings.
const fn in_chunk(fault: usize) -> When {
    When::Byte(1_000_000 + 250_000 * fault as u64)
}
/// A fault in the middle of one of the three matrices of an expert; nano has 9792 bytes in each.
const IN_EXPERTS: When = When::Request { skip: 4, after_bytes: 5_000 };
const LATER_IN_EXPERTS: When = When::Request { skip: 20, after_bytes: 5_000 };

/// Faults that pass, at whatever byte they strike.
fn passing() -> Vec<(&'static str, Fault)> {
    let drip = Fault::Drip(8, Duration::from_millis(200));
    let mut faults = BROKEN.to_vec();
    faults.extend([
        ("stalled", Fault::Stall),
        ("HTTP 500", Fault::Status(500, None)),
        ("HTTP 503 with Retry-After", Fault::Status(503, Some(1))),
        ("slow drip", drip),
    ]);
    faults
}

/// Faults that no second attempt may gloss over, once the file is known, and words of their errors.
const FINAL: [(&str, Fault, &str); 5] = [
    ("whole file", Fault::Status(200, None), "ignores byte ranges"),
    ("wrong Content-Range", Fault::WrongContentRange, "expected"),
    ("body too long", Fault::Long, "bytes, expected"),
    ("other ETag", Fault::OtherEtag, "its ETag was \"tiny\", is now \"another\""),
    ("other length", Fault::OtherLength, "length in bytes was"),
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_while_loading_are_survived_or_named() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    let faulty = Faulty::open(&session, &host, NOT_CACHED).await;

    for (name, fault, words) in [
        ("whole file", Fault::Status(200, None), "ignores byte ranges"),
        ("wrong Content-Range", Fault::WrongContentRange, "sent bytes 1-65535, expected 0-65535"),
        ("body too long", Fault::Long, "has 65537 bytes, expected 65536"),
        ("forbidden", Fault::Status(403, None), "refused access"),
        ("not there", Fault::Status(404, None), "does not exist"),
    ] {
        let before = host.requests().len();
        faulty.fails(Button::Load, name, words, When::NEXT, fault, 1).await;
        assert_eq!(host.requests().len() - before, 1, "{name} was asked again");
    }
    faulty.fails(Button::Load, "HTTP 500 for good", "tried 4 times", When::NEXT, Fault::Status(500, None), 99).await;
    faulty.fails(Button::Load, "never there", "tried 3 times", When::NEXT, Fault::Down(None), 1).await;
    host.bring_up();

    let needed_bytes = faulty.run_well(Button::Load).await;
    // While weights come, and each of them in some load at the first contact, too: here, or before a fault that is final.
    let passing = passing();
    let (at_first, with_final) = passing.split_at(passing.len() - FINAL.len());
    assert_eq!(at_first.len(), passing.chunks(4).count());
    for (faults, (_, first)) in passing.chunks(4).zip(at_first) {
        host.fail(IN_FIRST_BYTES, *first);
        let when = |index| if index == 0 { IN_WEIGHTS } else { LATER_IN_WEIGHTS };
        let (name, bytes) = faulty.survives_all(Button::Load, faults, when).await;
        assert_cheap(&name, bytes, needed_bytes);
    }
    let before = (host.sent_bytes(), host.requests().len());
    faulty.survives(Button::Load, "HTTP 403 once", IN_WEIGHTS, Fault::Status(403, None)).await;
    assert_counted_truly(&session, host.sent_bytes() - before.0, host.requests().len() - before.1).await;
    for ((name, fault, words), (_, first)) in FINAL.into_iter().zip(with_final) {
        host.fail(IN_FIRST_BYTES, *first);
        faulty.fails(Button::Load, name, words, IN_WEIGHTS, fault, 1).await;
    }
    faulty.fails(Button::Load, "gone while loading", "tried 4 times", IN_WEIGHTS, Fault::Down(None), 1).await;
    host.bring_up();
    faulty.run_well(Button::Load).await;
}

/// The same where what is fetched is cached, as the page does by itself: what is wrong is neither used nor cached.
#[tokio::test(flavor = "multi_thread")]
async fn faults_while_keeping_are_survived_or_named() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    // Every load has an address of its own, or all but the first would find everything cached.
    let open = async |number: usize| Faulty::open_url(&session, &host, &format!("{}%3F{number}", host.url()), "").await;
    let file_bytes = nano_bytes().len() as u64;
    let faulty = open(0).await;
    host.fail(IN_FIRST_BYTES, Fault::Reset);
    let (name, bytes) = faulty.survives_all(Button::Load, &passing(), in_chunk).await;
    assert_cheap(&name, bytes, file_bytes);
    let faulty = open(1).await;
    for (name, fault, words) in FINAL {
        // If anything of the load before were cached, this one would not meet its fault.
        faulty.fails(Button::Load, name, words, in_chunk(0), fault, 1).await;
    }
    assert_eq!(faulty.run_well(Button::Load).await, file_bytes, "nothing is fetched twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_the_middle_of_an_answer_are_survived_or_named() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    let faulty = Faulty::open(&session, &host, "&cache=no&expert_memory=1.3M").await;
    faulty.run_well(Button::Load).await;
    let mut sent_bytes = Vec::new();
    let faults: Vec<_> = passing().into_iter().chain([("HTTP 403 once", Fault::Status(403, None))]).collect();
    for faults in faults.chunks(4) {
        let when = |index| if index == 0 { IN_EXPERTS } else { LATER_IN_EXPERTS };
        sent_bytes.push(faulty.survives_all(Button::Ask, faults, when).await);
    }
    let events = event_log::export(&session.browser).await;
    let needed_bytes = fetched_by_each_answer(&events);
    // The first answer was that of the load.
    assert_eq!(needed_bytes.len(), 1 + sent_bytes.len());
    for ((name, sent_bytes), needed_bytes) in sent_bytes.into_iter().zip(&needed_bytes[1..]) {
        assert_cheap(&name, sent_bytes, *needed_bytes);
    }
    let kinds = event_log::all(&events, |event| match event {
        Event::Trouble(trouble) => Some(trouble.what),
        _ => None,
    });
    use TroubleKind::{BrokenOff, HostFailed, Refused, ShortBody, Stalled};
    let told = [BrokenOff, BrokenOff, ShortBody, Stalled, HostFailed, HostFailed, Refused];
    assert_eq!(kinds, told, "trouble, in the order of the faults; slowness is none");
    let over = event_log::all(&events, |event| matches!(event, Event::TroubleOver { .. }).then_some(()));
    assert_eq!(over.len(), told.len(), "every trouble was over");

    for (name, fault, words) in FINAL {
        faulty.fails(Button::Ask, name, words, IN_EXPERTS, fault, 1).await;
    }
    // The model is still there, and as good as before.
    faulty.run_well(Button::Ask).await;
    let refused = Fault::Status(403, None);
    let end = faulty.fails(Button::Ask, "expired for good", "tried 3 times", IN_EXPERTS, refused, 99).await;
    assert!(end.error.contains("403") && end.error_advice.contains("expired"), "{end:?}");
    let begin = Instant::now();
    let end = faulty.fails(Button::Ask, "gone for good", "tried 4 times", IN_EXPERTS, Fault::Down(None), 1).await;
    assert!(begin.elapsed() < Duration::from_secs(20), "four attempts take two seconds: {:?}", begin.elapsed());
    assert!(end.error_advice.contains("was there before"), "{end:?}");
    session.screenshot("error-host-gone").await;
    host.bring_up();
    faulty.run_well(Button::Ask).await;
}

/// Weight bytes that the engine took in for each answer, from the end of the one before.
fn fetched_by_each_answer(events: &[Envelope]) -> Vec<u64> {
    let (mut before, mut now, mut answers) = (0, 0, Vec::new());
    for envelope in events {
        match &envelope.event {
            Event::Work(work) => now = work.weights_fetched_bytes,
            Event::Finished { .. } => {
                answers.push(now - before);
                before = now;
            }
            _ => {}
        }
    }
    answers
}

/// What the page says of the last load is what the host saw.
async fn assert_counted_truly(session: &Session, sent_bytes: u64, requests: usize) {
    let events = event_log::export(&session.browser).await;
    let counts = event_log::all(&events, |event| match event {
        Event::Fetch { requests, wire_bytes, .. } => Some((*wire_bytes, *requests as usize)),
        _ => None,
    });
    assert_eq!(counts.last(), Some(&(Some(sent_bytes), requests)), "bytes and requests");
}

/// The page keeps its own default patience.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_out_and_stop_ends_the_waiting() {
    let session = Session::start().await;
    let host = TinyHost::start(nano_bytes(), Behaviour::GOOD).expect("host");
    let case = case("number_words");
    let page = session.open(&format!("gguf={}&cache=no&expert_memory=1.3M&{}", host.url(), case.query())).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);

    for button in [Button::Ask, Button::Load] {
        let when = match button {
            Button::Ask => IN_EXPERTS,
            Button::Load => IN_WEIGHTS,
        };
        host.fail(when, Fault::Down(Some(Duration::from_secs(3))));
        press(&session.browser, button).await;
        wait_for_trouble(&session).await;
        session.screenshot("trouble").await;
        assert_answer(&follow(&page, &[PageState::Done]).await, &case);
        let status = session.browser.text("#status").await.expect("status");
        assert!(!status.contains("attempt"), "trouble that is over is still shown: {status:?}");

        host.fail(when, Fault::Down(None));
        press(&session.browser, button).await;
        wait_for_trouble(&session).await;
        let begin = Instant::now();
        page.stop().await.expect("STOP can be pressed");
        let stopped = follow(&page, &[PageState::Stopped]).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "STOP waited for the host: {:?}", begin.elapsed());
        assert_eq!(stopped.error, "", "stopping is not an error");
        host.bring_up();
    }
    page.load().await.expect("LOAD MODEL can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &case);
}

/// Waits until the status line says that another attempt is made.
async fn wait_for_trouble(session: &Session) {
    let look = async |browser: &Browser| {
        let status = browser.text("#status").await?;
        Ok(if status.contains("attempt") { Ok(()) } else { Err(status) })
    };
    session
        .browser
        .wait_for("the page to say that it tries again", Duration::from_secs(30), look)
        .await
        .expect("trouble");
}
