//! What a connection is doing, and when it has been doing that for too long.
//!
//! hyper has a timer for headers, none for a client that takes nothing, and for HTTP/2 none for a client that asks
//! nothing. Without them a client keeps its connection, and the memory behind it, for as long as it likes. Here every
//! wait has a limit, whatever the protocol: [`Watched`] sees the bytes that pass, [`Answering`] the answers under way,
//! and [`Activity::overdue`] ends when one of the limits has passed. [`Traffic`] counts the answers of all connections.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use crate::options::Limits;

/// The answers under way on all connections of a server, and the cores that serve them.
#[derive(Debug)]
pub(crate) struct Traffic {
    answering: AtomicUsize,
    cores: usize,
}

impl Traffic {
    /// No answers yet, on the cores that this program may use.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::on_cores(thread::available_parallelism().map_or(1, usize::from)))
    }

    fn on_cores(cores: usize) -> Self {
        Self { answering: AtomicUsize::new(0), cores }
    }

    /// Whether work for an answer is better done on a core of its own than one after the other: each answer has a core
    /// that sends it, and maybe a client on this machine that takes the other half of the work.
    fn leaves_cores_idle(&self) -> bool {
        2 * self.answering.load(Ordering::Relaxed) <= self.cores
    }
}

/// The state of one connection, shared by its transport, its answers and its watchdog.
#[derive(Debug)]
pub(crate) struct Activity {
    /// Whether the protocol has frames of its own between requests, which then say nothing about the next one.
    multiplexed: bool,
    traffic: Arc<Traffic>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Answers under way: one at most in HTTP/1.1, several in HTTP/2.
    answering: u32,
    wait: Wait,
    /// When `wait` began, or, while answering, when bytes last went out.
    since: Instant,
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
    pub(crate) fn new(multiplexed: bool, traffic: Arc<Traffic>) -> Arc<Self> {
        let state = State { answering: 0, wait: Wait::Headers, since: Instant::now() };
        Arc::new(Self { multiplexed, traffic, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come in; its answer is under way until the guard is dropped.
    pub(crate) fn answering(self: &Arc<Self>) -> Answering {
        self.traffic.answering.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.answering += 1;
        state.wait = Wait::Answers;
        state.since = Instant::now();
        Answering(Arc::clone(self))
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.wait == Wait::Request && !self.multiplexed {
            (state.wait, state.since) = (Wait::Headers, Instant::now());
        }
    }

    fn bytes_went(&self) {
        let mut state = self.state();
        if state.wait == Wait::Answers {
            state.since = Instant::now();
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
        state.since + state.wait.limit(limits)
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
pub(crate) struct Answering(Arc<Activity>);

impl Answering {
    /// Whether work for this answer is better done on a core of its own.
    pub(crate) fn leaves_cores_idle(&self) -> bool {
        self.0.traffic.leaves_cores_idle()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.traffic.answering.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.0.state();
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

    fn went(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let bytes = ready!(outcome)?;
        self.activity.bytes_went();
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
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.went(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
                assert_eq!(answers[0].leaves_cores_idle(), answer <= most, "{answer} answers on {cores} cores");
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
        activity.bytes_went();
        assert_eq!(seconds_until_overdue(&activity).await, 30, "takes nothing any more");
        drop(answer);
        assert_eq!(seconds_until_overdue(&activity).await, 60, "asks nothing any more");
        activity.bytes_came();
        assert_eq!(seconds_until_overdue(&activity).await, 10, "began to ask and did not go on");
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
