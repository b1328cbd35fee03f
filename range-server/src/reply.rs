//! Answers, before what every answer has is added to them.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED,
};
use hyper::{Method, Response, StatusCode};

use crate::body::Payload;
use crate::content::{Content, Version};
use crate::multipart::Multipart;
use crate::plan::{ALLOWED_METHODS, Facts, Plan, plan};
use crate::range::ByteRange;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const BINARY: &str = "application/octet-stream";

/// Model bytes stay out of the browser's HTTP cache: Chromium serialises parallel ranges of one URL behind a cache
/// writer, and has answered from a cached part as if it were the whole.
pub(crate) const NO_STORE: &str = "no-store";
/// Browsers store page files, but ask each time whether they are current.
pub(crate) const NO_CACHE: &str = "no-cache";

const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// An answer, with facts for the access record.
pub(crate) struct Reply {
    pub(crate) response: Response<Payload>,
    /// The one range of a 206.
    pub(crate) range: Option<ByteRange>,
    /// Id of the model it is about.
    pub(crate) model: Option<String>,
}

/// Something whose bytes can be requested.
pub(crate) struct Resource {
    pub(crate) content: Content,
    pub(crate) content_type: &'static str,
    pub(crate) cache_control: &'static str,
    /// Value of Cross-Origin-Resource-Policy. Models may be used by pages that isolate themselves.
    pub(crate) policy: &'static str,
}

impl Reply {
    fn new(status: StatusCode, content_type: &str, payload: Payload, len: u64) -> Self {
        let mut reply = Self::empty(status);
        *reply.response.body_mut() = payload;
        reply.set(CONTENT_TYPE, content_type);
        reply.set(CONTENT_LENGTH, len.to_string());
        reply
    }

    /// Headers only.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Payload::default());
        *response.status_mut() = status;
        Self { response, range: None, model: None }
    }

    /// A short answer made on the spot.
    pub(crate) fn message(method: &Method, status: StatusCode, content_type: &str, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let len = text.len() as u64;
        let payload = if *method == Method::HEAD { Payload::default() } else { Payload::memory(text) };
        let mut reply = Self::new(status, content_type, payload, len);
        reply.set(CACHE_CONTROL, NO_STORE);
        reply
    }

    pub(crate) fn json(method: &Method, status: StatusCode, value: &serde_json::Value) -> Self {
        Self::message(method, status, JSON, value.to_string())
    }

    pub(crate) fn not_found(method: &Method, text: &'static str) -> Self {
        Self::message(method, StatusCode::NOT_FOUND, TEXT, text)
    }

    /// A file that cannot be read, or not any more.
    pub(crate) fn unreadable(method: &Method, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::not_found(method, "the file is not there any more\n"),
            _ => {
                let text = format!("the file cannot be read: {error}\n");
                Self::message(method, StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let text = "only GET, HEAD and OPTIONS\n";
        let mut reply = Self::message(&Method::GET, StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        reply.set(ALLOW, ALLOWED_METHODS);
        reply
    }

    /// Sets a header whose value this program made: visible ASCII.
    pub(crate) fn set(&mut self, name: HeaderName, value: impl AsRef<str>) {
        let value = HeaderValue::from_str(value.as_ref()).expect("values are made of visible ASCII");
        self.response.headers_mut().insert(name, value);
    }

    /// Says that the answer is about this model.
    pub(crate) fn about(mut self, model: &str) -> Self {
        self.model = Some(model.to_owned());
        self
    }
}

/// Carries out the plan for a resource in this version. `sha256`: the hash of all of it, where that is known.
pub(crate) fn carry_out(
    method: &Method,
    request: &HeaderMap,
    resource: &Resource,
    version: &Version,
    sha256: Option<&str>,
) -> Reply {
    let facts = version.facts(SystemTime::now());
    let Resource { content, content_type, .. } = resource;
    let stretch = |status, offset, len| {
        let head = *method == Method::HEAD;
        let payload = if head { Payload::default() } else { Payload::stretch(content, version, offset, len) };
        Reply::new(status, content_type, payload, len)
    };
    let mut reply = match plan(method, request, &facts) {
        Plan::Whole => stretch(StatusCode::OK, 0, facts.len),
        Plan::Range(range) => {
            let mut reply = stretch(StatusCode::PARTIAL_CONTENT, range.first, range.len_bytes());
            reply.set(CONTENT_RANGE, format!("bytes {}-{}/{}", range.first, range.last, facts.len));
            reply.range = Some(range);
            reply
        }
        Plan::Parts(ranges) => {
            let layout = Multipart::new(&ranges, facts.len, content_type);
            let (of_parts, len) = (layout.content_type.clone(), layout.len_bytes());
            let payload = Payload::multipart(content, version, layout);
            Reply::new(StatusCode::PARTIAL_CONTENT, &of_parts, payload, len)
        }
        Plan::NotModified => Reply::empty(StatusCode::NOT_MODIFIED),
        Plan::PreconditionFailed => {
            Reply::message(method, StatusCode::PRECONDITION_FAILED, TEXT, "the file is another version\n")
        }
        Plan::Unsatisfiable => {
            let text = format!("the file has {} bytes, none of them in that range\n", facts.len);
            let mut reply = Reply::message(method, StatusCode::RANGE_NOT_SATISFIABLE, TEXT, text);
            reply.set(CONTENT_RANGE, format!("bytes */{}", facts.len));
            reply
        }
        // The service answers these before it comes to resources.
        Plan::Options | Plan::MethodNotAllowed => return Reply::method_not_allowed(),
    };
    describe(&mut reply, resource, &facts, sha256);
    reply
}

/// Headers that say what the resource is, whatever the status.
fn describe(reply: &mut Reply, resource: &Resource, facts: &Facts, sha256: Option<&str>) {
    reply.set(ACCEPT_RANGES, "bytes");
    reply.set(CACHE_CONTROL, resource.cache_control);
    reply.set(CORP, resource.policy);
    reply.set(ETAG, &facts.etag);
    if let Some(modified) = facts.modified {
        reply.set(LAST_MODIFIED, modified.to_http_date());
    }
    let carries_bytes = matches!(reply.response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    if let Some(digest) = sha256.filter(|_| carries_bytes).and_then(digest_field) {
        reply.set(REPR_DIGEST, digest);
    }
}

/// `Repr-Digest` (RFC 9530, section 3) from a hash in hexadecimal: of the whole representation, for a part too.
fn digest_field(sha256: &str) -> Option<String> {
    let byte = |at: usize| u8::from_str_radix(sha256.get(at..at + 2)?, 16).ok();
    let bytes = (0..sha256.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some(format!("sha-256=:{}:", BASE64.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_base64_between_colons() {
        // FIPS 180-2: the hash of "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_field(abc).as_deref(), Some("sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"));
        assert_eq!(digest_field("0g"), None);
    }
}
