//! What a server is told, and what is wrong with it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serve_kit::limits::Limits;
use serve_kit::server::{BindFault, bind_advice};
use serve_kit::tls::{TlsError, TlsIdentity};
use serve_kit::{host, origin};
use thiserror::Error;

use crate::access::AccessLog;
use crate::catalogue::CatalogueError;

/// Port of a server that was not told one.
pub const DEFAULT_PORT: u16 = 8090;

/// What to serve, and how.
#[derive(Clone)]
pub struct Options {
    /// GGUF files, and folders with GGUF files below them. None: the bundled demo model.
    pub paths: Vec<PathBuf>,
    /// Whether links in folders may lead out of them, and to folders.
    pub follow_links: bool,
    /// Address to listen on; `None` for this machine alone, on 127.0.0.1 and, where there is one, ::1.
    pub bind: Option<IpAddr>,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Folder of a built page, to be served instead of the one compiled in.
    pub web: Option<PathBuf>,
    /// Origins, besides loopback ones, whose pages may read the answers: `scheme://host[:port]` or `*`.
    pub allow_origins: Vec<String>,
    /// Host names, besides loopback and the bound address, that the server answers to.
    pub allow_hosts: Vec<String>,
    /// A secret that every request has to bring.
    pub token: Option<String>,
    /// Whether the page is cross-origin isolated.
    pub isolate: bool,
    /// HTTPS, and with it HTTP/2.
    pub tls: Option<TlsIdentity>,
    /// Folder that keeps computed hashes over restarts; without one they are computed anew.
    pub hash_cache: Option<PathBuf>,
    /// Time and connection limits.
    pub limits: Limits,
    /// Called once per request; `None` for no log.
    pub log: Option<AccessLog>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            follow_links: false,
            bind: None,
            port: DEFAULT_PORT,
            web: None,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            token: None,
            isolate: false,
            tls: None,
            hash_cache: None,
            limits: Limits::default(),
            log: None,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The models cannot be served.
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
    #[error("--allow-origin: {origin:?} is not an origin: expected {}", origin::EXPECTED)]
    Origin {
        /// The value as given.
        origin: String,
    },
    /// A host that is none.
    #[error("--allow-host: {host:?} is not a host: expected {}", host::EXPECTED)]
    Host {
        /// The value as given.
        host: String,
    },
    /// A token that would protect nothing.
    #[error("--token: the token is empty")]
    EmptyToken,
    /// Others could reach the server, and nothing says who may.
    #[error(
        "others can reach {address}: say under which name with --allow-host NAME, and who may read with --token SECRET \
         (a fresh one: {suggestion})"
    )]
    Exposed {
        /// The address to listen on.
        address: IpAddr,
        /// A token that nobody knows yet.
        suggestion: String,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no threads.
    #[error("cannot start the threads that serve: {0}")]
    Threads(io::Error),
    /// The port is taken, the address is not this machine's, or the like.
    #[error("cannot listen on {address}: {source}{}", bind_advice(source, "--port"))]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl From<BindFault> for ServeError {
    fn from(BindFault { address, source }: BindFault) -> Self {
        Self::Bind { address, source }
    }
}
