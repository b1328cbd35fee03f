//! Listening, connections, and stopping.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::access::AccessLog;
use crate::catalogue::{Catalogue, CatalogueError, ModelInfo};
use crate::cors::OriginList;
use crate::host::{Host, HostList};
use crate::page::{Page, PageSource};
use crate::service::Service;
use crate::stall::StallGuard;

/// Port of a server that was not told one.
pub const DEFAULT_PORT: u16 = 8090;

/// What to serve, and how.
#[derive(Clone)]
pub struct Options {
    /// GGUF files, and folders with GGUF files below them. None: the bundled demo model.
    pub paths: Vec<PathBuf>,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Folder of a built page, to be served instead of the one compiled in.
    pub web: Option<PathBuf>,
    /// Origins, besides loopback ones, whose pages may read the answers: `scheme://host[:port]` or `*`.
    pub allow_origins: Vec<String>,
    /// Host names, besides loopback and the bound address, that the server answers to.
    pub allow_hosts: Vec<String>,
    /// Time and connection limits.
    pub limits: Limits,
    /// Called once per request; `None` for no log.
    pub log: Option<AccessLog>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            bind: Ipv4Addr::LOCALHOST.into(),
            port: DEFAULT_PORT,
            web: None,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            limits: Limits::default(),
            log: None,
        }
    }
}

/// How long and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A connection is closed if a request's headers are not whole this long after it was opened or last answered.
    pub header_read: Duration,
    /// A connection is closed if the client takes no byte of an answer for this long.
    pub write_stall: Duration,
    /// Answers under way have this long to finish when the server stops.
    pub drain: Duration,
    /// Connections at one time; others wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            connections: 64,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The models.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The folder with the page.
    #[error("cannot serve the page in {}: {source}", folder.display())]
    Page {
        /// The folder as given.
        folder: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// An origin that is none.
    #[error("{origin:?} is not an origin: expected scheme://host[:port] without a path or a slash at the end, or *")]
    Origin {
        /// The value as given.
        origin: String,
    },
    /// A host that is none.
    #[error("{host:?} is not a host: expected a name, an IPv4 address, or an IPv6 address in [brackets]")]
    Host {
        /// The value as given.
        host: String,
    },
    /// The port is taken, the address is not this machine's, or the like.
    #[error("cannot listen on {address}: {source}{}", bind_advice(source))]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn bind_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program uses that port, choose another with --port (0 takes a free one)",
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for the administrator, choose another with --port",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

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
    addr: SocketAddr,
    service: Arc<Service>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

/// Opens the models, binds, and serves in the background of the current tokio runtime. Files are opened on the calling
/// thread, which takes a moment where folders are large.
///
/// # Errors
/// A [`ServeError`] if an option is unusable, a path cannot be served, or the address cannot be bound.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub async fn serve(options: Options) -> Result<RunningServer, ServeError> {
    let address = SocketAddr::new(options.bind, options.port);
    let limits = options.limits;
    let service = Arc::new(build_service(options)?);
    let bind_error = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind_error)?;
    let addr = listener.local_addr().map_err(bind_error)?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(accept(listener, Arc::clone(&service), limits, stopped));
    Ok(RunningServer { addr, service, stop, task })
}

fn build_service(options: Options) -> Result<Service, ServeError> {
    let origins = OriginList::new(&options.allow_origins).map_err(|origin| ServeError::Origin { origin })?;
    let hosts =
        options.allow_hosts.iter().map(|host| Host::parse(host).ok_or_else(|| ServeError::Host { host: host.clone() }));
    let mut hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    hosts.push(Host::Address(options.bind));
    let page = match &options.web {
        None => Page::embedded(),
        Some(folder) => Page::read(folder).map_err(|source| ServeError::Page { folder: folder.clone(), source })?,
    };
    let catalogue = Catalogue::open(&options.paths)?;
    Ok(Service { hosts: HostList::new(hosts), origins, page, catalogue, log: options.log })
}

impl RunningServer {
    /// Address and port it listens on; the real port where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a person opens in a browser.
    pub fn page_url(&self) -> String {
        let host = if self.addr.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { self.addr.ip() };
        format!("http://{}/gptoss", SocketAddr::new(host, self.addr.port()))
    }

    /// The models, as `/api/models` lists them.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn models(&self) -> io::Result<Vec<ModelInfo>> {
        self.service.model_infos().await
    }

    /// What was skipped or renamed among the paths, one sentence each.
    pub fn notes(&self) -> &[String] {
        self.service.catalogue.notes()
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

/// Accepts until `stopped` fires, or its sender is dropped.
async fn accept(
    listener: TcpListener,
    service: Arc<Service>,
    limits: Limits,
    mut stopped: oneshot::Receiver<()>,
) -> Stopped {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = next_connection(&listener, &permits) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                let connection = graceful.watch(connection(stream, Arc::clone(&service), limits));
                connections.spawn(async move {
                    // An error here is the client's doing, or the body's, and the access record has told of it.
                    let _ = connection.await;
                    drop(permit);
                });
            }
            // Usually too many open files. Trying again at once would only burn the processor.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
    drop(listener);
    match timeout(limits.drain, graceful.shutdown()).await {
        Ok(()) => Stopped::Drained,
        Err(_) => {
            connections.shutdown().await;
            Stopped::Cut
        }
    }
}

async fn next_connection(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

fn connection(
    stream: TcpStream,
    service: Arc<Service>,
    limits: Limits,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    http1::Builder::new()
        // Without a timer hyper's header timeout does nothing.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(64)
        .max_buf_size(32 << 10)
        .serve_connection(TokioIo::new(StallGuard::new(stream, limits.write_stall)), answer)
}
