//! Where a server is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// What an address is to look like, to go after "expected".
const EXPECTED: &str = "http://HOST:PORT, with or without /v1";

/// The address of a server: `http://host:port`, with or without a path before `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
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
        match (uri.scheme_str(), uri.host(), uri.query()) {
            (Some("https"), ..) => {
                Err(wrong(&format!("{EXPECTED}: TLS is not spoken, so use a tunnel or a proxy here")))
            }
            (Some("http"), Some(host), None) if !host.is_empty() => {
                let path = uri.path().trim_end_matches('/');
                let path = path.strip_suffix("/v1").unwrap_or(path);
                Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(80), path: path.to_owned() })
            }
            _ => Err(wrong(EXPECTED)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
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
        ] {
            let address = of(text).expect(text);
            assert_eq!((address.to_string().as_str(), address.path_of("/health").as_str()), (whole, path));
        }
        assert_eq!(of("http://[::1]:9").expect("an address").host(), "::1");
        for (text, word) in [
            ("https://vllm:8000", "TLS"),
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
