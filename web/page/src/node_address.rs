//! Addresses of nodes: `pylon://[KEY@]host[:port]`. Pure; `ui/tunnel_link` opens what they name.

use gptoss_protocol::TUNNEL_PATH;
use gptoss_protocol::options::NODE_SCHEME;
use gptoss_source::{AddressSpace, address_space};

/// The address at which a node listens that was told nothing else.
pub const DEFAULT: &str = "pylon://127.0.0.1:9899";

/// The port of an address that has none.
const DEFAULT_PORT: &str = "9899";

/// Where a node listens, and what it wants to see of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node's API key.
    pub key: Option<String>,
    /// Host and port.
    authority: String,
}

impl NodeAddress {
    /// Reads an address; `None` for all that is none, or has more than host, port and key.
    pub fn parse(text: &str) -> Option<Self> {
        let scheme = text.get(..NODE_SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(NODE_SCHEME))?;
        let rest = text[scheme.len()..].strip_suffix('/').unwrap_or(&text[scheme.len()..]);
        let (key, host) = match rest.rsplit_once('@') {
            Some((key, host)) => (Some(key.to_owned()).filter(|key| !key.is_empty()), host),
            None => (None, rest),
        };
        if host.is_empty() || host.starts_with(':') || host.contains(['/', '?', '#', ' ', '\\']) {
            return None;
        }
        // A colon within brackets is part of an IPv6 address.
        let behind_brackets = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
        let authority = match behind_brackets.split_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
            Some(_) => return None,
            None => format!("{host}:{DEFAULT_PORT}"),
        };
        Some(Self { key, authority })
    }

    /// The address without the key, which is nobody's business.
    pub fn public(&self) -> String {
        format!("{NODE_SCHEME}{}", self.authority)
    }

    /// The same place as an http(s) address. Browsers let an encrypted page go to this machine without encryption, and nowhere else.
    fn http(&self, page: &str) -> String {
        let plain = format!("http://{}", self.authority);
        let is_encrypted = page.starts_with("https:") && address_space(&plain) != AddressSpace::Loopback;
        if is_encrypted { format!("https://{}", self.authority) } else { plain }
    }

    /// What answers whoever wants to know whether the node is there, for the page at `page`.
    pub fn health_url(&self, page: &str) -> String {
        format!("{}/health", self.http(page))
    }

    /// The tunnel, for the page at `page`.
    pub fn tunnel_url(&self, page: &str) -> String {
        format!("{}{TUNNEL_PATH}", self.http(page).replacen("http", "ws", 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_host_port_and_key() {
        for (text, public, key) in [
            (DEFAULT, DEFAULT, None),
            ("pylon://node.lan", "pylon://node.lan:9899", None),
            ("PYLON://h:1/", "pylon://h:1", None),
            ("pylon://s@cret@h:1", "pylon://h:1", Some("s@cret")),
            ("pylon://@h", "pylon://h:9899", None),
            ("pylon://[::1]:7", "pylon://[::1]:7", None),
            ("pylon://[::1]", "pylon://[::1]:9899", None),
        ] {
            let address = NodeAddress::parse(text).expect(text);
            assert_eq!((address.public().as_str(), address.key.as_deref()), (public, key), "{text}");
        }
        for text in [
            "",
            "pylon",
            "pylon://",
            "pylon:h",
            "http://h:1",
            "pylon://h:x",
            "pylon://h/v1",
            "pylon://:1",
            "pylon://h:70000",
        ] {
            assert_eq!(NodeAddress::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_encrypted_page_goes_unencrypted_to_this_machine_only() {
        let url = |text: &str, page: &str| NodeAddress::parse(text).expect(text).tunnel_url(page);
        assert_eq!(url("pylon://127.0.0.1:1", "https://p.example/gptoss"), "ws://127.0.0.1:1/tunnel");
        assert_eq!(url("pylon://node.lan:1", "https://p.example/gptoss"), "wss://node.lan:1/tunnel");
        assert_eq!(url("pylon://node.lan:1", "http://node.lan/gptoss"), "ws://node.lan:1/tunnel");
        let health = NodeAddress::parse("pylon://k@h:1").expect("it is one").health_url("http://p/");
        assert_eq!(health, "http://h:1/health");
    }
}
