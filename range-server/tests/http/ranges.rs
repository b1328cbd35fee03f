//! Requests for bytes.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use gguf_serve::range::ByteRange;

use crate::support::{folder, pattern, serving, write};

/// Headers of a request; status of the answer, and which bytes it has.
type Case<'a> = (Vec<(&'a str, &'a str)>, (u16, std::ops::Range<usize>));

#[test]
fn request_table() {
    let folder = folder();
    let bytes = pattern(100_000);
    let server = serving(&[&write(&folder, "m.gguf", &bytes)]);
    let mut client = server.connect();
    let etag = client.request("HEAD", "/m.gguf", &[]).header("etag").unwrap().to_owned();
    let (weak, other) = (format!("W/{etag}"), "\"other\"".to_owned());
    let whole = || (200, 0..100_000);
    let table: Vec<Case<'_>> = vec![
        (vec![], whole()),
        (vec![("Range", "bytes=0-0")], (206, 0..1)),
        (vec![("Range", "bytes=0-99999")], (206, 0..100_000)),
        (vec![("Range", "bytes=500-599")], (206, 500..600)),
        (vec![("Range", "bytes=99990-")], (206, 99_990..100_000)),
        (vec![("Range", "bytes=99990-200000")], (206, 99_990..100_000)),
        (vec![("Range", "bytes=-10")], (206, 99_990..100_000)),
        (vec![("Range", "bytes=-200000")], (206, 0..100_000)),
        (vec![("Range", "BYTES=5-6")], (206, 5..7)),
        (vec![("Range", "bytes=100000-")], (416, 0..0)),
        (vec![("Range", "bytes=99999999999999999999-")], (416, 0..0)),
        (vec![("Range", "bytes=-0")], (416, 0..0)),
        (vec![("Range", "lines=5-6")], whole()),
        (vec![("Range", "bytes=6-5")], whole()),
        (vec![("Range", "bytes=x")], whole()),
        (vec![("Range", "bytes=0-,0-0")], whole()),
        (vec![("Range", "bytes=0-1,5-6")], (206, 0..7)),
        (vec![("Range", "bytes=5-6"), ("If-Range", &etag)], (206, 5..7)),
        (vec![("Range", "bytes=5-6"), ("If-Range", &weak)], whole()),
        (vec![("Range", "bytes=5-6"), ("If-Range", &other)], whole()),
        (vec![("Range", "bytes=5-6"), ("If-None-Match", &weak)], (304, 0..0)),
        (vec![("Range", "bytes=5-6"), ("If-None-Match", &other)], (206, 5..7)),
        (vec![("Range", "bytes=5-6"), ("If-Match", &etag)], (206, 5..7)),
        (vec![("Range", "bytes=5-6"), ("If-Match", &other)], (412, 0..0)),
        (vec![("If-Match", &weak)], (412, 0..0)),
        (vec![("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], whole()),
        (vec![("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], (412, 0..0)),
    ];
    // All on one connection: each answer must end where its Content-Length says.
    for (headers, (status, range)) in table {
        let response = client.request("GET", "/m.gguf", &headers);
        assert_eq!(response.status, status, "{headers:?}");
        assert_eq!(response.header("etag"), Some(etag.as_str()), "{headers:?}");
        assert_eq!(response.header("accept-ranges"), Some("bytes"), "{headers:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{headers:?}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{headers:?}");
        assert!(response.header("date").is_some() && response.header("last-modified").is_some(), "{headers:?}");
        let content_range = match status {
            206 => Some(format!("bytes {}-{}/100000", range.start, range.end - 1)),
            416 => Some("bytes */100000".to_owned()),
            _ => None,
        };
        assert_eq!(response.header("content-range"), content_range.as_deref(), "{headers:?}");
        if matches!(status, 200 | 206) {
            assert!(response.body == bytes[range], "{headers:?}: wrong bytes");
            assert_eq!(response.header("content-type"), Some("application/octet-stream"));
        }
    }
}

#[test]
fn head_has_the_headers_of_the_whole_and_no_body() {
    let folder = folder();
    let server = serving(&[&write(&folder, "m.gguf", &pattern(1000))]);
    let mut client = server.connect();
    for headers in [&[][..], &[("Range", "bytes=5-6")], &[("Range", "bytes=5000-")]] {
        let response = client.request("HEAD", "/m.gguf", headers);
        assert_eq!((response.status, response.header("content-length")), (200, Some("1000")), "{headers:?}");
        assert_eq!(response.header("content-range"), None);
    }
    // Had a body come, this answer would begin with it.
    assert_eq!(client.request("GET", "/m.gguf", &[]).body, pattern(1000));
    assert_eq!(client.request("HEAD", "/none.gguf", &[]).status, 404);
    assert_eq!(client.request("HEAD", "/api/models", &[]).status, 200);
    assert_eq!(client.request("GET", "/api/health", &[]).json()["status"], "ok");
}

#[test]
fn other_methods_are_refused_with_allow() {
    let server = serving(&[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        let response = server.connect().request(method, "/gpt-oss-nano.gguf", &[]);
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    let response = server.connect().request("OPTIONS", "/gpt-oss-nano.gguf", &[]);
    assert_eq!((response.status, response.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(server.connect().request("OPTIONS", "*", &[]).status, 204);
}

#[test]
fn offsets_beyond_4_gib() {
    const LEN: u64 = 5 << 30;
    const MARK_AT: u64 = (4 << 30) + 12_345;
    let folder = folder();
    let path = folder.path().join("big.gguf");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"GGUF").unwrap();
    file.set_len(LEN).unwrap();
    for (offset, mark) in [(MARK_AT, b"beyond"), (LEN - 6, b"at end")] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(mark).unwrap();
    }
    drop(file);
    let server = serving(&[&path]);
    let mut client = server.connect();
    assert_eq!(client.request("HEAD", "/big.gguf", &[]).header("content-length"), Some("5368709120"));
    let range = format!("bytes={MARK_AT}-{}", MARK_AT + 5);
    let response = client.request("GET", "/big.gguf", &[("Range", &range)]);
    assert_eq!((response.status, response.text()), (206, "beyond"));
    assert_eq!(response.header("content-range"), Some("bytes 4294979641-4294979646/5368709120"));
    assert_eq!(client.request("GET", "/big.gguf", &[("Range", "bytes=-6")]).text(), "at end");
    let response = client.request("GET", "/big.gguf", &[("Range", "bytes=5368709120-")]);
    assert_eq!((response.status, response.header("content-range")), (416, Some("bytes */5368709120")));
    // The low half of the offset alone is another place.
    let range = format!("bytes={}-{}", MARK_AT as u32, MARK_AT as u32 + 5);
    assert_eq!(client.request("GET", "/big.gguf", &[("Range", &range)]).body, [0; 6]);
}

#[test]
fn bodies_of_many_chunks_are_whole() {
    let folder = folder();
    let bytes = pattern(3_000_001);
    let server = serving(&[&write(&folder, "m.gguf", &bytes)]);
    assert!(server.get("/m.gguf", &[]).body == bytes);
    // Begins and ends inside chunks, and on their borders.
    for (first, last) in [(1, 524_288), (524_288, 1_048_575), (524_287, 2_097_153), (2_999_999, 3_000_000)] {
        let response = server.get("/m.gguf", &[("Range", &format!("bytes={first}-{last}"))]);
        assert!(response.body == bytes[first..=last], "{first}-{last}");
    }
}

#[test]
fn every_request_leaves_one_record() {
    let folder = folder();
    let server = serving(&[&write(&folder, "m.gguf", &pattern(1000))]);
    server.get("/m.gguf?a", &[("Range", "bytes=10-19")]);
    server.get("/none?b", &[]);
    let record = server.record_of("/m.gguf?a");
    assert_eq!(
        (record.status.as_u16(), record.range, record.sent_bytes),
        (206, Some(ByteRange { first: 10, last: 19 }), 10)
    );
    assert!(!record.aborted());
    let line = record.to_string();
    assert!(line.starts_with("GET /m.gguf?a 206 bytes 10-19 10 B ") && line.ends_with(" ms model m"), "{line}");
    assert_eq!(server.record_of("/none?b").status.as_u16(), 404);
}
