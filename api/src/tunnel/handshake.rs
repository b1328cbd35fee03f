//! How HTTP becomes a WebSocket (RFC 6455, 4.2).

use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;

use crate::error::ApiError;

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Status and headers with which the connection becomes a WebSocket.
pub(super) type Switching = (StatusCode, [(HeaderName, HeaderValue); 3]);

/// Looks whether a request with these headers asks for a WebSocket.
pub(super) fn accept(headers: &HeaderMap) -> Result<Switching, ApiError> {
    let upgrade_required = |message: &str| Err(ApiError::refused(StatusCode::UPGRADE_REQUIRED, message));
    if !has_word(headers, &CONNECTION, "upgrade") || !has_word(headers, &UPGRADE, "websocket") {
        return upgrade_required("this is a WebSocket: open it with ws:// (or wss://), over HTTP/1.1");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return upgrade_required("the WebSocket has another version: expected Sec-WebSocket-Version 13");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        let accept = HeaderValue::from_str(&accept_of(key)).map_err(|_| ApiError::internal("base64 is a header"))?;
        let headers = [
            (UPGRADE, HeaderValue::from_static("websocket")),
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (SEC_WEBSOCKET_ACCEPT, accept),
        ];
        return Ok((StatusCode::SWITCHING_PROTOCOLS, headers));
    }
    Err(ApiError::refused(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64"))
}

fn accept_of(key: &[u8]) -> String {
    let mut hash = Sha1::from(key);
    hash.update(GUID.as_bytes());
    STANDARD.encode(hash.digest().bytes())
}

/// Whether a header, which may come more than once and list several things, names `word`.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |&(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_handshake_of_the_rfc() {
        let asked = headers(&[
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ]);
        let (status, switching) = accept(&asked).expect("it is one");
        assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(switching[2].1, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (name, value, status) in [
            ("upgrade", "h2c", 426),
            ("connection", "close", 426),
            ("sec-websocket-version", "8", 426),
            ("sec-websocket-key", "c2hvcnQ=", 400),
            ("sec-websocket-key", "!", 400),
        ] {
            let mut wrong = asked.clone();
            wrong.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert_eq!(accept(&wrong).expect_err(name).status, status, "{name}: {value}");
        }
        assert_eq!(accept(&HeaderMap::new()).expect_err("nothing").status, 426);
    }
}
