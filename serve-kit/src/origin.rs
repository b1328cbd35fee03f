//! Which pages of other origins may read the answers.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, VARY,
};

use crate::host::{Host, HostList};

/// What is expected where an origin is not one.
pub const EXPECTED: &str = "scheme://host[:port] without a path or a slash at the end, or *";

const PREFLIGHT_SECONDS: &str = "600";

/// What pages of allowed origins may do, as values of headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grants {
    /// Methods that they may use.
    pub methods: &'static str,
    /// Request headers that they may set.
    pub request_headers: &'static str,
    /// Response headers that they may read, beside those that a browser always shows.
    pub response_headers: &'static str,
}

/// The origins whose pages may read: loopback ones on any port, and those the server was told.
#[derive(Debug, Clone)]
pub struct OriginList {
    any: bool,
    also: Vec<String>,
    hosts: HostList,
    grants: Grants,
}

impl OriginList {
    /// Makes a list from `*` or `scheme://host[:port]` values; an unusable one is returned as the error.
    pub fn new(origins: &[String], grants: Grants) -> Result<Self, String> {
        let any = origins.iter().any(|origin| origin == "*");
        let listed = origins.iter().filter(|origin| *origin != "*");
        let also = listed.map(|origin| match split(origin) {
            Some(_) => Ok(origin.to_ascii_lowercase()),
            None => Err(origin.clone()),
        });
        Ok(Self { any, also: also.collect::<Result<_, _>>()?, hosts: HostList::new(Vec::new()), grants })
    }

    /// Lets pages read, too, that came from these hosts, on any port.
    #[must_use]
    pub fn and_of(self, hosts: HostList) -> Self {
        Self { hosts, ..self }
    }

    /// Whether pages of this origin may read: false, too, if it is no origin.
    pub fn allows(&self, origin: &str) -> bool {
        self.any || self.lists(origin)
    }

    fn lists(&self, origin: &str) -> bool {
        let of_host =
            split(origin).is_some_and(|(scheme, host)| matches!(scheme, "http" | "https") && self.hosts.holds(&host));
        of_host || self.also.contains(&origin.to_ascii_lowercase())
    }

    /// Adds what a browser needs to see on any answer, good or bad, to a request with these headers.
    pub fn annotate(&self, request: &HeaderMap, response: &mut HeaderMap) {
        let allowed =
            if self.any { Some(HeaderValue::from_static("*")) } else { self.allowed_origin(request).cloned() };
        if !self.any {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = allowed {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(self.grants.response_headers));
        }
    }

    /// Adds the answer to a preflight, if the request is one and its origin may read.
    pub fn preflight(&self, request: &HeaderMap, response: &mut HeaderMap) {
        const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
        const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
        if !request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) || !(self.any || self.allowed_origin(request).is_some())
        {
            return;
        }
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(self.grants.methods));
        response.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(self.grants.request_headers));
        response.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
        if request.contains_key(ASKS_PRIVATE) {
            response.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
        }
    }

    fn allowed_origin<'r>(&self, request: &'r HeaderMap) -> Option<&'r HeaderValue> {
        request.get(ORIGIN).filter(|origin| origin.to_str().is_ok_and(|origin| self.lists(origin)))
    }
}

/// Scheme and host of `scheme://host[:port]`; `None` for anything else, such as `null` or a URL with a path.
fn split(origin: &str) -> Option<(&str, Host)> {
    let (scheme, authority) = origin.split_once("://")?;
    let scheme_ok = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    scheme_ok.then(|| Host::parse(authority))?.map(|host| (scheme, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANTS: Grants = Grants { methods: "GET", request_headers: "range", response_headers: "ETag" };

    #[test]
    fn loopback_origins_on_any_port_and_listed_ones() {
        let list = OriginList::new(&["https://example.com".into()], GRANTS).unwrap();
        for origin in [
            "http://localhost:8080",
            "http://127.0.0.1:3000",
            "https://localhost",
            "http://[::1]:9",
            "https://example.com",
        ] {
            assert!(list.allows(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://example.com",
            "https://example.com:444",
            "https://www.example.com",
            "file://",
            "http://localhost.example.com",
            "http://localhost:8080/",
            "chrome-extension://localhost",
            "localhost",
            "http://localhost@example.com",
        ] {
            assert!(!list.allows(origin), "{origin}");
        }
    }

    #[test]
    fn pages_of_hosts_that_are_answered_to() {
        let hosts = HostList::of(&["models.lan".into()], None).unwrap();
        let list = OriginList::new(&[], GRANTS).unwrap().and_of(hosts);
        for origin in ["https://models.lan", "http://models.lan:3000", "http://localhost:1"] {
            assert!(list.allows(origin), "{origin}");
        }
        for origin in ["ftp://models.lan", "https://www.models.lan", "https://example.com", "null"] {
            assert!(!list.allows(origin), "{origin}");
        }
    }

    #[test]
    fn unusable_origins_are_named() {
        for bad in ["example.com", "https://example.com/", "https://", "://x"] {
            assert_eq!(OriginList::new(&["*".into(), bad.into()], GRANTS).unwrap_err(), bad);
        }
    }
}
