//! Addresses of nodes: `pylon://[KEY@]host[:port]`, or `pylons://…` over TLS. Pure; `ui/tunnel_link` opens what they name.

use gptoss_protocol::options::{NODE_EXPECTED, NODE_SCHEME, NODE_TLS_SCHEME};
use gptoss_protocol::{InputError, OptionId, TUNNEL_PATH};
use gptoss_source::{AddressSpace, address_space};

use super::inputs;

/// The address at which a node listens that was told nothing else.
pub const DEFAULT: &str = "pylon://127.0.0.1:9899";

/// The port of an address that has none.
const DEFAULT_PORT: &str = "9899";

/// Where a node listens, and what it wants to see of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node's API key.
    pub key: Option<String>,
    /// Whether the node is reached over TLS, wherever the page comes from.
    tls: bool,
    /// Host and port.
    authority: String,
}

/// Whether it is meant as the address of a node, and what stands behind the scheme.
fn behind_scheme(text: &str) -> Option<(bool, &str)> {
    [(false, NODE_SCHEME), (true, NODE_TLS_SCHEME)].into_iter().find_map(|(tls, scheme)| {
        let begin = text.get(..scheme.len()).filter(|begin| begin.eq_ignore_ascii_case(scheme))?;
        Some((tls, &text[begin.len()..]))
    })
}

/// Whether an address is meant as that of a node, be it a usable one or not.
pub fn is_meant(text: &str) -> bool {
    behind_scheme(text).is_some()
}

/// An address as it may be shown and recorded: without what stands between `//` and the last `@`, where keys and passwords are.
pub fn without_key(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.find("//").map_or("", |at| &before[..at + 2]);
    format!("{scheme}…@{host}")
}

/// What is said of an address that is none of a node.
pub fn refusal(text: &str) -> InputError {
    let message = format!("The address \"{}\" is none of a node: expected {NODE_EXPECTED}.", without_key(text));
    InputError { field: Some(OptionId::Gguf), message }
}

/// The node that USE PYLON uses where `text` stands in the address field: the one that it names, or that of this machine where the
/// field is empty or names the file of a model.
///
/// # Errors
/// The text names neither: another node than the one that was meant must not get the questions.
pub fn to_use(text: &str) -> Result<&str, InputError> {
    if NodeAddress::parse(text).is_some() {
        return Ok(text);
    }
    if text.is_empty() || is_file(text) { Ok(DEFAULT) } else { Err(refusal(text)) }
}

/// Whether it is the address of a model's file: `http://host:9899` could as well be meant as that of a node.
fn is_file(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let names_file = !text.contains("://") || path.to_ascii_lowercase().ends_with(".gguf");
    names_file && !is_meant(text) && inputs::check(OptionId::Gguf, text).is_ok()
}

impl NodeAddress {
    /// Reads an address; `None` for all that is none, or has more than host, port and key.
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, behind) = behind_scheme(text)?;
        let rest = behind.strip_suffix('/').unwrap_or(behind);
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
        Some(Self { key, tls, authority })
    }

    /// The address without the key, which is nobody's business.
    pub fn public(&self) -> String {
        format!("{}{}", if self.tls { NODE_TLS_SCHEME } else { NODE_SCHEME }, self.authority)
    }

    /// The same place as an http(s) address. Browsers let an encrypted page go to this machine without encryption, and nowhere else.
    fn http(&self, page: &str) -> String {
        let plain = format!("http://{}", self.authority);
        let needs_encryption = page.starts_with("https:") && address_space(&plain) != AddressSpace::Loopback;
        if self.tls || needs_encryption { format!("https://{}", self.authority) } else { plain }
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
            ("pylons://k@node.lan", "pylons://node.lan:9899", Some("k")),
            ("PYLONS://h:1", "pylons://h:1", None),
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
            "pylons://",
            "pylons://h/v1",
            "pylonss://h",
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
        for page in ["https://p.example/gptoss", "http://127.0.0.1:8090/gptoss"] {
            assert_eq!(
                url("pylons://127.0.0.1:1", page),
                "wss://127.0.0.1:1/tunnel",
                "a node with --tls on this machine"
            );
            assert_eq!(url("pylons://k@node.lan:1", page), "wss://node.lan:1/tunnel");
        }
        let health = NodeAddress::parse("pylons://k@h:1").expect("it is one").health_url("http://p/");
        assert_eq!(health, "https://h:1/health");
        let health = NodeAddress::parse("pylon://k@h:1").expect("it is one").health_url("http://p/");
        assert_eq!(health, "http://h:1/health");
    }

    #[test]
    fn use_pylon_takes_no_other_node_than_the_one_that_is_named() {
        for text in ["pylon://gpubox.lan:9899", "pylons://k@gpubox.lan"] {
            assert_eq!(to_use(text), Ok(text));
        }
        for text in ["", "/models/a/a.gguf", "https://h.example/m/a.GGUF?download=true", "cached:a.gguf"] {
            assert_eq!(to_use(text), Ok(DEFAULT), "{text}");
        }
        for text in [
            "gpubox.lan:9899",
            "pylon://gpubox.lan:9899/v1",
            "pylon://gpubox.lan:99999",
            "pylons://",
            "pylon://gpubox.lan/m.gguf",
            "ws://gpubox.lan:9899",
            "http://gpubox.lan:9899",
            "http://gpubox.lan:9899/v1",
            "pylon",
        ] {
            let refused = to_use(text).expect_err(text);
            let begin = format!("The address \"{text}\" is none of a node: expected pylon://host:port");
            assert!(refused.message.starts_with(&begin), "{}", refused.message);
            assert_eq!(refused.field, Some(OptionId::Gguf));
        }
    }

    #[test]
    fn what_is_said_of_an_address_has_no_key() {
        for (text, shown) in [
            ("pylon://s3cretKEY@gpubox.lan:9899/v1", "pylon://…@gpubox.lan:9899/v1"),
            ("ws://s3cretKEY@h", "ws://…@h"),
            ("pylons://s3cretKEY@x@h:x", "pylons://…@h:x"),
            ("pylon:s3cretKEY@h", "…@h"),
            ("s3cretKEY@h:1", "…@h:1"),
            ("pylon://h/v1", "pylon://h/v1"),
        ] {
            assert_eq!(without_key(text), shown);
            let said = refusal(text).message;
            assert!(!said.contains("s3cretKEY") && said.contains(shown), "{said}");
            if let Err(refused) = inputs::check(OptionId::Gguf, text) {
                assert!(!refused.message.contains("s3cretKEY"), "{}", refused.message);
            }
        }
        assert!(inputs::check(OptionId::Gguf, "s3cretKEY@h:1").is_err(), "the check has something to refuse");
    }
}
