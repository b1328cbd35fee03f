//! One range: RFC 9110, 14.1 and 14.2.

use crate::fixtures::{BIG, BIG_LEN, EMPTY, MB, TINY};
use crate::support::Subject;
use crate::table::{Level, Must, Project, Row, Should, get, run};

/// A request for a range that is answered with these bytes.
fn part(level: Level, section: &'static str, file: &str, range: &str, bytes: std::ops::Range<u64>) -> Row {
    get(level, section, file).with("Range", range).slice(bytes)
}

/// One that is answered with the whole file.
fn whole(level: Level, section: &'static str, file: &str, range: &str) -> Row {
    get(level, section, file).with("Range", range)
}

/// One that cannot be satisfied.
fn never(level: Level, section: &'static str, file: &str, range: &str) -> Row {
    get(level, section, file).with("Range", range).gives(&[416])
}

#[test]
fn plain_single_ranges() {
    let subject = Subject::peer_or_own();
    let digits = "9".repeat(200);
    let rows = vec![
        get(Must, "9.3.1", TINY),
        part(Must, "14.1.2", TINY, "bytes=0-0", 0..1),
        part(Must, "14.1.2", TINY, "bytes=4-11", 4..12),
        part(Must, "14.1.2", TINY, "bytes=23-23", 23..24),
        part(Must, "14.1.2", TINY, "bytes=0-23", 0..24),
        part(Must, "14.1.2", TINY, "bytes=0-", 0..24),
        part(Must, "14.1.2", TINY, "bytes=23-", 23..24),
        part(Must, "14.1.2", TINY, "bytes=-1", 23..24),
        part(Must, "14.1.2", TINY, "bytes=-24", 0..24),
        part(Must, "14.1.2", MB, "bytes=65535-131072", 65_535..131_073),
        part(Must, "14.1.2", MB, "bytes=999999-", 999_999..1_000_000),
        part(Must, "14.1.2", MB, "bytes=-65537", 934_463..1_000_000),
        // Beyond the end.
        part(Must, "14.1.2", TINY, "bytes=0-24", 0..24),
        part(Must, "14.1.2", TINY, "bytes=20-1000", 20..24),
        part(Must, "14.1.2", TINY, "bytes=-25", 0..24),
        part(Must, "14.1.2", TINY, "bytes=-1000000", 0..24),
        never(Must, "15.5.17", TINY, "bytes=24-"),
        never(Must, "15.5.17", TINY, "bytes=24-24"),
        never(Must, "15.5.17", TINY, "bytes=1000-2000"),
        never(Must, "14.1.2", TINY, "bytes=-0"),
        never(Must, "15.5.17", MB, "bytes=1000000-"),
        // The unit.
        part(Must, "14.1", TINY, "BYTES=4-5", 4..6),
        part(Must, "14.1", TINY, "Bytes=-2", 22..24),
        whole(Must, "14.2", TINY, "lines=0-3"),
        whole(Must, "14.2", TINY, "none=0-3"),
        whole(Must, "14.2", TINY, "byte=0-3"),
        whole(Must, "14.2", TINY, "bytes2=0-3"),
        whole(Must, "14.2", TINY, "lines=100-"),
        // White space is around the value, and around the elements of lists (as in the examples of 14.1.2).
        part(Must, "5.5", TINY, " \t bytes=4-5 \t ", 4..6),
        part(Should, "14.1.2", TINY, "bytes= 4-5", 4..6),
        part(Must, "5.6.1.2", TINY, "bytes=,4-5", 4..6),
        part(Must, "5.6.1.2", TINY, "bytes=4-5 , ,", 4..6),
        // An empty file has no byte that a range could begin with; only a suffix of it is satisfiable.
        get(Must, "9.3.1", EMPTY),
        never(Project, "14.1.2", EMPTY, "bytes=0-"),
        never(Project, "14.1.2", EMPTY, "bytes=0-0"),
        never(Project, "14.1.2", EMPTY, "bytes=5-9"),
        never(Project, "14.1.2", EMPTY, "bytes=-0"),
        whole(Must, "14.1.2", EMPTY, "bytes=-1"),
        whole(Project, "14.1.2", EMPTY, "bytes=0-,-5"),
        whole(Project, "14.2", EMPTY, "bytes=x"),
        // Names of headers are in any case.
        get(Must, "5.1", TINY).with("rAnGe", "bytes=4-5").slice(4..6),
        // Two lines are joined with a comma, which makes no valid value.
        get(Project, "5.3", TINY).with("Range", "bytes=0-1").with("Range", "bytes=4-5"),
        // Nothing else in the request changes what is sent.
        part(Must, "14.2", TINY, "bytes=4-5", 4..6).with("Content-Range", "bytes 0-0/24"),
        part(Project, "project", TINY, "bytes=4-5", 4..6).with("Accept-Encoding", "gzip, br, zstd, identity;q=0"),
        part(Project, "project", TINY, "bytes=4-5", 4..6).with("Accept", "text/html").with("TE", "trailers"),
        get(Project, "project", MB).with("Accept-Encoding", "gzip, deflate, br"),
        get(Project, "project", TINY).with("Want-Content-Digest", "sha-256=1").with("Prefer", "return=minimal"),
        // Long numerals (14.1.2: "prevent parsing errors due to integer conversion overflows").
        part(Must, "14.1.2", TINY, "bytes=0-4294967296", 0..24),
        part(Must, "14.1.2", TINY, "bytes=0-9223372036854775807", 0..24),
        part(Must, "14.1.2", TINY, "bytes=0-9223372036854775808", 0..24),
        part(Must, "14.1.2", TINY, "bytes=1-18446744073709551614", 1..24),
        part(Must, "14.1.2", TINY, "bytes=0-18446744073709551615", 0..24),
        part(Must, "14.1.2", TINY, "bytes=0-18446744073709551616", 0..24),
        part(Must, "14.1.2", TINY, "bytes=20-18446744073709551617", 20..24),
        part(Must, "14.1.2", TINY, &format!("bytes=5-{digits}"), 5..24),
        part(Must, "14.1.2", TINY, "bytes=-9223372036854775808", 0..24),
        part(Must, "14.1.2", TINY, "bytes=-18446744073709551615", 0..24),
        part(Must, "14.1.2", TINY, "bytes=-18446744073709551617", 0..24),
        part(Must, "14.1.2", TINY, &format!("bytes=-{digits}"), 0..24),
        never(Must, "14.1.2", TINY, "bytes=4294967296-"),
        never(Must, "14.1.2", TINY, "bytes=4294967296-4294967300"),
        never(Must, "14.1.2", TINY, "bytes=9223372036854775808-"),
        never(Must, "14.1.2", TINY, "bytes=18446744073709551615-"),
        never(Must, "14.1.2", TINY, "bytes=18446744073709551616-18446744073709551620"),
        never(Must, "14.1.2", TINY, &format!("bytes={digits}-")),
        // The last is less than the first, if one could count so far.
        whole(Must, "14.1.1", TINY, "bytes=18446744073709551620-18446744073709551616").gives(&[200, 416]),
        part(Must, "14.1.1", TINY, "bytes=00-0000", 0..1),
        part(Must, "14.1.1", TINY, "bytes=0000000000000000000000000004-00000000000000000000000000011", 4..12),
        part(Must, "14.1.1", TINY, "bytes=-0000000000000000000000000005", 19..24),
        never(Must, "14.1.1", TINY, "bytes=-000"),
        // Beyond what 32 bits count.
        part(Must, "14.1.2", BIG, "bytes=4294967292-4294967302", (4 << 30) - 4..(4 << 30) + 7),
        part(Must, "14.1.2", BIG, "bytes=4294979641-4294979646", 4_294_979_641..4_294_979_647),
        part(Must, "14.1.2", BIG, "bytes=12345-12350", 12_345..12_351),
        part(Must, "14.1.2", BIG, "bytes=-6", BIG_LEN - 6..BIG_LEN),
        part(Must, "14.1.2", BIG, "bytes=5368709115-", BIG_LEN - 5..BIG_LEN),
        part(Must, "14.1.2", BIG, "bytes=5368709119-99999999999", BIG_LEN - 1..BIG_LEN),
        never(Must, "15.5.17", BIG, "bytes=5368709120-"),
    ];
    run(&subject, rows);
}

#[test]
fn what_is_no_valid_range_is_ignored() {
    let subject = Subject::new();
    let invalid = [
        "",
        "=",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--",
        "bytes=--3",
        "bytes=*",
        "bytes=a-b",
        "bytes=3-a",
        "bytes=3-1",
        "bytes=1-0",
        "bytes=+0-3",
        "bytes=0-+3",
        "bytes=-+3",
        "bytes=1-2-3",
        "bytes=0x0-0x3",
        "bytes=0-3.",
        "bytes=1.5-3",
        "bytes=1e0-3",
        "bytes=0..3",
        "bytes=0-3;q=1",
        "bytes=0-3/24",
        "bytes=\"0-3\"",
        "bytes=0 -3",
        "bytes=0- 3",
        "bytes=- 3",
        "bytes=1 2-3",
        "bytes =0-3",
        "bytes:0-3",
        "bytes==0-3",
        "bytes 0-3/24",
        "bytes=\u{661}-3",
        "0-3",
        "3",
        // One bad element spoils the set.
        "bytes=0-3,x",
        "bytes=x,0-3",
        "bytes=0-3,9-8",
        "bytes=0-3,-",
        "bytes=0-3,4",
        "bytes=0-3;4-5",
        "bytes=0-3 4-5",
        "bytes=0-3,bytes=10-12",
        "bytes=100-,x",
    ];
    run(&subject, invalid.map(|range| whole(Project, "14.2", TINY, range)).into());
}
