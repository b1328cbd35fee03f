//! `multipart/byteranges`: RFC 9110, section 14.6, laid out before a byte is read so that its length is known.

use hyper::body::Bytes;
use serve_kit::token::random_secret;

use crate::range::ByteRange;

/// Several ranges as one body: in turn a head from memory and a stretch of the representation, and a tail.
#[derive(Debug, Clone)]
pub struct Multipart {
    /// Value of `Content-Type`; it names the boundary.
    pub content_type: String,
    /// Delimiter and headers of each part, with its range.
    pub parts: Vec<(Bytes, ByteRange)>,
    /// What closes the body.
    pub tail: Bytes,
}

impl Multipart {
    /// Lays out `ranges` of a representation of `len` bytes, which is of the type `part_type`.
    pub fn new(ranges: &[ByteRange], len: u64, part_type: &str) -> Self {
        // Nobody can have put 128 random bits into the parts beforehand.
        Self::with_boundary(ranges, len, part_type, &random_secret())
    }

    fn with_boundary(ranges: &[ByteRange], len: u64, part_type: &str, boundary: &str) -> Self {
        let head = |(index, range): (usize, &ByteRange)| {
            let line_end = if index == 0 { "" } else { "\r\n" };
            let ByteRange { first, last } = *range;
            let head = format!(
                "{line_end}--{boundary}\r\nContent-Type: {part_type}\r\nContent-Range: bytes {first}-{last}/{len}\r\n\r\n"
            );
            (Bytes::from(head), *range)
        };
        Self {
            content_type: format!("multipart/byteranges; boundary={boundary}"),
            parts: ranges.iter().enumerate().map(head).collect(),
            tail: Bytes::from(format!("\r\n--{boundary}--\r\n")),
        }
    }

    /// Length of the whole body in bytes.
    pub fn len_bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|(head, range)| head.len() as u64 + range.len_bytes());
        parts.sum::<u64>() + self.tail.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_byte_by_byte() {
        let ranges = [(900, 909), (0, 0)].map(|(first, last)| ByteRange { first, last });
        let body = Multipart::with_boundary(&ranges, 1000, "a/b", "X");
        assert_eq!(body.content_type, "multipart/byteranges; boundary=X");
        assert_eq!(body.parts[0].0, "--X\r\nContent-Type: a/b\r\nContent-Range: bytes 900-909/1000\r\n\r\n");
        assert_eq!(body.parts[1].0, "\r\n--X\r\nContent-Type: a/b\r\nContent-Range: bytes 0-0/1000\r\n\r\n");
        assert_eq!(body.tail, "\r\n--X--\r\n");
        let written = body.parts[0].0.len() + 10 + body.parts[1].0.len() + 1 + body.tail.len();
        assert_eq!(body.len_bytes(), written as u64);
    }

    #[test]
    fn boundaries_differ() {
        let one = Multipart::new(&[], 0, "a/b").content_type;
        assert_ne!(one, Multipart::new(&[], 0, "a/b").content_type);
        // RFC 2046: 1 to 70 characters.
        assert_eq!(one.rsplit('=').next().map(str::len), Some(32));
    }
}
