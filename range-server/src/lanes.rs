//! Threads that serve connections, each with an event loop of its own, as nginx's worker processes have.
//!
//! A connection stays on its thread. Under a runtime that moves tasks between threads, the tail of small requests was
//! twice as long: one thread waits for the sockets of all, and hands what it finds to others that have to be woken. The scheduler
//! chooses the core of each thread: bound to a core, it would wait for whoever else computes there, while another core idles.

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

use crate::platform;

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
    /// Starts as many threads as there are cores, or the time of cores that the system grants.
    pub(crate) fn start() -> io::Result<Self> {
        let share = thread::available_parallelism().map_or(1, usize::from);
        let (cut, _) = watch::channel(());
        let lanes = (0..share).map(|_| Lane::start(cut.subscribe())).collect::<io::Result<_>>()?;
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
    /// Starts a thread.
    fn start(cut: watch::Receiver<()>) -> io::Result<Self> {
        let (incoming, accepted) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("gguf-serve".into()).spawn(move || {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
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
    async fn as_many_connections_as_threads_have_one_each() {
        let lanes = Lanes::start().unwrap();
        let (told, mut seen) = mpsc::unbounded_channel();
        let (all_are_here, end) = watch::channel(());
        for _ in 0..lanes.lanes.len() {
            let (told, mut end) = (told.clone(), end.clone());
            let serve: Serve = Box::new(move |_stream| {
                Box::pin(async move {
                    told.send(thread::current().id()).unwrap();
                    drop(told);
                    // It is there until all of them are.
                    let _ = end.changed().await;
                })
            });
            lanes.take(connection(), serve).unwrap();
        }
        drop(told);
        let mut serving = HashSet::new();
        while let Some(thread) = seen.recv().await {
            assert!(serving.insert(thread), "{thread:?} has two connections");
        }
        drop(all_are_here);
        assert_eq!(serving.len(), lanes.lanes.len());
    }
}
