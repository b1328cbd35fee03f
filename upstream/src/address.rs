//! Where a server is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// What an address is to look like, to go after "expected".
const EXPECTED: &str = "http://HOST:PORT or https://HOST:PORT, with or without /v1";

/// The address of a server: `http://host:port` or `https://host:port`, with or without a path before `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    is_encrypted: bool,
    host: String,
    port: u16,
    /// What comes before `/v1` and `/health`.
    path: String,
}

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream is {got:?}, expected {expected}")]
pub struct WrongAddress {
    /// What was given.
    pub got: String,
    /// What would do.
    pub expected: String,
}

impl Address {
    /// Whether connections are encrypted: `https`.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The host, for a socket.
    pub(crate) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the header `Host` says.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A path of the server.
    pub(crate) fn path_of(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }
}

impl FromStr for Address {
    type Err = WrongAddress;

    fn from_str(text: &str) -> Result<Self, WrongAddress> {
        let wrong = |expected: &str| WrongAddress { got: text.to_owned(), expected: expected.to_owned() };
        let uri: Uri = text.parse().map_err(|_| wrong(EXPECTED))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong(&format!("{EXPECTED}: a user and a password are not sent")));
        }
        let (is_encrypted, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong(EXPECTED)),
        };
        match (uri.host(), uri.query()) {
            (Some(host), None) if !host.is_empty() => {
                let path = uri.path().trim_end_matches('/');
                let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
                Ok(Self { is_encrypted, host: host.to_owned(), port: uri.port_u16().unwrap_or(usual_port), path })
            }
            _ => Err(wrong(EXPECTED)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_its_path() {
        let of = |text: &str| text.parse::<Address>();
        for (text, whole, path) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "/health"),
            ("http://vllm:8000/v1", "http://vllm:8000", "/health"),
            ("http://vllm/v1/", "http://vllm:80", "/health"),
            ("http://[::1]:9/llm/v1", "http://[::1]:9/llm", "/llm/health"),
            ("https://models.example/v1", "https://models.example:443", "/health"),
        ] {
            let address = of(text).expect(text);
            assert_eq!((address.to_string().as_str(), address.path_of("/health").as_str()), (whole, path));
        }
        assert_eq!(of("http://[::1]:9").expect("an address").host(), "::1");
        for (text, word) in [
            ("ftp://vllm:8000", "http://HOST:PORT or https://HOST:PORT"),
            ("vllm:8000", "http://HOST:PORT"),
            ("/v1", "http://HOST:PORT"),
            ("http://vllm/v1?a=b", "http://HOST:PORT"),
            ("http://user:secret@vllm:8000", "password"),
            ("", "http://HOST:PORT"),
        ] {
            let error = of(text).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
    }
}
