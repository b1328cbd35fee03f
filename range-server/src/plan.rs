//! What to answer to a request for a representation: a pure function of method, headers and facts about the file.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

use serve_kit::origin::Grants;

use crate::range::{ByteRange, RangeOutcome, resolve};

/// Methods the server answers, as an `Allow` value.
pub const ALLOWED_METHODS: &str = "GET, HEAD, OPTIONS";

/// What pages of other origins may do, if they may do anything. A client needs these headers to check that it got what
/// it asked for; without this a browser hides all but `Content-Length` from it.
pub const GRANTS: Grants = Grants {
    methods: ALLOWED_METHODS,
    request_headers: "range, if-range, if-match, if-none-match, if-modified-since, if-unmodified-since, authorization",
    response_headers: "Accept-Ranges, Content-Range, Content-Length, ETag, Last-Modified",
};

/// The facts about a representation that decide the answer, before its bytes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Length in bytes.
    pub len: u64,
    /// A strong entity tag, with its quotes.
    pub etag: String,
    /// The `Last-Modified` that is sent, if one is.
    pub modified: Option<LastModified>,
}

/// A time that can be sent as `Last-Modified`: whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastModified {
    seconds: u64,
    /// Whether equal times mean equal bytes (8.8.2.2): they do if nobody can have been served a different version
    /// that was written within the same second.
    strong: bool,
}

impl LastModified {
    /// The time of a file modified at `modified` and served since `served_since`. A time after `now` is sent as `now`
    /// and does not distinguish versions (8.8.2.1). `None` for times that a date cannot express.
    pub fn new(modified: SystemTime, served_since: SystemTime, now: SystemTime) -> Option<Self> {
        const YEAR_10000_SECONDS: u64 = 253_402_300_800;
        let seconds = modified.min(now).duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let strong = served_since.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(2));
        (seconds < YEAR_10000_SECONDS).then_some(Self { seconds, strong: strong && modified <= now })
    }

    /// The value of the header.
    pub fn to_http_date(self) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds))
    }
}

/// The answer to a request, decided before any byte is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// 200 with everything.
    Whole,
    /// 206 with these bytes and `Content-Range`.
    Range(ByteRange),
    /// 206 as `multipart/byteranges` with these parts, in this order: at least two, apart from each other.
    Parts(Vec<ByteRange>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416 with `Content-Range: bytes */len`.
    Unsatisfiable,
    /// 204 to OPTIONS.
    Options,
    /// 405 with `Allow`.
    MethodNotAllowed,
}

/// Decides the answer: method, then preconditions in the order of RFC 9110 13.2.2, then `If-Range` and `Range`.
pub fn plan(method: &Method, headers: &HeaderMap, facts: &Facts) -> Plan {
    match *method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Plan::Options,
        _ => return Plan::MethodNotAllowed,
    }
    if let Some(matches) = tag_matches(headers, IF_MATCH, |tag| !tag.weak && tag.is(&facts.etag)) {
        if !matches {
            return Plan::PreconditionFailed;
        }
    } else if modified_since(headers, IF_UNMODIFIED_SINCE, facts) == Some(true) {
        return Plan::PreconditionFailed;
    }
    if let Some(matches) = tag_matches(headers, IF_NONE_MATCH, |tag| tag.is(&facts.etag)) {
        if matches {
            return Plan::NotModified;
        }
    } else if modified_since(headers, IF_MODIFIED_SINCE, facts) == Some(false) {
        return Plan::NotModified;
    }
    // HEAD ignores Range (14.2).
    match single(headers, RANGE) {
        Some(range) if *method == Method::GET && if_range_holds(headers, facts) => match resolve(range, facts.len) {
            RangeOutcome::Ignore => Plan::Whole,
            RangeOutcome::Unsatisfiable => Plan::Unsatisfiable,
            RangeOutcome::One(range) => Plan::Range(range),
            RangeOutcome::Several(parts) => Plan::Parts(parts),
        },
        _ => Plan::Whole,
    }
}

/// The value of a header that may occur once; one that occurs more often is treated as absent.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// Whether the file changed after the date in a header; `None` without a header, a date or a known time.
fn modified_since(headers: &HeaderMap, name: HeaderName, facts: &Facts) -> Option<bool> {
    Some(facts.modified?.seconds > http_date(single(headers, name)?)?)
}

/// Seconds since 1970; earlier dates count as 1970, before which no file here was changed.
fn http_date(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// `If-Range` (13.1.5): an entity tag compared strongly, or the exact date if that is a strong validator.
fn if_range_holds(headers: &HeaderMap, facts: &Facts) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(value) = single(headers, IF_RANGE) else { return false };
    match EntityTag::parse(value) {
        Some((tag, b"")) => !tag.weak && tag.is(&facts.etag),
        Some(_) => false,
        None => facts.modified.is_some_and(|modified| modified.strong && http_date(value) == Some(modified.seconds)),
    }
}

/// An entity tag of a request: weakness, and the tag with its quotes.
struct EntityTag<'a> {
    weak: bool,
    quoted: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Takes one tag off the front of `text` and returns what follows it.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, text) = text.strip_prefix(b"W/").map_or((false, text), |rest| (true, rest));
        let inner = text.strip_prefix(b"\"")?;
        let inner_len = inner.iter().position(|&b| b == b'"')?;
        let (quoted, rest) = text.split_at(inner_len + 2);
        Some((Self { weak, quoted }, rest))
    }

    fn is(&self, etag: &str) -> bool {
        self.quoted == etag.as_bytes()
    }
}

/// Whether any tag of an `If-Match` or `If-None-Match` list passes `test`; `*` always does. `None` without the header.
/// Reading stops at the first malformed element.
fn tag_matches(headers: &HeaderMap, name: HeaderName, test: impl Fn(&EntityTag<'_>) -> bool) -> Option<bool> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    Some(values.any(|value| {
        let mut rest = value.as_bytes();
        if rest.trim_ascii() == b"*" {
            return true;
        }
        loop {
            let start = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b',')).unwrap_or(rest.len());
            let Some((tag, after)) = EntityTag::parse(&rest[start..]) else { return false };
            if test(&tag) {
                return true;
            }
            rest = after;
        }
    }))
}

#[cfg(test)]
mod tests;
