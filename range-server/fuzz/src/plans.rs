//! A second opinion on plans: RFC 9110, 13.1 and 13.2.2, step by step; and what must not make a difference.

use std::time::SystemTime;

use gguf_serve::plan::{Plan, plan};
use gguf_serve::range::{ByteRange, RangeOutcome};
use hyper::Method;
use hyper::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

use crate::input::Case;
use crate::{multipart, ranges};

pub fn check(case: &Case) {
    let found = plan(&case.method, &case.headers, &case.facts);
    assert_eq!(found, expected(case), "step by step");
    check_relations(case, &found);
    check_parts(case, &found);
}

/// What must not make a difference, whatever the second opinion is.
fn check_relations(case: &Case, found: &Plan) {
    let without = |names: &[HeaderName]| {
        let mut headers = case.headers.clone();
        for name in names {
            headers.remove(name);
        }
        plan(&case.method, &headers, &case.facts)
    };
    let has = |name: HeaderName| case.headers.contains_key(name);
    if !matches!(case.method, Method::GET | Method::HEAD) {
        assert_eq!(*found, plan(&case.method, &HeaderMap::new(), &case.facts), "headers matter to {}", case.method);
    }
    if case.method == Method::HEAD {
        assert_eq!(*found, without(&[RANGE]), "Range matters to HEAD");
    }
    if has(IF_NONE_MATCH) {
        assert_eq!(*found, without(&[IF_MODIFIED_SINCE]), "If-Modified-Since matters beside If-None-Match");
    }
    if has(IF_MATCH) {
        assert_eq!(*found, without(&[IF_UNMODIFIED_SINCE]), "If-Unmodified-Since matters beside If-Match");
    }
    if !has(RANGE) {
        assert_eq!(*found, without(&[IF_RANGE]), "If-Range matters without Range");
    }
    let whole = without(&[RANGE]);
    let unconditional = without(&[IF_RANGE]);
    match found {
        Plan::Range(_) | Plan::Parts(_) | Plan::Unsatisfiable => {
            assert_eq!((&whole, *found == unconditional), (&Plan::Whole, true), "If-Range makes another part of it");
        }
        _ => assert_eq!(*found, whole, "Range takes a precondition's place"),
    }
}

fn check_parts(case: &Case, found: &Plan) {
    let parts = match found {
        Plan::Range(range) => std::slice::from_ref(range),
        Plan::Parts(parts) => parts,
        _ => return,
    };
    for ByteRange { first, last } in parts {
        assert!(first <= last && *last < case.facts.len, "{first}-{last} is outside");
    }
    // Lengths that no file has are beyond what can be laid out.
    if parts.len() > 1 && i64::try_from(case.facts.len).is_ok() {
        multipart::check(parts, case.facts.len);
    }
}

/// The steps of 13.2.2, numbered as there.
fn expected(case: &Case) -> Plan {
    match case.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Plan::Options,
        _ => return Plan::MethodNotAllowed,
    }
    let etag = case.facts.etag.as_bytes();
    let fails = match list(case, IF_MATCH) {
        // 1
        Some(list) => !list.iter().any(|member| matches!(member, Member::Any | Member::Strong(_)) && member.is(etag)),
        // 2
        None => changed_since(case, IF_UNMODIFIED_SINCE) == Some(true),
    };
    if fails {
        return Plan::PreconditionFailed;
    }
    let is_known = match list(case, IF_NONE_MATCH) {
        // 3
        Some(list) => list.iter().any(|member| member.is(etag)),
        // 4
        None => changed_since(case, IF_MODIFIED_SINCE) == Some(false),
    };
    if is_known {
        return Plan::NotModified;
    }
    // 5
    match only(&case.headers, RANGE) {
        Some(range) if case.method == Method::GET && is_same_version(case) => ranged(range, case.facts.len),
        // 6
        _ => Plan::Whole,
    }
}

fn ranged(range: &[u8], len: u64) -> Plan {
    match ranges::outcome(range, len) {
        RangeOutcome::Ignore => Plan::Whole,
        RangeOutcome::Unsatisfiable => Plan::Unsatisfiable,
        RangeOutcome::One(range) => Plan::Range(range),
        RangeOutcome::Several(parts) => Plan::Parts(parts),
    }
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    if let [value] = values[..] { Some(value.as_bytes()) } else { None }
}

/// A member of an `If-Match` or `If-None-Match` list, a tag with its quotes.
enum Member<'a> {
    Any,
    Strong(&'a [u8]),
    Weak(&'a [u8]),
}

impl Member<'_> {
    fn is(&self, etag: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Strong(tag) | Self::Weak(tag) => *tag == etag,
        }
    }
}

/// All members up to the first malformed one of each line; `None` without the header.
fn list(case: &Case, name: HeaderName) -> Option<Vec<Member<'_>>> {
    let lines: Vec<&[u8]> = case.headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    if lines.is_empty() {
        return None;
    }
    let mut members = Vec::new();
    for line in lines {
        if line.trim_ascii() == b"*" {
            members.push(Member::Any);
        }
        let mut rest = line;
        loop {
            while let [b' ' | b'\t' | b',', after @ ..] = rest {
                rest = after;
            }
            let Some((member, after)) = first_tag(rest) else { break };
            members.push(member);
            rest = after;
        }
    }
    Some(members)
}

/// The tag at the beginning of `text`, and what follows.
fn first_tag(text: &[u8]) -> Option<(Member<'_>, &[u8])> {
    let quote = if text.starts_with(b"W/") { 2 } else { 0 };
    if text.get(quote) != Some(&b'"') {
        return None;
    }
    let mut end = quote + 1;
    while *text.get(end)? != b'"' {
        end += 1;
    }
    let tag = &text[quote..=end];
    Some((if quote == 0 { Member::Strong(tag) } else { Member::Weak(tag) }, &text[end + 1..]))
}

fn changed_since(case: &Case, name: HeaderName) -> Option<bool> {
    Some(i128::from(case.modified?.seconds) > date(only(&case.headers, name)?)?)
}

/// Seconds since 1970. The grammar of dates is left to the crate that the server uses, too.
fn date(value: &[u8]) -> Option<i128> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(match date.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_secs().into(),
        Err(before) => -i128::from(before.duration().as_secs()),
    })
}

/// `If-Range`, 13.1.5.
fn is_same_version(case: &Case) -> bool {
    if !case.headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(value) = only(&case.headers, IF_RANGE) else { return false };
    match first_tag(value) {
        Some((Member::Strong(tag), b"")) => tag == case.facts.etag.as_bytes(),
        Some(_) => false,
        None => case.modified.is_some_and(|time| time.strong && date(value) == Some(time.seconds.into())),
    }
}
