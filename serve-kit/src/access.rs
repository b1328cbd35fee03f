//! What every request is checked for first: that it is meant for this server.

use std::fmt;

use hyper::{Request, StatusCode};

use crate::host::{HostFault, HostList};

/// How the server is addressed.
#[derive(Debug, Clone)]
pub struct Access {
    /// Hosts that it answers to.
    pub hosts: HostList,
    /// Whether connections are encrypted.
    pub secure: bool,
}

/// Why a request is not meant for this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdirected {
    /// Its host.
    Host(HostFault),
    /// The scheme of its target, which is not this one.
    Scheme(&'static str),
}

impl Access {
    /// Checks host and scheme.
    ///
    /// # Errors
    /// The request is not meant for this server.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Misdirected> {
        self.hosts.check(request.version(), request.uri(), request.headers()).map_err(Misdirected::Host)?;
        // What is asked for as secure must not be answered over a connection that is not, nor the other way round
        // (RFC 9110, 7.4).
        let scheme = if self.secure { "https" } else { "http" };
        match request.uri().scheme_str() {
            Some(asked) if asked != scheme => Err(Misdirected::Scheme(scheme)),
            _ => Ok(()),
        }
    }
}

impl Misdirected {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Host(fault) => fault.status(),
            Self::Scheme(_) => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

impl fmt::Display for Misdirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(fault) => fault.fmt(f),
            Self::Scheme(scheme) => write!(f, "this server answers {scheme} only"),
        }
    }
}
