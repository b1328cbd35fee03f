//! Starting, listening, and stopping.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use gptoss_finder::Links;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::activity::Traffic;
use crate::catalogue::{ModelInfo, Shelf};
use crate::connection::serve_connection;
use crate::cors::OriginList;
use crate::hashes::{HashQueue, HashStore};
use crate::host::{Host, HostList};
use crate::lanes::{Lanes, Serve};
use crate::options::{Limits, Options, ServeError};
use crate::page::{Page, PageSource};
use crate::service::{Service, is_taken};
use crate::tls;
use crate::token::{Token, random_secret};

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All answers under way were finished.
    Drained,
    /// Some took longer than [`Limits::drain`] and were cut.
    Cut,
}

/// A server that runs until it is shut down or dropped.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    service: Arc<Service>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

/// Opens the models, binds, and serves in the background: connections are accepted in the current tokio runtime and
/// served by threads of their own. Files are opened on the calling thread, which takes a moment where folders are
/// large.
///
/// # Errors
/// A [`ServeError`] if an option is unusable, a path cannot be served, or the address cannot be bound.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub async fn serve(options: Options) -> Result<RunningServer, ServeError> {
    check_exposure(&options)?;
    let listeners = listen(options.bind, options.port).await?;
    let addresses: Vec<SocketAddr> = listeners.iter().map(|(_, address)| *address).collect();
    let encrypt = match &options.tls {
        None => None,
        Some(identity) => Some(tls::acceptor(identity, &certificate_hosts(&options))?),
    };
    let limits = options.limits;
    let service = Arc::new(build_service(options, addresses[0].port())?);
    let (stop, stopped) = oneshot::channel();
    let listeners = listeners.into_iter().map(|(listener, _)| listener).collect();
    let lanes = Lanes::start().map_err(ServeError::Threads)?;
    let accept =
        Accept { listeners, lanes, door: Arc::new(Door::new(limits)), encrypt, service: Arc::clone(&service), limits };
    let task = tokio::spawn(accept.run(stopped));
    Ok(RunningServer { addresses, service, stop, task })
}

/// A server that others can reach must say to which name it answers, or no browser but this machine's gets an answer;
/// and must ask for a secret, or everybody does.
fn check_exposure(options: &Options) -> Result<(), ServeError> {
    if options.token.as_ref().is_some_and(String::is_empty) {
        return Err(ServeError::EmptyToken);
    }
    match options.bind.filter(|address| !address.is_loopback()) {
        Some(address) if options.allow_hosts.is_empty() || options.token.is_none() => {
            Err(ServeError::Exposed { address, suggestion: random_secret() })
        }
        _ => Ok(()),
    }
}

/// Loopback means both of its addresses, because `localhost` does; one of them is enough.
async fn listen(bind: Option<IpAddr>, port: u16) -> Result<Vec<(TcpListener, SocketAddr)>, ServeError> {
    let first = bind.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let mut listeners = vec![listen_on(SocketAddr::new(first, port)).await?];
    if bind.is_none() {
        let port = listeners[0].1.port();
        listeners.extend(listen_on(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).await);
    }
    Ok(listeners)
}

async fn listen_on(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bind_error = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    Ok((listener, address))
}

/// Names and addresses by which the server is reached.
fn certificate_hosts(options: &Options) -> Vec<String> {
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let bound = options.bind.filter(|address| !address.is_unspecified()).map(|address| address.to_string());
    let told = options.allow_hosts.iter().map(|host| host.trim_matches(['[', ']']).to_owned());
    let mut hosts: Vec<String> = loopback.into_iter().chain(bound).chain(told).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn build_service(options: Options, port: u16) -> Result<Service, ServeError> {
    let origins = OriginList::new(&options.allow_origins).map_err(|origin| ServeError::Origin { origin })?;
    let hosts =
        options.allow_hosts.iter().map(|host| Host::parse(host).ok_or_else(|| ServeError::Host { host: host.clone() }));
    let mut hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    // 0.0.0.0 is no address that anybody uses to reach a server.
    hosts.extend(options.bind.filter(|address| !address.is_unspecified()).map(Host::Address));
    let page = Arc::new(match &options.web {
        None => Page::embedded(),
        Some(folder) => Page::read(folder).map_err(|source| ServeError::Page { folder: folder.clone(), source })?,
    });
    let names = Arc::clone(&page);
    let links = if options.follow_links { Links::Anywhere } else { Links::Inside };
    let shelf = Shelf::open(options.paths, links, Box::new(move |name| is_taken(&names, name)))?;
    Ok(Service {
        hosts: HostList::new(hosts),
        origins,
        token: options.token.map(|secret| Token::new(&secret, port)),
        isolate: options.isolate,
        secure: options.tls.is_some(),
        page,
        shelf: Arc::new(shelf),
        hashes: Arc::new(HashQueue::new(HashStore::new(options.hash_cache))),
        log: options.log,
        traffic: Traffic::new(),
    })
}

impl RunningServer {
    /// Address and port it listens on; the real port where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses that it listens on: if only this machine is served, ::1 is one of them.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What a person on this machine opens in a browser, without the token.
    pub fn page_url(&self) -> String {
        let address = self.addr();
        let host = match address.ip() {
            ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        self.url_at(&SocketAddr::new(host, address.port()).to_string())
    }

    /// The same for others, who reach it at `authority`.
    pub fn url_at(&self, authority: &str) -> String {
        let scheme = if self.service.secure { "https" } else { "http" };
        format!("{scheme}://{authority}/gptoss")
    }

    /// The models, as `/api/models` lists them.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn models(&self) -> io::Result<Vec<ModelInfo>> {
        self.service.model_infos().await
    }

    /// What was skipped or renamed among the paths, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        self.service.shelf.current().notes().to_vec()
    }

    /// Where the page comes from.
    pub fn page_source(&self) -> &PageSource {
        self.service.page.source()
    }

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
struct Accept {
    listeners: Vec<TcpListener>,
    lanes: Lanes,
    door: Arc<Door>,
    encrypt: Option<TlsAcceptor>,
    service: Arc<Service>,
    limits: Limits,
}

impl Accept {
    /// Accepts until `stopped` fires, or its sender is dropped.
    async fn run(self, mut stopped: oneshot::Receiver<()>) -> Stopped {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                _ = &mut stopped => break,
                accepted = self.next() => accepted,
            };
            match accepted {
                Ok((stream, Some(admission))) => {
                    let serve = self.serving(admission, graceful.watcher());
                    // A connection that cannot be served is closed by being dropped.
                    let _ = self.lanes.take(stream, serve);
                }
                Ok((stream, None)) => drop(stream),
                // Usually too many open files. Trying again at once would only burn the processor.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        drop(self.listeners);
        self.service.hashes.close();
        match timeout(self.limits.drain, graceful.shutdown()).await {
            Ok(()) => Stopped::Drained,
            Err(_) => {
                self.lanes.cut();
                // Their records are written as they end.
                self.door.wait_until_empty(self.limits.connections).await;
                Stopped::Cut
            }
        }
    }

    /// What is done with a connection on its thread.
    fn serving(&self, admission: Admission, watcher: Watcher) -> Serve {
        let (service, encrypt, limits) = (Arc::clone(&self.service), self.encrypt.clone(), self.limits);
        Box::new(move |stream| {
            Box::pin(async move {
                serve_connection(stream, encrypt, service, limits, watcher).await;
                drop(admission);
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
