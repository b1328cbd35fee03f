//! Listening, letting connections in, and stopping.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::activity::Traffic;
use crate::connection::{Responder, Shared, serve_connection};
use crate::limits::Limits;

/// How long answers have that are ended, since their time is over, to say that they were.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All answers under way were finished.
    Drained,
    /// Some took longer than [`Limits::drain`]. They were ended, and said so.
    Ended,
    /// Some took longer than [`Limits::drain`] and were cut.
    Cut,
}

/// The task that serves a connection, once it is where it is to be served.
pub type Serve = Box<dyn FnOnce(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Where connections are served: the threads of a server.
pub trait Place: Send + Sync + 'static {
    /// Takes a connection and serves it.
    ///
    /// # Errors
    /// There is nothing left to serve it. The connection is closed then.
    fn take(&self, stream: TcpStream, serve: Serve) -> io::Result<()>;

    /// Ends all connections that are still there.
    fn cut(self);
}

/// An address that could not be listened on.
#[derive(Debug)]
pub struct BindFault {
    /// Address and port.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// What to do about an address that cannot be listened on; `options` chooses another port.
pub fn bind_advice(error: &io::Error, option: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another program uses that port, choose another with {option} (0 takes a free one)")
        }
        io::ErrorKind::PermissionDenied => {
            format!("; ports below 1024 are for the administrator, choose another with {option}")
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address".to_owned(),
        _ => String::new(),
    }
}

/// Listens on `bind`, or on this machine alone. Loopback means both of its addresses then, because `localhost` does;
/// one of them is enough.
///
/// # Errors
/// The port is taken, the address is not this machine's, or the like.
pub async fn listen(bind: Option<IpAddr>, port: u16) -> Result<Vec<TcpListener>, BindFault> {
    let first = bind.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let first = listen_on(SocketAddr::new(first, port)).await?;
    if bind.is_some() {
        return Ok(vec![first]);
    }
    let port = address_of(&first)?.port();
    let second = listen_on(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).await;
    Ok([Ok(first), second].into_iter().flatten().collect())
}

async fn listen_on(address: SocketAddr) -> Result<TcpListener, BindFault> {
    TcpListener::bind(address).await.map_err(|source| BindFault { address, source })
}

/// The address that a listener has, with its real port.
///
/// # Errors
/// The system does not know.
pub fn address_of(listener: &TcpListener) -> Result<SocketAddr, BindFault> {
    let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    listener.local_addr().map_err(|source| BindFault { address: unknown, source })
}

/// Whether others could reach a server that does not know to which name it answers, so that no browser but this
/// machine's would get an answer; or that asks for no secret, so that everybody would.
pub fn is_exposed(bind: IpAddr, hosts: &[String], has_secret: bool) -> bool {
    !bind.is_loopback() && (hosts.is_empty() || !has_secret)
}

/// A server that runs until it is shut down or dropped.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

/// Serves in the background: connections are accepted in the current tokio runtime and served in `place`.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub fn start<R: Responder, P: Place>(
    listeners: Vec<TcpListener>,
    encrypt: Option<TlsAcceptor>,
    limits: Limits,
    place: P,
    responder: Arc<R>,
) -> Running {
    let (stop, stopped) = oneshot::channel();
    let shared = Arc::new(Shared { encrypt, responder, limits, traffic: Traffic::new() });
    let accept = Accept { listeners, place, door: Arc::new(Door::new(limits)), shared };
    Running { stop, task: tokio::spawn(accept.run(stopped)) }
}

impl Running {
    /// Stops accepting, lets answers under way finish within [`Limits::drain`], and returns when all is done.
    pub async fn shutdown(self) -> Stopped {
        // If the task is gone there is nothing left to stop.
        let _ = self.stop.send(());
        self.task.await.unwrap_or(Stopped::Cut)
    }
}

/// Who may come in.
struct Door {
    permits: Arc<Semaphore>,
    limits: Limits,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that was let in; dropping it makes room.
struct Admission {
    door: Arc<Door>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Door {
    fn new(limits: Limits) -> Self {
        Self { permits: Arc::new(Semaphore::new(limits.connections)), limits, by_address: Mutex::default() }
    }

    /// Waits for room, so that no more connections are accepted than are served.
    async fn room(&self) -> io::Result<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)
    }

    /// Ends when all connections have, or soon after: one that does not end when it is cut cannot be waited for.
    async fn wait_until_empty(&self, connections: usize) {
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        let _ = timeout(Duration::from_secs(1), self.permits.acquire_many(all)).await;
    }

    /// `None` if this address has all that it may have.
    fn admit(self: &Arc<Self>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Admission> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        if *count >= self.limits.connections_per_address {
            return None;
        }
        *count += 1;
        Some(Admission { door: Arc::clone(self), address, _permit: permit })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut by_address = self.door.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// The loop that lets connections in.
struct Accept<R, P> {
    listeners: Vec<TcpListener>,
    place: P,
    door: Arc<Door>,
    shared: Arc<Shared<R>>,
}

impl<R: Responder, P: Place> Accept<R, P> {
    /// Accepts until `stopped` fires, or its sender is dropped.
    async fn run(self, mut stopped: oneshot::Receiver<()>) -> Stopped {
        // Connections are told to end by a change, and each has a receiver for as long as it is there.
        let ending = watch::Sender::new(());
        loop {
            let accepted = tokio::select! {
                _ = &mut stopped => break,
                accepted = self.next() => accepted,
            };
            match accepted {
                Ok((stream, Some(admission))) => {
                    let serve = self.serving(admission, ending.subscribe());
                    // A connection that cannot be served is closed by being dropped.
                    let _ = self.place.take(stream, serve);
                }
                Ok((stream, None)) => drop(stream),
                // Usually too many open files. Trying again at once would only burn the processor.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        let Self { listeners, place, door, shared } = self;
        drop(listeners);
        shared.responder.stopping();
        let limits = shared.limits;
        ending.send_replace(());
        let mut drained = std::pin::pin!(ending.closed());
        if timeout(limits.drain, &mut drained).await.is_ok() {
            return Stopped::Drained;
        }
        if shared.responder.end_answers() && timeout(LAST_WORDS, drained).await.is_ok() {
            return Stopped::Ended;
        }
        place.cut();
        // What they still have to say about themselves is said as they end.
        door.wait_until_empty(limits.connections).await;
        Stopped::Cut
    }

    /// What is done with a connection in its place.
    fn serving(&self, admission: Admission, mut ending: watch::Receiver<()>) -> Serve {
        let shared = Arc::clone(&self.shared);
        Box::new(move |stream| {
            Box::pin(async move {
                serve_connection(stream, &shared, &mut ending).await;
                drop((admission, ending));
            })
        })
    }

    /// The next connection on any listener; without admission if its address has enough of them.
    async fn next(&self) -> io::Result<(TcpStream, Option<Admission>)> {
        let permit = self.door.room().await?;
        let (stream, peer) = poll_fn(|cx| {
            let mut accepted = self.listeners.iter().map(|listener| listener.poll_accept(cx));
            accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await?;
        // Answers to small requests are not to wait for more. A connection that is gone already shows that soon.
        let _ = stream.set_nodelay(true);
        Ok((stream, self.door.admit(peer.ip().to_canonical(), permit)))
    }
}

/// Tasks of the runtime that accepts, which is enough where answers are computed elsewhere.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: Mutex<tokio::task::JoinSet<()>>,
}

impl Place for Tasks {
    fn take(&self, stream: TcpStream, serve: Serve) -> io::Result<()> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are forgotten.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(serve(stream));
        Ok(())
    }

    fn cut(self) {
        // Dropping the set ends its tasks.
        drop(self);
    }
}
