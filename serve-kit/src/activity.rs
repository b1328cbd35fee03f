//! What a connection is doing, and when it has been doing that for too long.
//!
//! hyper has a timer for headers, none for a client that takes nothing, and for HTTP/2 none for a client that asks
//! nothing. Without them a client keeps its connection, and the memory behind it, for as long as it likes. Here every
//! wait has a limit, whatever the protocol: `Watched` sees the bytes that pass, [`Answering`] the answers under way,
//! and `Activity::overdue` ends when one of the limits has passed. [`Traffic`] counts the answers of all connections.
//!
//! A server that computes its answers lets the client wait, too: that is no fault of the client's, and has no limit.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::Limits;

/// What a connection sends before others of its thread have their turn.
const TURN_BYTES: usize = 512 << 10;

/// The answers under way on all connections of a server, and the cores that serve them.
#[derive(Debug)]
pub struct Traffic {
    answering: AtomicUsize,
    cores: usize,
}

impl Traffic {
    /// No answers yet, on the cores that this program may use.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::on_cores(thread::available_parallelism().map_or(1, usize::from)))
    }

    fn on_cores(cores: usize) -> Self {
        Self { answering: AtomicUsize::new(0), cores }
    }

    /// Whether there are cores with nothing to do, which can read ahead: an answer needs one that sends it, and a client
    /// on this machine needs another.
    fn cores_are_idle(&self) -> bool {
        2 * self.answering.load(Ordering::Relaxed) <= self.cores
    }
}

/// The state of one connection, shared by its transport, its answers and its watchdog.
#[derive(Debug)]
pub struct Activity {
    /// Whether the protocol has frames of its own between requests, which then say nothing about the next one.
    multiplexed: bool,
    traffic: Arc<Traffic>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Answers under way: one at most in HTTP/1.1, several in HTTP/2.
    answering: u32,
    /// Those among them of which there is nothing to send before the server has computed it.
    computing: u32,
    wait: Wait,
    /// When `wait` began, or, while answering, when bytes last went out or became ready to go.
    since: Instant,
    /// Whether the transport takes no more bytes.
    blocked: bool,
    /// Bytes that went out in the present turn of the connection's task.
    went_in_turn: usize,
    /// What the connection has become goes on until this is dropped; then there are no turns any more.
    continuation: Continuation,
}

/// Whether a connection outlives HTTP.
#[derive(Debug)]
enum Continuation {
    No,
    Until(oneshot::Receiver<()>),
    UnderWay,
}

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The headers of the first request, or the rest of headers that have begun.
    Headers,
    /// The next request.
    Request,
    /// The client, which has to take the answers.
    Answers,
}

impl Activity {
    /// The state of a new connection. `multiplexed`: it speaks HTTP/2.
    pub fn new(multiplexed: bool, traffic: Arc<Traffic>) -> Arc<Self> {
        let state = State {
            answering: 0,
            computing: 0,
            wait: Wait::Headers,
            since: Instant::now(),
            blocked: false,
            went_in_turn: 0,
            continuation: Continuation::No,
        };
        Arc::new(Self { multiplexed, traffic, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come in; its answer is under way until the guard is dropped.
    pub fn answering(self: &Arc<Self>) -> Answering {
        self.traffic.answering.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.answering += 1;
        state.wait = Wait::Answers;
        state.since = Instant::now();
        Answering { activity: Arc::clone(self), computing: false }
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.wait == Wait::Request && !self.multiplexed {
            (state.wait, state.since) = (Wait::Headers, Instant::now());
        }
    }

    fn bytes_went(&self, bytes: usize) {
        let mut state = self.state();
        state.went_in_turn += bytes;
        state.blocked = false;
        if state.wait == Wait::Answers {
            state.since = Instant::now();
        }
    }

    /// The transport took nothing.
    fn took_nothing(&self) {
        let mut state = self.state();
        if state.client_waits() {
            state.since = Instant::now();
        }
        state.blocked = true;
    }

    /// Runs the connection. In each turn of its task it may send [`TURN_BYTES`], and then other connections of its
    /// thread have theirs: a socket takes megabytes at once, and who asks for little is not to wait for all of them.
    pub(crate) async fn in_turns<C: Future>(&self, connection: C) -> C::Output {
        let mut connection = pin!(connection);
        poll_fn(|cx| {
            self.state().went_in_turn = 0;
            connection.as_mut().poll(cx)
        })
        .await
    }

    fn turn_is_over(&self) -> bool {
        let state = self.state();
        state.went_in_turn >= TURN_BYTES && matches!(state.continuation, Continuation::No)
    }

    /// The connection becomes something else with the answer to the present request (RFC 9110, 7.8), and counts as one until the
    /// other end of `until` is dropped. Limits on waiting are its own business then.
    pub fn continue_until(&self, until: oneshot::Receiver<()>) {
        self.state().continuation = Continuation::Until(until);
    }

    /// Ends with what the connection has become; at once if that is nothing.
    pub(crate) async fn continued(&self) {
        let continuation = std::mem::replace(&mut self.state().continuation, Continuation::UnderWay);
        if let Continuation::Until(until) = continuation {
            // The sender is dropped, and sends nothing.
            let _ = until.await;
        }
    }

    /// Completes when the connection has waited for too long, up to a quarter of the shortest limit late, because it
    /// checks that often. Being woken by every change instead would cost every request a turn of its task.
    pub(crate) async fn overdue(&self, limits: &Limits) {
        let look_every = limits.header_read.min(limits.idle).min(limits.write_stall) / 4;
        loop {
            let (now, deadline) = (Instant::now(), self.deadline(limits));
            if deadline <= now {
                return;
            }
            sleep_until(deadline.min(now + look_every)).await;
        }
    }

    fn deadline(&self, limits: &Limits) -> Instant {
        let state = self.state();
        // What the server computes takes as long as it takes; the limit begins when there is something to send.
        let since = if state.client_waits() { Instant::now() } else { state.since };
        since + state.wait.limit(limits)
    }
}

impl State {
    /// Whether the client waits for the server, and not the other way round.
    fn client_waits(&self) -> bool {
        self.wait == Wait::Answers && self.computing == self.answering && !self.blocked
    }
}

impl Wait {
    fn limit(self, limits: &Limits) -> Duration {
        match self {
            Self::Headers => limits.header_read,
            Self::Request => limits.idle,
            Self::Answers => limits.write_stall,
        }
    }
}

/// An answer under way.
#[derive(Debug)]
pub struct Answering {
    activity: Arc<Activity>,
    /// Whether the client waits for the server here.
    computing: bool,
}

impl Answering {
    /// Whether the answers of all connections leave cores that can read ahead.
    pub fn cores_are_idle(&self) -> bool {
        self.activity.traffic.cores_are_idle()
    }

    /// Says whether there is nothing to send of this answer before the server has computed it. At first there is.
    pub fn set_computing(&mut self, computing: bool) {
        if self.computing == computing {
            return;
        }
        self.computing = computing;
        let mut state = self.activity.state();
        if computing {
            state.computing += 1;
        } else {
            if state.client_waits() {
                state.since = Instant::now();
            }
            state.computing -= 1;
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.set_computing(false);
        self.activity.traffic.answering.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.activity.state();
        state.answering -= 1;
        if state.answering == 0 {
            (state.wait, state.since) = (Wait::Request, Instant::now());
        }
    }
}

/// A stream whose bytes count as activity.
pub(crate) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    /// Ready while the turn lasts; the next one begins when the other tasks of the thread have had theirs.
    fn turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.activity.turn_is_over() { pin!(yield_now()).poll(cx) } else { Poll::Ready(()) }
    }

    fn went(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_pending() {
            self.activity.took_nothing();
        }
        let bytes = ready!(outcome)?;
        self.activity.bytes_went(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.turn(cx));
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.went(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.turn(cx));
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.went(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Runs `handshake` within the time that headers have.
pub(crate) async fn in_time<T>(limits: &Limits, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limits.header_read, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const LIMITS: Limits = Limits {
        header_read: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        write_stall: Duration::from_secs(30),
        drain: Duration::ZERO,
        connections: 1,
        connections_per_address: 1,
    };

    fn connection(multiplexed: bool) -> Arc<Activity> {
        Activity::new(multiplexed, Traffic::new())
    }

    #[test]
    fn cores_are_idle_while_answers_and_their_clients_are_fewer() {
        for (cores, most) in [(1, 0), (2, 1), (3, 1), (16, 8)] {
            let traffic = Arc::new(Traffic::on_cores(cores));
            let activity = Activity::new(true, Arc::clone(&traffic));
            let mut answers = Vec::new();
            for answer in 1..=most + 2 {
                answers.push(activity.answering());
                assert_eq!(answers[0].cores_are_idle(), answer <= most, "{answer} answers on {cores} cores");
            }
            drop(answers);
            assert_eq!(traffic.answering.load(Ordering::Relaxed), 0);
        }
    }

    /// Seconds, on tokio's paused clock, until the connection is overdue.
    async fn seconds_until_overdue(activity: &Activity) -> u64 {
        let begin = Instant::now();
        activity.overdue(&LIMITS).await;
        begin.elapsed().as_secs()
    }

    async fn after(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test]
    async fn a_connection_sends_no_more_in_a_turn_than_it_may() {
        let activity = connection(false);
        // Takes all of it at once, as a socket may.
        let (near, _far) = duplex(8 * TURN_BYTES);
        let mut watched = Watched::new(near, Arc::clone(&activity));
        let mut sending = pin!(activity.in_turns(async {
            for _ in 0..8 {
                watched.write_all(&vec![0; TURN_BYTES / 2]).await.unwrap();
            }
        }));
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            sending.as_mut().poll(cx)
        })
        .await;
        assert_eq!(turns, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn every_wait_has_its_limit() {
        let activity = connection(false);
        assert_eq!(seconds_until_overdue(&activity).await, 10, "said nothing");

        let activity = connection(false);
        after(5).await;
        activity.bytes_came();
        assert_eq!(seconds_until_overdue(&activity).await, 5, "drip-fed headers do not extend the time");

        let activity = connection(false);
        let answer = activity.answering();
        after(20).await;
        activity.bytes_went(1);
        assert_eq!(seconds_until_overdue(&activity).await, 30, "takes nothing any more");
        drop(answer);
        assert_eq!(seconds_until_overdue(&activity).await, 60, "asks nothing any more");
        activity.bytes_came();
        assert_eq!(seconds_until_overdue(&activity).await, 10, "began to ask and did not go on");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_computes_is_waited_for() {
        let activity = connection(false);
        let mut answer = activity.answering();
        answer.set_computing(true);
        let watched = Arc::clone(&activity);
        let watchdog = tokio::spawn(async move { seconds_until_overdue(&watched).await });
        after(500).await;
        answer.set_computing(false);
        let seconds = watchdog.await.unwrap();
        assert!((530..=533).contains(&seconds), "{seconds}");

        // Something is computed again while the client does not take what there was.
        answer.set_computing(true);
        activity.took_nothing();
        assert_eq!(seconds_until_overdue(&activity).await, 30);
        activity.bytes_went(1);
        let another = activity.answering();
        assert_eq!(seconds_until_overdue(&activity).await, 30, "one of two");
        drop(another);
        drop(answer);
        assert_eq!(seconds_until_overdue(&activity).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_answers_the_last_counts() {
        let activity = connection(true);
        let (one, two) = (activity.answering(), activity.answering());
        drop(one);
        activity.bytes_came();
        assert_eq!(seconds_until_overdue(&activity).await, 30);
        drop(two);
        // Such as the acknowledgement of the last frame.
        activity.bytes_came();
        assert_eq!(seconds_until_overdue(&activity).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_limit_counts_from_when_it_applies() {
        let activity = connection(false);
        drop(activity.answering());
        let watched = Arc::clone(&activity);
        let watchdog = tokio::spawn(async move { seconds_until_overdue(&watched).await });
        after(7).await;
        activity.bytes_came();
        let seconds = watchdog.await.unwrap();
        assert!((17..=19).contains(&seconds), "{seconds}");
    }
}
