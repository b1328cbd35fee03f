//! A second opinion on tokens: found where they may be and nowhere else, and never in a log.

use hyper::Uri;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use serve_kit::token::{Presented, Token, loggable, query_without_token};

use crate::input::Case;

pub fn check(case: &Case) {
    let token = Token::new(case.server.secret, "gguf-serve", case.server.port);
    assert_eq!(token.find(&case.uri, &case.headers), expected(case));
    // Any other secret is refused, even one that differs only at its end.
    let other = Token::new(&format!("{}~", case.server.secret), "gguf-serve", case.server.port);
    if !holds(case, &format!("{}~", case.server.secret)) {
        assert_eq!(other.find(&case.uri, &case.headers), None);
    }
    check_cookie(case, &token);
    check_address(case, &token);
    let target = case.uri.path_and_query().map_or("*", |target| target.as_str());
    check_log(target, case.server.secret);
}

fn expected(case: &Case) -> Option<Presented> {
    let secret = case.server.secret.as_bytes();
    if in_header(&case.headers, secret, case.server.port) {
        return Some(Presented::InHeader);
    }
    in_query(&case.uri, secret).map(|_| Presented::InQuery)
}

fn holds(case: &Case, secret: &str) -> bool {
    let secret = secret.as_bytes();
    in_header(&case.headers, secret, case.server.port) || in_query(&case.uri, secret).is_some()
}

fn in_header(headers: &HeaderMap, secret: &[u8], port: u16) -> bool {
    let bearer = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.len() >= 7 && value[..7].eq_ignore_ascii_case(b"bearer ") && value[7..].trim_ascii() == secret
    };
    let cookie = |line: &HeaderValue| {
        // Cookies are text; of a line that is none, nothing counts.
        line.as_bytes().is_ascii() && line.as_bytes().split(|&b| b == b';').any(|pair| is_cookie(pair, secret, port))
    };
    headers.get_all(AUTHORIZATION).iter().any(bearer) || headers.get_all(COOKIE).iter().any(cookie)
}

fn is_cookie(pair: &[u8], secret: &[u8], port: u16) -> bool {
    let value = pair.trim_ascii().strip_prefix(format!("gguf-serve-{port}=").as_bytes());
    value.is_some_and(|value| decoded(value) == secret)
}

/// The value of the first `token` that is the secret, as it stands in the address.
fn in_query<'u>(uri: &'u Uri, secret: &[u8]) -> Option<&'u str> {
    let target = uri.path_and_query()?.as_str();
    let query = &target[target.find('?')? + 1..];
    query.split('&').filter_map(|pair| pair.strip_prefix("token=")).find(|value| decoded(value.as_bytes()) == secret)
}

/// `%41` → `A`; a percent sign without two digits stands for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        let mut byte = *first;
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            byte = high * 16 + low;
            rest = after;
        }
        bytes.push(byte);
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A browser that brings the token in the address gets a cookie, and with the cookie it is let in.
fn check_cookie(case: &Case, token: &Token) {
    let in_query = in_query(&case.uri, case.server.secret.as_bytes());
    for (secure, ending) in [(false, "; HttpOnly; SameSite=Lax"), (true, "; HttpOnly; SameSite=Lax; Secure")] {
        let cookie = token.cookie(&case.uri, secure);
        assert_eq!(cookie.is_some(), in_query.is_some(), "{cookie:?}");
        let Some(pair) = cookie.as_deref().map(|cookie| cookie.strip_suffix(ending).expect("attributes")) else {
            continue;
        };
        let pair = pair.strip_suffix("; Path=/").expect("a path");
        // What a browser keeps, and whole: RFC 6265, 5.2.
        assert!(pair.is_ascii() && !pair.contains([';', ' ', '"', ',']), "{pair}");
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(pair).expect("a value that can be sent"));
        assert_eq!(token.find(&Uri::default(), &headers), Some(Presented::InHeader), "{pair}");
    }
}

/// Removing the token changes nothing else in an address.
fn check_address(case: &Case, token: &Token) {
    let Some(query) = case.uri.query() else { return };
    let rest = query_without_token(query).unwrap_or_default();
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("token=")).collect();
    assert_eq!(rest, kept.join("&"));
    if let Ok(uri) = Uri::try_from(format!("/gptoss?{rest}")) {
        assert_eq!(token.find(&uri, &HeaderMap::new()), None, "{rest}");
    }
}

/// A log has no value of a `token`, and all the rest.
fn check_log(target: &str, secret: &str) {
    let log = loggable(target);
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut expected = path.to_owned();
    let mut is_elsewhere = path.contains(secret);
    for (index, pair) in query.strip_prefix('?').into_iter().flat_map(|query| query.split('&')).enumerate() {
        let is_token = pair.starts_with("token=");
        is_elsewhere |= !is_token && pair.contains(secret);
        expected.push(if index == 0 { '?' } else { '&' });
        expected.push_str(if is_token { "token=…" } else { pair });
    }
    assert_eq!(log, expected);
    assert!(is_elsewhere || !log.contains(secret), "{log}");
}
