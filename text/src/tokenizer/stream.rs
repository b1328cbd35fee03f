//! Token by token to text, without ever cutting a character in two.

use super::{Tokenizer, UnknownToken};

/// Turns a stream of bytes into text: holds back the bytes of an unfinished character until the rest arrives.
/// Bytes that cannot be UTF-8 become U+FFFD, one for each maximal invalid part, as in [`String::from_utf8_lossy`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Utf8Stream {
    /// Bytes of an unfinished character; at most three between calls.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The text that `bytes` completes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            rest = after;
            let Some(invalid) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[invalid..];
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        text
    }

    /// What is still held back, as U+FFFD; empty when nothing is. The stream is then as new.
    pub(crate) fn flush(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Decodes tokens to text as they arrive. Specials appear by name, as in [`Tokenizer::decode`]: this is for a
/// transcript; for an answer use [`crate::harmony::Parser`].
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    utf8: Utf8Stream,
}

impl StreamDecoder {
    /// A decoder that has seen nothing.
    pub fn new() -> StreamDecoder {
        StreamDecoder::default()
    }

    /// The text that token `id` completes: possibly none, when it ends inside a character.
    ///
    /// # Errors
    /// `id` is outside the vocabulary; the decoder is unchanged.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, UnknownToken> {
        let bytes = tokenizer.token_bytes(id)?;
        if !tokenizer.is_special(id) {
            return Ok(self.utf8.push(bytes));
        }
        // A special never continues a character.
        let mut text = self.utf8.flush();
        text.push_str(&String::from_utf8_lossy(bytes));
        Ok(text)
    }

    /// Ends the stream: U+FFFD for a character that was never finished, else nothing.
    pub fn finish(mut self) -> String {
        self.utf8.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_text_gives_the_text() {
        let text = "aé界😊\u{10FFFF}z";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut stream = Utf8Stream::default();
                let bytes = text.as_bytes();
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                let mut whole: String = parts.iter().map(|part| stream.push(part)).collect();
                whole.push_str(&stream.flush());
                assert_eq!(whole, text);
            }
        }
    }

    #[test]
    fn bytewise_it_equals_the_lossy_conversion() {
        let cases: [&[u8]; 6] = [
            b"\xF0\x9F",
            b"\xF0\x9F\x98",
            b"\xC0\x80a",
            b"a\xED\xA0\x80b",
            b"\xE7\x95 \xE7\x95\x8C",
            b"\xFF\xFE\xF4\x90",
        ];
        for bytes in cases {
            let mut stream = Utf8Stream::default();
            let mut text: String = bytes.iter().map(|&byte| stream.push(&[byte])).collect();
            text.push_str(&stream.flush());
            assert_eq!(text, String::from_utf8_lossy(bytes), "{bytes:x?}");
        }
    }
}
