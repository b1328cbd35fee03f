//! A second opinion on which pages may read: those of listed origins and of this machine, and no others.

use gguf_serve::plan::GRANTS;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use serve_kit::origin::OriginList;

use crate::hosts;
use crate::input::Case;

const ASKS_PRIVATE: &str = "access-control-request-private-network";
const ALLOWS_PRIVATE: &str = "access-control-allow-private-network";
const PREFLIGHT: [&str; 3] = ["access-control-allow-headers", "access-control-allow-methods", "access-control-max-age"];

pub fn check(case: &Case) {
    let told = &case.server.origins;
    let list = match OriginList::new(told, GRANTS) {
        Ok(list) => list,
        Err(refused) => {
            assert!(told.contains(&refused) && !is_usable(&refused), "{refused} is refused");
            return;
        }
    };
    assert!(told.iter().all(|origin| is_usable(origin)), "all of {told:?} are accepted");
    check_answer(case, &list);
    check_preflight(case, &list);
}

fn check_answer(case: &Case, list: &OriginList) {
    let mut response = HeaderMap::new();
    list.annotate(&case.headers, &mut response);
    let any = case.server.origins.iter().any(|origin| origin == "*");
    assert_eq!(response.get(VARY).is_some(), !any, "an answer that depends on the origin says so");
    let sent = case.headers.get(ORIGIN);
    let allowed = response.get(ACCESS_CONTROL_ALLOW_ORIGIN);
    let expected =
        if any { Some(&HeaderValue::from_static("*")) } else { sent.filter(|origin| may_read(case, origin)) };
    assert_eq!(allowed, expected);
    assert_eq!(response.len(), usize::from(!any) + 2 * usize::from(allowed.is_some()), "{response:?}");
}

fn check_preflight(case: &Case, list: &OriginList) {
    let mut response = HeaderMap::new();
    list.preflight(&case.headers, &mut response);
    let any = case.server.origins.iter().any(|origin| origin == "*");
    let allowed = any || case.headers.get(ORIGIN).is_some_and(|origin| may_read(case, origin));
    let mut expected = Vec::new();
    if allowed && case.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        expected.extend(PREFLIGHT);
        if case.headers.contains_key(ASKS_PRIVATE) {
            expected.push(ALLOWS_PRIVATE);
        }
    }
    let mut found: Vec<&str> = response.keys().map(HeaderName::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// Listed, in whatever case, or http or https of this machine.
fn may_read(case: &Case, origin: &HeaderValue) -> bool {
    let Ok(origin) = std::str::from_utf8(origin.as_bytes()) else { return false };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let is_local = authority.and_then(hosts::parse).is_some_and(|host| hosts::is_loopback(&host));
    let is_listed = || case.server.origins.iter().any(|listed| listed != "*" && listed.eq_ignore_ascii_case(origin));
    is_local || is_listed()
}

/// `*`, or a scheme, a host and perhaps a port.
fn is_usable(origin: &str) -> bool {
    let Some(end) = origin.find("://") else { return origin == "*" };
    let scheme = &origin.as_bytes()[..end];
    let is_scheme = |b: &u8| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    !scheme.is_empty() && scheme.iter().all(is_scheme) && hosts::parse(&origin[end + 3..]).is_some()
}
