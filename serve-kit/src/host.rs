//! Which `Host` the server answers to.
//!
//! This is the defence against DNS rebinding: a page of a foreign site whose name suddenly resolves to 127.0.0.1 is
//! same-origin with this server as far as the browser can tell, so no list of origins would stop it. Its requests do
//! carry the foreign name in `Host`, though.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap};
use hyper::{StatusCode, Uri, Version};

/// What is expected where a host is not one.
pub const EXPECTED: &str = "a name, an IPv4 address, or an IPv6 address in [brackets]";

/// A host as it stands in a URL, without port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `1.2.3.4` or `[::1]`.
    Address(IpAddr),
    /// Lower case.
    Name(String),
}

impl Host {
    /// Parses `host`, `1.2.3.4` or `[::1]`, each with or without `:port`. `None` if malformed.
    pub fn parse(authority: &str) -> Option<Self> {
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
    pub fn is_loopback(&self) -> bool {
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
pub enum HostFault {
    /// Missing, given twice, or malformed.
    Malformed,
    /// A name this server does not answer to.
    Foreign,
}

impl HostFault {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Foreign => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "expected exactly one valid Host header",
            Self::Foreign => {
                "this server does not answer to that host name; start it with --allow-host NAME if it should"
            }
        })
    }
}

/// The hosts a server answers to: loopback, and those it was told.
#[derive(Debug, Clone)]
pub struct HostList {
    also: Vec<Host>,
}

impl HostList {
    /// Loopback, and these.
    pub fn new(also: Vec<Host>) -> Self {
        Self { also }
    }

    /// Loopback, these names, and the address that is listened on; a name that is none is returned as the error.
    pub fn of(names: &[String], bound: Option<IpAddr>) -> Result<Self, String> {
        let hosts = names.iter().map(|name| Host::parse(name).ok_or_else(|| name.clone()));
        let mut also = hosts.collect::<Result<Vec<_>, _>>()?;
        // 0.0.0.0 is no address that anybody uses to reach a server.
        also.extend(bound.filter(|address| !address.is_unspecified()).map(Host::Address));
        Ok(Self { also })
    }

    /// Whether the server answers to this host.
    pub fn holds(&self, host: &Host) -> bool {
        host.is_loopback() || self.also.contains(host)
    }

    /// Checks what a request is addressed to: the authority of its target where that has one (always in HTTP/2, and in
    /// HTTP/1.1 where a client sent an absolute target, which outranks `Host`: RFC 9112, 3.2.2), else its `Host`. A
    /// browser never sends an absolute target to a server that is no proxy, so rebinding cannot use one.
    pub fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), HostFault> {
        let mut values = headers.get_all(HOST).iter();
        let host = match (values.next(), values.next()) {
            (Some(host), None) => Some(host.to_str().ok().and_then(Host::parse).ok_or(HostFault::Malformed)?),
            // HTTP/2 has the authority instead (RFC 9113, 8.3.1).
            (None, _) if version == Version::HTTP_2 => None,
            _ => return Err(HostFault::Malformed),
        };
        let target = uri.authority().map(|authority| Host::parse(authority.as_str()).ok_or(HostFault::Malformed));
        let addressed = target.transpose()?.or(host).ok_or(HostFault::Malformed)?;
        if self.holds(&addressed) { Ok(()) } else { Err(HostFault::Foreign) }
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
        HostList::new(also.to_vec()).check(Version::HTTP_11, &Uri::from_static("/"), &headers)
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
    fn exactly_one_header_and_an_absolute_target_outranks_it() {
        let list = HostList::new(vec![]);
        let check =
            |uri: &'static str, headers: &HeaderMap| list.check(Version::HTTP_11, &Uri::from_static(uri), headers);
        let mut headers = HeaderMap::new();
        assert_eq!(check("/x", &headers), Err(HostFault::Malformed));
        assert_eq!(check("http://localhost/x", &headers), Err(HostFault::Malformed), "even then");
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(check("/x", &headers), Ok(()));
        assert_eq!(check("http://127.0.0.1:80/x", &headers), Ok(()));
        assert_eq!(check("http://example.com/x", &headers), Err(HostFault::Foreign));
        assert_eq!(check("http://user@localhost/x", &headers), Err(HostFault::Malformed));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(check("/x", &headers), Err(HostFault::Malformed));
        headers.insert(HOST, HeaderValue::from_static("example.com"));
        assert_eq!(check("/x", &headers), Err(HostFault::Foreign));
        assert_eq!(check("http://localhost/x", &headers), Ok(()));
    }

    #[test]
    fn http_2_has_an_authority_instead() {
        let list = HostList::new(vec![]);
        let check = |uri: &'static str| list.check(Version::HTTP_2, &Uri::from_static(uri), &HeaderMap::new());
        assert_eq!(check("https://localhost:8090/x"), Ok(()));
        assert_eq!(check("https://example.com/x"), Err(HostFault::Foreign));
        assert_eq!(check("/x"), Err(HostFault::Malformed));
    }
}
