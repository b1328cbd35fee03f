//! Threads that serve connections, each with an event loop of its own, as nginx's worker processes have.
//!
//! A connection stays on its thread. Under a runtime that moves tasks between threads, the tail of small requests was
//! twice as long: one thread waits for the sockets of all, and hands what it finds to others that have to be woken.

use std::io;
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::platform;

/// What is to be done with a connection once it is on its thread.
pub(crate) type Serve = Box<dyn FnOnce(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

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
    /// Starts a thread per core.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (cut, _) = watch::channel(());
        let lanes = (0..cores).map(|_| Lane::start(cut.subscribe())).collect::<io::Result<_>>()?;
        Ok(Self { lanes, cut })
    }

    /// Gives a connection to the thread that has the fewest.
    pub(crate) fn take(&self, stream: TcpStream, serve: Serve) -> io::Result<()> {
        let fewest = self.lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let lane = fewest.ok_or_else(|| io::Error::other("there is no thread to serve connections"))?;
        lane.connections.fetch_add(1, Ordering::Relaxed);
        // Its own thread's event loop is to watch it.
        lane.incoming.send((stream.into_std()?, serve)).map_err(|_| io::Error::other("the thread has ended"))
    }

    /// Ends all connections that are still there.
    pub(crate) fn cut(self) {
        drop(self.cut);
    }
}

impl Lane {
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
