//! Which `Host` the server answers to.
//!
//! This is the defence against DNS rebinding: a page of a foreign site whose name suddenly resolves to 127.0.0.1 is
//! same-origin with this server as far as the browser can tell, so no list of origins would stop it. Its requests do
//! carry the foreign name in `Host`, though.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap};
use hyper::{StatusCode, Uri};

/// A host as it stands in a URL, without port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    /// Lower case.
    Name(String),
}

impl Host {
    /// Parses `host`, `1.2.3.4` or `[::1]`, each with or without `:port`. `None` if malformed.
    pub(crate) fn parse(authority: &str) -> Option<Self> {
        if let Some(rest) = authority.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return port_ok.then(|| address.parse::<Ipv6Addr>().ok())?.map(|address| Self::Address(address.into()));
        }
        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        let name_ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !name_ok || !is_port(port) {
            return None;
        }
        let address = name.parse::<Ipv4Addr>().map(|address| Self::Address(address.into()));
        Some(address.unwrap_or_else(|_| Self::Name(name.to_ascii_lowercase())))
    }

    /// Whether this names the machine itself, whatever DNS says.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

/// An empty port is a legal way to say "the default one".
fn is_port(text: &str) -> bool {
    text.is_empty() || (text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

/// Why a request is refused for its `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostFault {
    /// Missing, given twice, or malformed.
    Malformed,
    /// A name this server does not answer to.
    Foreign,
}

impl HostFault {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Foreign => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "expected exactly one valid Host header\n",
            Self::Foreign => {
                "this server does not answer to that host name; start it with --allow-host NAME if it should\n"
            }
        })
    }
}

/// The hosts a server answers to: loopback, and those it was told.
#[derive(Debug, Clone)]
pub(crate) struct HostList {
    also: Vec<Host>,
}

impl HostList {
    pub(crate) fn new(also: Vec<Host>) -> Self {
        Self { also }
    }

    /// Checks the `Host` header, and the target's authority where a client sent an absolute one, which then decides
    /// (RFC 9112, 3.2.2).
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), HostFault> {
        let mut values = headers.get_all(HOST).iter();
        let (Some(host), None) = (values.next(), values.next()) else { return Err(HostFault::Malformed) };
        self.check_one(host.to_str().map_err(|_| HostFault::Malformed)?)?;
        uri.authority().map_or(Ok(()), |authority| self.check_one(authority.as_str()))
    }

    fn check_one(&self, authority: &str) -> Result<(), HostFault> {
        let host = Host::parse(authority).ok_or(HostFault::Malformed)?;
        if host.is_loopback() || self.also.contains(&host) { Ok(()) } else { Err(HostFault::Foreign) }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn check(host: &str) -> Result<(), HostFault> {
        let also = ["models.lan", "192.168.1.5", "[fe80::1]"].map(|name| Host::parse(name).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        HostList::new(also.to_vec()).check(&Uri::from_static("/"), &headers)
    }

    #[test]
    fn table() {
        for host in [
            "localhost",
            "LOCALHOST:8090",
            "localhost:",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.1.2.3",
            "[::1]",
            "[::1]:8090",
            "[0:0:0:0:0:0:0:1]",
            "models.lan",
            "Models.LAN:80",
            "192.168.1.5:8090",
            "[fe80::1]:9",
        ] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "localhost.",
            "127.0.0.1.example.com",
            "127.1",
            "0x7f.0.0.1",
            "192.168.1.6",
            "0.0.0.0",
            "[::2]",
            "[::ffff:8.8.8.8]",
        ] {
            assert_eq!(check(host), Err(HostFault::Foreign), "{host}");
        }
        for host in [
            "",
            ":80",
            "localhost:99999",
            "localhost:8a",
            "localhost:-1",
            "[::1",
            "[::1]x",
            "::1",
            "[localhost]",
            "user@localhost",
            "localhost/x",
            "local host",
            "localhost:80:80",
            "[::1]:99999",
            "a,b",
        ] {
            assert_eq!(check(host), Err(HostFault::Malformed), "{host}");
        }
    }

    #[test]
    fn exactly_one_header_and_the_absolute_target_counts() {
        let list = HostList::new(vec![]);
        let path = Uri::from_static("/x");
        let mut headers = HeaderMap::new();
        assert_eq!(list.check(&path, &headers), Err(HostFault::Malformed));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(list.check(&path, &headers), Ok(()));
        assert_eq!(list.check(&Uri::from_static("http://127.0.0.1:80/x"), &headers), Ok(()));
        assert_eq!(list.check(&Uri::from_static("http://example.com/x"), &headers), Err(HostFault::Foreign));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(list.check(&path, &headers), Err(HostFault::Malformed));
    }
}
