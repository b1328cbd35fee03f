//! Conditional requests: RFC 9110, 13.

use crate::fixtures::{EMPTY, MB, MODIFIED, TINY};
use crate::support::Subject;
use crate::table::{Level, Must, Project, Row, Should, ask, get, run};

const MODIFIED_RFC_850: &str = "Thursday, 29-Feb-24 12:34:56 GMT";
const MODIFIED_ASCTIME: &str = "Thu Feb 29 12:34:56 2024";
const SECOND_BEFORE: &str = "Thu, 29 Feb 2024 12:34:55 GMT";
const SECOND_AFTER: &str = "Thu, 29 Feb 2024 12:34:57 GMT";

/// A request of the small file with these conditions, and the status of the answer.
fn on(level: Level, section: &'static str, headers: &[(&str, &str)], status: u16) -> Row {
    headers.iter().fold(get(level, section, TINY), |row, (name, value)| row.with(name, *value)).gives(&[status])
}

/// The same with a range, of which the answer has those bytes.
fn on_part(level: Level, section: &'static str, headers: &[(&str, &str)], bytes: std::ops::Range<u64>) -> Row {
    on(level, section, headers, 206).slice(bytes)
}

#[test]
fn plain_entity_tags() {
    let subject = Subject::peer_or_own();
    let many = format!("{}{{etag}}", "\"no\", ".repeat(100));
    let rows = vec![
        on(Must, "13.1.1", &[("If-Match", "{etag}")], 200),
        on(Must, "13.1.1", &[("If-Match", "*")], 200),
        on(Must, "13.1.1", &[("If-Match", "\"a\", {etag}, \"b\"")], 200),
        on(Must, "13.1.1", &[("If-Match", "\"a\",{etag}")], 200),
        on(Must, "13.1.1", &[("If-Match", "\"other\"")], 412),
        on(Must, "13.1.1", &[("If-Match", "\"a\", \"b\"")], 412),
        on(Must, "13.1.1", &[("If-Match", "W/{etag}")], 412),
        on(Must, "13.1.1", &[("If-Match", "W/{etag}, \"b\"")], 412),
        on(Should, "5.3", &[("If-Match", "\"a\""), ("If-Match", "{etag}")], 200),
        on(Must, "13.1.2", &[("If-None-Match", "{etag}")], 304),
        on(Must, "13.1.2", &[("If-None-Match", "W/{etag}")], 304),
        on(Must, "13.1.2", &[("If-None-Match", "*")], 304),
        on(Must, "13.1.2", &[("If-None-Match", "\"a\", {etag}")], 304),
        on(Must, "13.1.2", &[("If-None-Match", "\"a\" ,\tW/{etag} , \"b\"")], 304),
        on(Must, "13.1.2", &[("If-None-Match", "\"other\"")], 200),
        on(Must, "13.1.2", &[("If-None-Match", "\"a\", W/\"b\"")], 200),
        on(Must, "13.1.2", &[("If-None-Match", &many)], 304),
        on(Should, "5.3", &[("If-None-Match", "\"a\""), ("If-None-Match", "{etag}")], 304),
        on(Must, "5.6.1.2", &[("If-None-Match", ",\"a\",, {etag},")], 304),
        // Commas and spaces can be inside a tag.
        on(Must, "8.8.3", &[("If-None-Match", "\"a,b\", \"c\", {etag}")], 304),
        on(Must, "8.8.3", &[("If-None-Match", "\"a,{opaque},b\"")], 200),
        on(Must, "8.8.3", &[("If-Match", "\"{opaque}\u{e9}\"")], 412),
        on(Must, "8.8.3.2", &[("If-None-Match", "\"{opaque}x\"")], 200),
        on(Must, "8.8.3.2", &[("If-None-Match", "\"x{opaque}\"")], 200),
        on(Must, "8.8.3.2", &[("If-None-Match", "\"\"")], 200),
        on(Must, "8.8.3.2", &[("If-Match", "\"\"")], 412),
    ];
    run(&subject, rows);
}

#[test]
fn plain_dates() {
    let subject = Subject::peer_or_own();
    let rows = vec![
        on(Must, "13.1.3", &[("If-Modified-Since", MODIFIED)], 304),
        on(Must, "5.6.7", &[("If-Modified-Since", MODIFIED_RFC_850)], 304),
        on(Must, "5.6.7", &[("If-Modified-Since", MODIFIED_ASCTIME)], 304),
        on(Must, "13.1.3", &[("If-Modified-Since", SECOND_BEFORE)], 200),
        on(Must, "13.1.3", &[("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
        on(Should, "13.1.3", &[("If-Modified-Since", SECOND_AFTER)], 304),
        on(Should, "13.1.3", &[("If-Modified-Since", "Fri Mar  1 00:00:00 2024")], 304),
        on(Should, "13.1.3", &[("If-Modified-Since", "Friday, 01-Mar-24 00:00:00 GMT")], 304),
        on(Should, "13.1.3", &[("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT")], 304),
        // More than 50 years ahead is the past.
        on(Must, "5.6.7", &[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], 200),
        on(Must, "5.6.7", &[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], 200),
        // What is no date is ignored.
        on(Must, "13.1.3", &[("If-Modified-Since", "yesterday")], 200),
        on(Must, "13.1.3", &[("If-Modified-Since", "")], 200),
        on(Must, "13.1.3", &[("If-Modified-Since", "1709210096")], 200),
        on(Must, "13.1.3", &[("If-Modified-Since", "2024-02-29T12:34:56Z")], 200),
        on(Must, "13.1.3", &[("If-Modified-Since", "Fri, 30 Feb 2024 12:34:56 GMT")], 200),
        on(Must, "13.1.3", &[("If-Modified-Since", "Thu, 29 Feb 2024 25:34:56 GMT")], 200),
        on(
            Must,
            "13.1.3",
            &[("If-Modified-Since", "Thu, 29 Feb 2024 12:34:56 GMT, Thu, 29 Feb 2024 12:34:56 GMT")],
            200,
        ),
        // Two of them may also be refused as what no client may send (5.3).
        on(Must, "13.1.3", &[("If-Modified-Since", MODIFIED), ("If-Modified-Since", MODIFIED)], 200).gives(&[200, 400]),
        on(Must, "13.1.4", &[("If-Unmodified-Since", MODIFIED)], 200),
        on(Must, "13.1.4", &[("If-Unmodified-Since", SECOND_AFTER)], 200),
        on(Must, "13.1.4", &[("If-Unmodified-Since", SECOND_BEFORE)], 412),
        on(Must, "5.6.7", &[("If-Unmodified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], 412),
        on(Must, "5.6.7", &[("If-Unmodified-Since", "Sun Nov  6 08:49:37 1994")], 412),
        on(Must, "5.6.7", &[("If-Unmodified-Since", MODIFIED_RFC_850)], 200),
        on(Must, "5.6.7", &[("If-Unmodified-Since", MODIFIED_ASCTIME)], 200),
        on(Must, "13.1.4", &[("If-Unmodified-Since", "yesterday")], 200),
        on(Must, "13.1.4", &[("If-Unmodified-Since", SECOND_BEFORE), ("If-Unmodified-Since", SECOND_BEFORE)], 200)
            .gives(&[200, 400]),
        get(Must, "13.1.3", EMPTY).with("If-Modified-Since", MODIFIED).gives(&[304]),
    ];
    run(&subject, rows);
}

#[test]
fn plain_order_of_conditions() {
    let subject = Subject::peer_or_own();
    let part = ("Range", "bytes=4-5");
    let rows = vec![
        on(Must, "13.1.3", &[("If-None-Match", "\"other\""), ("If-Modified-Since", MODIFIED)], 200),
        on(Must, "13.1.3", &[("If-None-Match", "{etag}"), ("If-Modified-Since", SECOND_BEFORE)], 304),
        on(Must, "13.1.4", &[("If-Match", "{etag}"), ("If-Unmodified-Since", SECOND_BEFORE)], 200),
        on(Must, "13.1.4", &[("If-Match", "\"other\""), ("If-Unmodified-Since", MODIFIED)], 412),
        on(Must, "13.2.2", &[("If-Match", "{etag}"), ("If-None-Match", "{etag}")], 304),
        on(Must, "13.2.2", &[("If-Match", "\"other\""), ("If-None-Match", "{etag}")], 412),
        on(Must, "13.2.2", &[("If-None-Match", "{etag}"), ("If-Match", "\"other\"")], 412),
        on(Must, "13.2.2", &[("If-Unmodified-Since", SECOND_BEFORE), ("If-None-Match", "{etag}")], 412),
        on(Must, "13.2.2", &[("If-Unmodified-Since", MODIFIED), ("If-Modified-Since", MODIFIED)], 304),
        on(Must, "13.2.2", &[("If-Match", "{etag}"), ("If-Modified-Since", MODIFIED)], 304),
        // A range comes last.
        on_part(Must, "13.2.2", &[part, ("If-Match", "{etag}")], 4..6),
        on(Must, "13.2.2", &[part, ("If-Match", "\"other\"")], 412),
        on_part(Must, "13.2.2", &[part, ("If-None-Match", "\"other\"")], 4..6),
        on(Must, "14.2", &[part, ("If-None-Match", "{etag}")], 304),
        on(Must, "14.2", &[part, ("If-Modified-Since", MODIFIED)], 304),
        on(Must, "13.2.2", &[part, ("If-Unmodified-Since", SECOND_BEFORE)], 412),
        on_part(Must, "13.2.2", &[part, ("If-Unmodified-Since", MODIFIED)], 4..6),
        on(Must, "14.2", &[("Range", "bytes=24-"), ("If-None-Match", "{etag}")], 304),
        on(Must, "14.2", &[("Range", "bytes=24-"), ("If-Match", "\"other\"")], 412),
        on(Must, "14.2", &[("Range", "bytes=24-"), ("If-Match", "{etag}")], 416),
        on(Must, "13.2.2", &[part, ("If-Range", "{etag}"), ("If-None-Match", "{etag}")], 304),
        on(Must, "13.2.2", &[part, ("If-Range", "{etag}"), ("If-Match", "\"other\"")], 412),
        on(Must, "13.2.2", &[part, ("If-Range", "\"other\""), ("If-Match", "{etag}")], 200),
        // A request that fails anyway does so.
        ask(Must, "13.2.1", "GET", "/none.gguf").with("If-None-Match", "*").gives(&[404]),
        ask(Must, "13.2.1", "GET", "/none.gguf").with("If-Match", "*").gives(&[404]),
        ask(Must, "13.2.1", "GET", "/none.gguf").with("If-Match", "\"a\"").gives(&[404]),
        ask(Must, "13.2.1", "GET", "/none.gguf").with("If-Modified-Since", MODIFIED).gives(&[404]),
        ask(Must, "14.2", "GET", "/none.gguf").with("Range", "bytes=24-").gives(&[404]),
    ];
    run(&subject, rows);
}

#[test]
fn plain_if_range() {
    let subject = Subject::peer_or_own();
    let part = ("Range", "bytes=4-5");
    let rows = vec![
        on_part(Must, "13.1.5", &[part, ("If-Range", "{etag}")], 4..6),
        on_part(Must, "13.1.5", &[("If-Range", "{etag}"), ("Range", "bytes=-2")], 22..24),
        on(Must, "13.1.5", &[part, ("If-Range", "\"other\"")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "W/{etag}")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "\"{opaque}x\"")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "\"\"")], 200),
        on_part(Must, "13.1.5", &[part, ("If-Range", MODIFIED)], 4..6),
        on(Must, "13.1.5", &[part, ("If-Range", SECOND_AFTER)], 200),
        on(Must, "13.1.5", &[part, ("If-Range", SECOND_BEFORE)], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "Fri, 31 Dec 9999 23:59:59 GMT")], 200),
        // What is neither a tag nor a date is no match.
        on(Must, "13.1.5", &[part, ("If-Range", "*")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "yesterday")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "{opaque}")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "{etag}, \"b\"")], 200),
        on(Must, "13.1.5", &[part, ("If-Range", "\"b\", {etag}")], 200),
        // If-Range is evaluated before it is asked whether the range can be satisfied.
        on(Must, "13.1.5", &[("Range", "bytes=24-"), ("If-Range", "\"other\"")], 200),
        on(Must, "13.1.5", &[("Range", "bytes=24-"), ("If-Range", SECOND_AFTER)], 200),
        on(Must, "13.2.2", &[("Range", "bytes=24-"), ("If-Range", "{etag}")], 416),
        on(Must, "13.1.5", &[("Range", "lines=4-5"), ("If-Range", "{etag}")], 200),
        // If-Range without Range is ignored.
        on(Must, "13.1.5", &[("If-Range", "\"other\"")], 200),
        on(Must, "13.1.5", &[("If-Range", "{etag}")], 200),
        get(Must, "13.1.5", MB).with("If-Range", "{etag}").with("Range", "bytes=999999-").slice(999_999..1_000_000),
        get(Must, "13.1.5", EMPTY).with("If-Range", "\"other\"").with("Range", "bytes=0-"),
    ];
    run(&subject, rows);
}

#[test]
fn what_our_answers_to_conditions_have() {
    let subject = Subject::new();
    let exposed = ["ETag", "Last-Modified"];
    let rows = vec![
        on(Must, "15.4.5", &[("If-None-Match", "{etag}")], 304).is("cache-control", "no-store").is("vary", "Origin"),
        on(Should, "15.4.5", &[("If-None-Match", "{etag}"), ("Range", "bytes=0-3")], 304).lacks("content-range"),
        on(Project, "project", &[("If-Match", "\"other\"")], 412).lacks("content-range"),
        // The three forms of one date: whether another form "exactly matches" is not said; both answers are good.
        on_part(Must, "13.1.5", &[("Range", "bytes=4-5"), ("If-Range", MODIFIED_ASCTIME)], 4..6).gives(&[200, 206]),
        on_part(Must, "13.1.5", &[("Range", "bytes=4-5"), ("If-Range", MODIFIED_RFC_850)], 4..6).gives(&[200, 206]),
        // The value is not a list of entity tags.
        on(Project, "8.8.3", &[("If-None-Match", "{opaque}")], 200),
        on(Project, "8.8.3", &[("If-None-Match", "w/{etag}")], 200),
        on(Project, "8.8.3", &[("If-Match", "{opaque}")], 412),
        on(Project, "8.8.3", &[("If-None-Match", "")], 200),
    ];
    run(&subject, rows);
    let response = subject.get("/tiny.gguf", &[("Origin", "http://localhost:1")]);
    let listed = response.header("access-control-expose-headers").unwrap_or_default();
    assert!(exposed.iter().all(|name| listed.contains(name)), "a page must be able to read validators: {listed}");
}
