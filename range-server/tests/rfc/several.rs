//! Several ranges: RFC 9110, 14.2, 14.6 and 15.3.7.2.

use std::ops::Range;

use crate::fixtures::{BIG, BIG_LEN, MB, TINY, write};
use crate::multipart;
use crate::support::Subject;
use crate::table::{Level, Must, Project, Row, Should, get, run};

fn parts(level: Level, section: &'static str, file: &str, range: &str, parts: &[Range<u64>]) -> Row {
    get(level, section, file).with("Range", range).parts(parts)
}

fn one(level: Level, section: &'static str, file: &str, range: &str, part: Range<u64>) -> Row {
    get(level, section, file).with("Range", range).slice(part)
}

/// `count` ranges of 10 bytes, one every 1000 bytes, with the header's value.
fn spread(count: u64) -> (String, Vec<Range<u64>>) {
    let ranges: Vec<_> = (0..count).map(|i| 1000 * i..1000 * i + 10).collect();
    (header(&ranges), ranges)
}

fn header(ranges: &[Range<u64>]) -> String {
    let specs: Vec<_> = ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    format!("bytes={}", specs.join(","))
}

#[test]
fn plain_several_ranges() {
    let subject = Subject::peer_or_own();
    let (sixteen, sixteen_parts) = spread(16);
    let backwards: Vec<_> = sixteen_parts.iter().rev().cloned().collect();
    let rows = vec![
        parts(Must, "15.3.7.2", MB, "bytes=0-9,1000-1009", &[0..10, 1000..1010]),
        parts(Must, "14.1.2", MB, "bytes=0-0,-1", &[0..1, 999_999..1_000_000]),
        parts(Must, "14.1.2", MB, "bytes=0-9, 5000-5009 ,\t-10", &[0..10, 5000..5010, 999_990..1_000_000]),
        parts(Must, "5.6.1.2", MB, "bytes=,0-9,, ,1000-1009,", &[0..10, 1000..1010]),
        // The example of 14.1.2, with its white space.
        parts(Should, "14.1.2", MB, "bytes= 0-999, 4500-5499, -1000", &[0..1000, 4500..5500, 999_000..1_000_000]),
        parts(Must, "14.1.2", MB, "bytes=0-9,999000-1000009", &[0..10, 999_000..1_000_000]),
        parts(Must, "14.1.2", MB, "bytes=0-9,999000-99999999999999999999999", &[0..10, 999_000..1_000_000]),
        parts(Must, "15.3.7.2", MB, "bytes=100000-399999,500000-899999", &[100_000..400_000, 500_000..900_000]),
        parts(
            Must,
            "14.1.2",
            BIG,
            "bytes=0-3,4294967292-4294967302,-6",
            &[0..4, 4_294_967_292..4_294_967_303, BIG_LEN - 6..BIG_LEN],
        ),
        // "in the same order that the corresponding range-spec appeared"
        parts(Should, "15.3.7.2", MB, "bytes=1000-1009,0-9", &[1000..1010, 0..10]),
        parts(Should, "15.3.7.2", MB, "bytes=-10,0-9,5000-5009", &[999_990..1_000_000, 0..10, 5000..5010]),
        parts(Should, "15.3.7.2", MB, &header(&backwards), &backwards),
        // Those that cannot be satisfied are left out.
        parts(Must, "14.1.2", MB, "bytes=0-9,1000000-,1000-1009", &[0..10, 1000..1010]),
        parts(Must, "14.1.2", MB, "bytes=-0,0-9,18446744073709551616-,1000-1009", &[0..10, 1000..1010]),
        get(Must, "15.5.17", MB).with("Range", "bytes=1000000-,2000000-2000001,-0").gives(&[416]),
        get(Must, "15.5.17", TINY).with("Range", "bytes=24-,24-").gives(&[416]),
        // This is the largest number of parts that the server sends.
        parts(Project, "project", MB, &sixteen, &sixteen_parts),
        get(Project, "project", MB).with("Range", spread(17).0),
        get(Project, "project", MB).with("Range", spread(500).0),
        // A condition is evaluated first.
        get(Must, "13.2.2", MB).with("Range", "bytes=0-9,1000-1009").with("If-None-Match", "{etag}").gives(&[304]),
        get(Must, "13.1.5", MB).with("Range", "bytes=0-9,1000-1009").with("If-Range", "\"other\""),
        parts(Must, "13.1.5", MB, "bytes=0-9,1000-1009", &[0..10, 1000..1010]).with("If-Range", "{etag}"),
        get(Must, "14.2", MB).with("Range", "lines=0-9,1000-1009"),
    ];
    run(&subject, rows);
}

#[test]
fn near_ranges_are_sent_as_one() {
    let subject = Subject::new();
    let steps: Vec<_> = (0..40).map(|i| 50 * i..50 * i + 10).collect();
    let bytes: Vec<_> = (0..24).map(|i| i..i + 1).collect();
    let rows = vec![
        // Overlapping, one in another, adjacent, the same.
        one(Project, "15.3.7.2", MB, "bytes=0-99,50-149", 0..150),
        one(Project, "15.3.7.2", MB, "bytes=50-149,0-99", 0..150),
        one(Project, "15.3.7.2", MB, "bytes=0-999,100-199", 0..1000),
        one(Project, "15.3.7.2", MB, "bytes=100-199,0-999", 0..1000),
        one(Project, "14.1.2", MB, "bytes=500-600,601-999", 500..1000),
        one(Project, "14.1.2", MB, "bytes=500-700,601-999", 500..1000),
        one(Project, "15.3.7.2", MB, "bytes=7-7,7-7", 7..8),
        one(Project, "15.3.7.2", MB, "bytes=0-9,5-14,10-19,15-24", 0..25),
        one(Project, "15.3.7.2", MB, "bytes=999990-,-10", 999_990..1_000_000),
        // Less than 80 bytes between them.
        one(Project, "project", MB, "bytes=0-9,11-19", 0..20),
        one(Project, "project", MB, "bytes=0-9,89-99", 0..100),
        one(Project, "project", MB, "bytes=89-99,0-9", 0..100),
        parts(Project, "project", MB, "bytes=0-9,90-99", &[0..10, 90..100]),
        parts(Project, "project", MB, "bytes=90-99,0-9", &[90..100, 0..10]),
        // The third is between the others, and near both.
        one(Project, "project", MB, "bytes=0-9,150-159,80-89", 0..160),
        one(Project, "project", MB, "bytes=150-159,0-9,80-89", 0..160),
        // What is joined stands where the first of it stood.
        parts(Project, "15.3.7.2", MB, "bytes=1000-1009,0-9,1010-1019", &[1000..1020, 0..10]),
        parts(Project, "15.3.7.2", MB, "bytes=5000-5009,1005-1014,0-9,1000-1009", &[5000..5010, 1000..1015, 0..10]),
        // "A server MUST NOT generate a multipart response to a request for a single range"; with one left, we do not.
        one(Must, "15.3.7.2", MB, "bytes=0-9", 0..10),
        one(Project, "project", MB, "bytes=0-9,1000000-", 0..10),
        one(Project, "project", MB, "bytes=2000000-3000000,-10", 999_990..1_000_000),
        // What counts is how many are left.
        one(Project, "project", MB, &header(&steps), 0..1960),
        one(Project, "project", TINY, &header(&bytes), 0..24),
        // More than the file has, if all were sent.
        one(Project, "project", TINY, "bytes=0-11,12-23", 0..24),
        get(Project, "project", TINY).with("Range", "bytes=0-12,12-23"),
        get(Project, "project", TINY).with("Range", "bytes=0-,0-"),
        get(Project, "project", TINY).with("Range", "bytes=0-,-1"),
        get(Project, "project", MB).with("Range", format!("bytes={}", ["0-"; 100].join(","))),
        get(Project, "project", BIG).with("Range", "bytes=0-,0-0").with("If-None-Match", "{etag}").gives(&[304]),
        // Clamped first, then summed up.
        one(Project, "project", TINY, "bytes=0-3,20-18446744073709551615", 0..24),
        one(Project, "project", TINY, "bytes=0-3,18446744073709551615-", 0..4),
    ];
    run(&subject, rows);
}

#[test]
fn a_boundary_that_was_seen_can_be_in_a_file() {
    let subject = Subject::new();
    let fetch = || subject.get("/mb.gguf", &[("Range", "bytes=0-999,2000-2999")]);
    let content_type = fetch().header("content-type").unwrap().to_owned();
    let boundary = multipart::boundary(&content_type).unwrap();
    let hostile = format!("GGUF\r\n--{boundary}\r\n\r\n--{boundary}--\r\n").repeat(200);
    write(&subject.root.join(MB), hostile.as_bytes());
    let response = fetch();
    let parts = multipart::parse(response.header("content-type").unwrap(), &response.body).unwrap();
    let ranges: Vec<_> = parts.iter().map(|part| part.range).collect();
    let len = hostile.len() as u64;
    assert_eq!(ranges, [(0, 999, len), (2000, 2999, len)]);
    assert_eq!([&*parts[0].bytes, &*parts[1].bytes], [&hostile.as_bytes()[..1000], &hostile.as_bytes()[2000..3000]]);
}
