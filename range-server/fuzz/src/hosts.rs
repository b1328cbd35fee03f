//! A second opinion on hosts. What it must never do is take a foreign name for a known one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Version;
use hyper::header::{HOST, HeaderMap, ORIGIN};
use serve_kit::host::{Host, HostFault, HostList};

use crate::input::{Case, Server};

pub fn check(case: &Case) {
    for value in case.headers.get_all(HOST).iter().chain(case.headers.get_all(ORIGIN)) {
        if let Ok(text) = value.to_str() {
            check_parse(text);
        }
    }
    if let Some(authority) = case.uri.authority() {
        check_parse(authority.as_str());
    }
    let told = case.server.hosts.iter().filter_map(|host| Host::parse(host)).collect();
    let found = HostList::new(told).check(case.version, &case.uri, &case.headers);
    assert_eq!(found, expected(case));
}

/// A host and its port, if there is one, say the same as the host alone, and with any other port.
fn check_parse(text: &str) {
    let found = Host::parse(text);
    assert_eq!(found, parse(text), "{text:?}");
    assert_eq!(found, Host::parse(&text.to_ascii_uppercase()), "{text:?} in upper case");
    let Some(host) = found else { return };
    assert_eq!(host.is_loopback(), is_loopback(&host), "{text:?}");
    let (alone, _) = split_port(text);
    for port in ["", ":", ":0", ":1", ":8090", ":00080", ":65535"] {
        assert_eq!(Host::parse(&format!("{alone}{port}")).as_ref(), Some(&host), "{alone}{port}");
    }
    for port in [":65536", ":99999999999999999999", ":-1", ":+1", ":8a", ": 80", ":80:80", ".:", "@", "/"] {
        let other = Host::parse(&format!("{alone}{port}"));
        assert_ne!(other.as_ref(), Some(&host), "{alone}{port}");
    }
    let written = match &host {
        Host::Address(IpAddr::V4(address)) => address.to_string(),
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        Host::Name(name) => name.clone(),
    };
    assert_eq!(Host::parse(&written), Some(host), "{written}");
}

/// Expects exactly one valid `Host`, or none in HTTP/2; and the host of the target, if it has one, otherwise that of
/// the header, must be loopback or known.
fn expected(case: &Case) -> Result<(), HostFault> {
    let in_header = only_host(&case.headers);
    if matches!(in_header, In::Many | In::Unreadable)
        || matches!(in_header, In::None if case.version != Version::HTTP_2)
    {
        return Err(HostFault::Malformed);
    }
    let addressed = match (case.uri.authority(), in_header) {
        (Some(authority), _) => parse(authority.as_str()),
        (None, In::One(host)) => Some(host),
        (None, _) => None,
    };
    match addressed {
        None => Err(HostFault::Malformed),
        Some(host) if is_known(&host, &case.server) => Ok(()),
        Some(_) => Err(HostFault::Foreign),
    }
}

/// What a request has in `Host`.
enum In {
    None,
    One(Host),
    Many,
    Unreadable,
}

fn only_host(headers: &HeaderMap) -> In {
    let values: Vec<_> = headers.get_all(HOST).iter().collect();
    match values[..] {
        [] => In::None,
        [value] => match std::str::from_utf8(value.as_bytes()).ok().and_then(parse) {
            Some(host) => In::One(host),
            None => In::Unreadable,
        },
        _ => In::Many,
    }
}

fn is_known(host: &Host, server: &Server) -> bool {
    is_loopback(host) || server.hosts.iter().any(|known| parse(known).as_ref() == Some(host))
}

pub fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Address(IpAddr::V4(address)) => address.octets()[0] == 127,
        Host::Address(IpAddr::V6(address)) => address.segments() == [0, 0, 0, 0, 0, 0, 0, 1],
        Host::Name(name) => name == "localhost",
    }
}

/// Parses a host with or without a port, byte by byte.
pub fn parse(text: &str) -> Option<Host> {
    let (host, port) = split_port(text);
    if !is_port(port) {
        return None;
    }
    if let Some(inner) = host.strip_prefix('[') {
        // The spelling of an IPv6 address is left to the standard library here, too.
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Address(IpAddr::V6(address)));
    }
    if let Some(address) = ipv4(host) {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    for b in host.bytes() {
        if !matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_') {
            return None;
        }
    }
    if host.is_empty() { None } else { Some(Host::Name(host.to_ascii_lowercase())) }
}

/// The host, and the rest with the colon.
fn split_port(text: &str) -> (&str, &str) {
    let end = if text.starts_with('[') { text.find(']').map(|at| at + 1) } else { text.find(':') };
    text.split_at(end.unwrap_or(text.len()))
}

/// Whether the text is empty, or a colon with a number up to 65535 or nothing.
fn is_port(text: &str) -> bool {
    let [colon, digits @ ..] = text.as_bytes() else { return true };
    let mut number = 0_u32;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return false;
        }
        number = (number * 10 + u32::from(digit - b'0')).min(65536);
    }
    *colon == b':' && number < 65536
}

/// Parses four numbers up to 255, none with a leading zero, because some programs take those for octal.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let mut octets = [0; 4];
    if parts.len() != octets.len() {
        return None;
    }
    for (octet, part) in octets.iter_mut().zip(parts) {
        let plain = !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
        if !plain || (part.len() > 1 && part.starts_with('0')) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    Some(octets.into())
}
