//! Starting, listening, and stopping.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use gptoss_finder::Links;
use serve_kit::access::Access;
use serve_kit::host::HostList;
use serve_kit::origin::OriginList;
use serve_kit::server::{Running, Stopped, address_of, is_exposed, listen, start};
use serve_kit::tls;
use serve_kit::token::{Token, random_secret};

use crate::catalogue::{ModelInfo, Shelf};
use crate::hashes::{HashQueue, HashStore};
use crate::lanes::Lanes;
use crate::options::{Options, ServeError};
use crate::page::{Page, PageSource};
use crate::plan::GRANTS;
use crate::service::{Service, is_taken};

/// A server that runs until it is shut down or dropped.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    service: Arc<Service>,
    running: Running,
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
    let addresses = listeners.iter().map(address_of).collect::<Result<Vec<_>, _>>()?;
    let encrypt = match &options.tls {
        None => None,
        Some(identity) => Some(tls::acceptor(identity, &tls::hosts(options.bind, &options.allow_hosts))?),
    };
    let limits = options.limits;
    let service = Arc::new(build_service(options, addresses[0].port())?);
    let lanes = Lanes::start().map_err(ServeError::Threads)?;
    let running = start(listeners, encrypt, limits, lanes, Arc::clone(&service));
    Ok(RunningServer { addresses, service, running })
}

/// A server that others can reach must say to which name it answers, or no browser but this machine's gets an answer;
/// and must ask for a secret, or everybody does.
fn check_exposure(options: &Options) -> Result<(), ServeError> {
    if options.token.as_ref().is_some_and(String::is_empty) {
        return Err(ServeError::EmptyToken);
    }
    match options.bind {
        Some(address) if is_exposed(address, &options.allow_hosts, options.token.is_some()) => {
            Err(ServeError::Exposed { address, suggestion: random_secret() })
        }
        _ => Ok(()),
    }
}

fn build_service(options: Options, port: u16) -> Result<Service, ServeError> {
    let origins = OriginList::new(&options.allow_origins, GRANTS).map_err(|origin| ServeError::Origin { origin })?;
    let hosts = HostList::of(&options.allow_hosts, options.bind).map_err(|host| ServeError::Host { host })?;
    let secure = options.tls.is_some();
    let page = Arc::new(match &options.web {
        None => Page::embedded(),
        Some(folder) => Page::read(folder).map_err(|source| ServeError::Page { folder: folder.clone(), source })?,
    });
    let names = Arc::clone(&page);
    let links = if options.follow_links { Links::Anywhere } else { Links::Inside };
    let shelf = Shelf::open(options.paths, links, Box::new(move |name| is_taken(&names, name)))?;
    Ok(Service {
        access: Access { hosts, secure },
        origins,
        token: options.token.map(|secret| Token::new(&secret, "gguf-serve", port)),
        isolate: options.isolate,
        page,
        shelf: Arc::new(shelf),
        hashes: Arc::new(HashQueue::new(HashStore::new(options.hash_cache))),
        log: options.log,
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
        let scheme = if self.service.access.secure { "https" } else { "http" };
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

    /// Stops accepting, lets answers under way finish within [`Limits::drain`](crate::Limits::drain), and returns when all is done.
    pub async fn shutdown(self) -> Stopped {
        self.running.shutdown().await
    }
}
