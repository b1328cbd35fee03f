//! From text to numbers, bytes, dates and addresses.

use crate::{Allowed, is_date};

/// Scheme of addresses that name a file which was picked earlier and is cached in the browser.
const CACHED: &str = "cached:";

/// What [`parse_date`] expects.
pub(super) const DATE_EXPECTED: &str = "a date as YYYY-MM-DD, today or none";
/// What addresses of nodes begin with.
pub const NODE_SCHEME: &str = "pylon://";
/// What addresses of nodes begin with that are to be reached over TLS.
pub const NODE_TLS_SCHEME: &str = "pylons://";

/// What the address of a node is like.
pub const NODE_EXPECTED: &str =
    "pylon://host:port, the address of a node that was started with `pylon api`, or pylons://host:port with --tls";

/// What [`check_address`] expects of the address of a file.
const ADDRESS_EXPECTED: &str = "an http(s) address, or a path on this host that begins with \"/\"";

/// Like `str::parse`, without the leading `+` that it accepts.
pub(super) fn digits(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Parses a number in plain decimals within the allowed range.
pub(super) fn allowed(text: &str, allowed: Allowed) -> Option<f32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse::<f32>().ok().filter(|value| plain && value.is_finite() && allowed.holds(*value))
}

/// The date that the model is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DateChoice {
    /// `YYYY-MM-DD`.
    Day(String),
    Today,
    None,
}

impl DateChoice {
    /// The date as `YYYY-MM-DD`, given today's; `None` if the model is told no date.
    pub(super) fn resolve(self, today: &str) -> Option<String> {
        match self {
            Self::Day(day) => Some(day),
            Self::Today => Some(today.to_owned()),
            Self::None => None,
        }
    }
}

/// `YYYY-MM-DD`, `today`, or `none` to leave the date out of the system message.
pub fn parse_date(text: &str) -> Result<DateChoice, String> {
    match text {
        "none" => Ok(DateChoice::None),
        "today" => Ok(DateChoice::Today),
        _ if is_date(text) => Ok(DateChoice::Day(text.to_owned())),
        _ => Err(DATE_EXPECTED.to_owned()),
    }
}

/// What [`check_address`] expects.
pub(super) fn address_expected(node: bool) -> String {
    if node { format!("{ADDRESS_EXPECTED}; or {NODE_EXPECTED}") } else { ADDRESS_EXPECTED.to_owned() }
}

/// An absolute http(s) URL, the name of a picked and cached file, a path that the page resolves against its own address, or, where
/// `node` says so, that of a node. Whether there is a GGUF file behind it is not known here.
pub(super) fn check_address(text: &str, node: bool) -> Result<(), String> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") if text.contains("://") => Ok(()),
        Some("cached") if text.len() > CACHED.len() => Ok(()),
        Some("file") => {
            Err("an http(s) address: a page cannot open file: addresses, use Pick file or drop the file here"
                .to_owned())
        }
        // Whether there is more than host and port is looked at where it is opened.
        Some(scheme @ ("pylon" | "pylons")) if node => {
            let behind = text[scheme.len()..].strip_prefix("://");
            if behind.is_some_and(|behind| !behind.is_empty()) { Ok(()) } else { Err(NODE_EXPECTED.to_owned()) }
        }
        _ if node && ["pylon", "pylons"].iter().any(|word| text.eq_ignore_ascii_case(word)) => {
            Err(NODE_EXPECTED.to_owned())
        }
        _ if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") => Ok(()),
        _ => Err(address_expected(node)),
    }
}
