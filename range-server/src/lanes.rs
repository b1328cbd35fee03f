//! Threads that serve connections, each with an event loop of its own, as nginx's worker processes have.
//!
//! A connection stays on its thread. Under a runtime that moves tasks between threads, the tail of small requests was
//! twice as long: one thread waits for the sockets of all, and hands what it finds to others that have to be woken.

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serve_kit::server::{Place, Serve};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::platform::{self, Core};

/// All threads of a server.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// Dropped when connections are to be cut.
    cut: watch::Sender<()>,
}

struct Lane {
    connections: Arc<AtomicUsize>,
    incoming: mpsc::UnboundedSender<(StdStream, Serve)>,
}

impl Lanes {
    /// Starts a thread per core, on its core where the system lets it.
    pub(crate) fn start() -> io::Result<Self> {
        let share = thread::available_parallelism().map_or(1, usize::from);
        let cores = platform::cores();
        let (cut, _) = watch::channel(());
        // If the system grants less than all of these cores' time, as in a container, the scheduler has to find free
        // ones.
        let own = |lane: usize| if cores.len() == share { cores[lane..][..1].to_vec() } else { cores.clone() };
        let start = |lane| Lane::start(own(lane), cores.clone(), cut.subscribe());
        let lanes = (0..share).map(start).collect::<io::Result<_>>()?;
        Ok(Self { lanes, cut })
    }
}

impl Place for Lanes {
    /// Gives a connection to the thread that has the fewest.
    fn take(&self, stream: TcpStream, serve: Serve) -> io::Result<()> {
        let fewest = self.lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let lane = fewest.ok_or_else(|| io::Error::other("there is no thread to serve connections"))?;
        lane.connections.fetch_add(1, Ordering::Relaxed);
        // The socket is handed to the event loop of that thread.
        lane.incoming.send((stream.into_std()?, serve)).map_err(|_unsent| io::Error::other("the thread has ended"))
    }

    fn cut(self) {
        drop(self.cut);
    }
}

impl Lane {
    /// Starts a thread. `own`: cores that it serves on; `all`: cores for threads that wait for disks and hash.
    fn start(own: Vec<Core>, all: Vec<Core>, cut: watch::Receiver<()>) -> io::Result<Self> {
        let (incoming, accepted) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().on_thread_start(move || platform::stay_on(&all)).build()?;
        thread::Builder::new().name("gguf-serve".into()).spawn(move || {
            // Two of them on one core while another is idle would delay a request in a hundred.
            platform::stay_on(&own);
            platform::prefer_short_turns();
            runtime.block_on(run(accepted, &count, cut));
            // A read that hangs on a dead disk is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { connections, incoming })
    }
}

/// Serves what comes in until nothing can come any more and all of it is done, or it is cut.
async fn run(
    mut accepted: mpsc::UnboundedReceiver<(StdStream, Serve)>,
    count: &Arc<AtomicUsize>,
    mut cut: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = accepted.recv() => {
                let Some((stream, serve)) = next else { break };
                let count = Arc::clone(count);
                connections.spawn(async move {
                    // It fails only for a socket that is gone already.
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        serve(stream).await;
                    }
                    count.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(_) = connections.join_next() => {}
            _ = cut.changed() => return,
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        _ = cut.changed() => {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener as StdListener;

    use super::*;

    /// A connection to this very program, as an accepted one.
    fn connection() -> TcpStream {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }

    #[tokio::test]
    async fn each_serves_on_a_core_of_its_own_and_waits_for_disks_on_any() {
        let all = platform::cores();
        assert!(!all.is_empty());
        let lanes = Lanes::start().unwrap();
        let (told, mut seen) = mpsc::unbounded_channel();
        for _ in 0..lanes.lanes.len() {
            let told = told.clone();
            let serve: Serve = Box::new(move |stream| {
                Box::pin(async move {
                    let waiting = tokio::task::spawn_blocking(platform::cores).await.unwrap();
                    told.send((platform::cores(), waiting, stream)).unwrap();
                })
            });
            lanes.take(connection(), serve).unwrap();
        }
        drop(told);
        let mut own = Vec::new();
        while let Some((serving, waiting, _)) = seen.recv().await {
            assert_eq!(waiting, all);
            own.push(serving);
        }
        own.sort();
        if own.len() == all.len() {
            assert_eq!(own, all.iter().map(|&core| vec![core]).collect::<Vec<_>>());
        } else {
            // Less than all of these cores' time is this program's.
            assert_eq!(own, vec![all; own.len()]);
        }
    }
}
