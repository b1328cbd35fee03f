//! Reads multipart bodies back, as a client would: RFC 9110, 14.6, and RFC 2046, 5.1.1.

use gguf_serve::multipart::Multipart;
use gguf_serve::range::ByteRange;

const PART_TYPE: &str = "application/octet-stream";

/// Lays `ranges` out as a body, and reads them back.
pub fn check(ranges: &[ByteRange], len: u64) {
    let body = Multipart::new(ranges, len, PART_TYPE);
    let boundary = body.content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    assert!((1..=70).contains(&boundary.len()) && boundary.bytes().all(|b| b.is_ascii_alphanumeric()), "{boundary}");
    let mut bytes = u128::try_from(body.tail.len()).expect("a length");
    let mut read_back = Vec::new();
    for (index, (head, range)) in body.parts.iter().enumerate() {
        // The line end before a delimiter belongs to it; the first has none before it.
        let delimiter = format!("{}--{boundary}", if index == 0 { "" } else { "\r\n" });
        let range_in_head = range_of(head, &delimiter, len);
        assert_eq!(range_in_head, *range, "what the head says and what follows it");
        read_back.push(range_in_head);
        bytes += head.len() as u128 + (u128::from(range.last) - u128::from(range.first) + 1);
    }
    assert_eq!(read_back, ranges);
    assert_eq!(body.tail, format!("\r\n--{boundary}--\r\n"));
    assert_eq!(u128::from(body.len_bytes()), bytes);
}

/// The range in a part's head, which has to be well-formed and of a file of `len` bytes.
fn range_of(head: &[u8], delimiter: &str, len: u64) -> ByteRange {
    let head = std::str::from_utf8(head).expect("a head is text");
    let fields = head.strip_prefix(delimiter).expect("a delimiter").strip_prefix("\r\n").expect("a line of its own");
    let fields = fields.strip_suffix("\r\n\r\n").expect("an empty line ends the head");
    let (mut types, mut ranges) = (Vec::new(), Vec::new());
    for field in fields.split("\r\n") {
        match field.split_once(": ").expect("a name and a value") {
            ("Content-Type", value) => types.push(value),
            ("Content-Range", value) => ranges.push(value),
            _ => panic!("{field}: not a field of a part"),
        }
    }
    assert_eq!((&types[..], ranges.len()), (&[PART_TYPE][..], 1), "{head:?}");
    let (range, of) =
        ranges[0].strip_prefix("bytes ").and_then(|value| value.split_once('/')).expect("range and length");
    assert_eq!(of, len.to_string());
    let (first, last) = range.split_once('-').expect("two offsets");
    let offset = |text: &str| text.parse().expect("an offset");
    ByteRange { first: offset(first), last: offset(last) }
}
