//! Texts that come in from outside: UTF-8, with or without the mark that Windows programs put before it.

use std::io::{self, Read};

/// Bytes that PowerShell 5, Excel and Notepad write before a text in UTF-8.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// `bytes` without a byte-order mark, which RFC 8259 lets a reader ignore before JSON, and which is no part of any
/// other text either.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes)
}

/// Whether a text begins with the byte-order mark of UTF-16.
pub fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}

/// Description of the problem with such a text.
pub const UTF16_PROBLEM: &str = "it is UTF-16, by its byte-order mark";
pub const UTF16_EXPECTED: &str = "UTF-8 (in PowerShell 5: Out-File -Encoding utf8, and $OutputEncoding for pipes)";

/// Reads a text to its end.
///
/// # Errors
/// The reader's own, and one of kind `InvalidData` in words for the user where the bytes are not UTF-8.
pub fn read_text(mut reader: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    if is_utf16(&bytes) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{UTF16_PROBLEM}; expected {UTF16_EXPECTED}")));
    }
    let text = std::str::from_utf8(without_mark(&bytes));
    text.map(str::to_owned).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("it is not UTF-8 at byte {}", error.valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_ignored_and_utf16_is_named() {
        assert_eq!(read_text(&b"\xef\xbb\xbfHi"[..]).expect("UTF-8"), "Hi");
        assert_eq!(
            read_text(&b"Hi\xef\xbb\xbf"[..]).expect("UTF-8"),
            "Hi\u{feff}",
            "only before the text it is a mark"
        );
        for bytes in [&b"\xff\xfeH\0"[..], b"\xfe\xff\0H"] {
            assert!(read_text(bytes).expect_err("refused").to_string().contains("UTF-16"));
        }
        assert!(read_text(&b"caf\xe9"[..]).expect_err("refused").to_string().contains("at byte 3"));
    }
}
