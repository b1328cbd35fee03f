//! Generated tokens as plain text: for prompts that are no conversation, and for looking at everything a model writes.

use gptoss_text::Tokenizer;

/// Turns tokens into text as they come, and finds the text at which to stop.
pub struct Continuation {
    spellings: Spellings,
    /// Show everything: specials, the stop sequence and what ends the text included.
    raw: bool,
    stop: Vec<Vec<u8>>,
    /// Not shown yet: the beginning of a character, or of what may become a stop sequence.
    held: Vec<u8>,
    /// When raw: the end of what was shown, as far as a stop sequence may begin in it.
    tail: Vec<u8>,
    text: String,
    stopped: bool,
}

impl Continuation {
    /// Text up to the first of `stop`, without the special tokens that end it; with `raw` everything.
    pub fn new(tokenizer: &Tokenizer, stop: &[String], raw: bool) -> Self {
        Self {
            spellings: Spellings::of(tokenizer),
            raw,
            stop: stop.iter().filter(|stop| !stop.is_empty()).map(|stop| stop.as_bytes().to_vec()).collect(),
            held: Vec::new(),
            tail: Vec::new(),
            text: String::new(),
            stopped: false,
        }
    }

    /// The text that a token makes visible.
    pub fn push(&mut self, id: u32) -> String {
        if self.stopped || (!self.raw && self.spellings.stop_ids.contains(&id)) {
            return String::new();
        }
        let bytes = self.spellings.of_token(id);
        self.held.extend_from_slice(bytes);
        if self.raw {
            self.tail.extend_from_slice(bytes);
            self.stopped = self.stop_begins(&self.tail).is_some();
            let longest = self.stop.iter().map(Vec::len).max().unwrap_or(1);
            self.tail.drain(..self.tail.len().saturating_sub(longest - 1));
            return self.show(incomplete_tail(&self.held));
        }
        if let Some(at) = self.stop_begins(&self.held) {
            self.stopped = true;
            self.held.truncate(at);
            return self.show(0);
        }
        let may_become = self.stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        self.show(may_become.max(incomplete_tail(&self.held)))
    }

    /// What was held back when there are no more tokens.
    pub fn finish(&mut self) -> String {
        self.show(0)
    }

    /// As [`Continuation::finish`], with a line break where the text lacks one; raw text is left as it is.
    pub fn close(&mut self) -> String {
        let mut shown = self.finish();
        if !self.raw && !self.text.is_empty() && !self.text.ends_with('\n') {
            shown.push('\n');
        }
        shown
    }

    /// A stop sequence was found.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Everything shown so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn stop_begins(&self, bytes: &[u8]) -> Option<usize> {
        self.stop.iter().filter_map(|stop| bytes.windows(stop.len()).position(|window| window == stop)).min()
    }

    /// Shows what is held, but for the last `keep` bytes.
    fn show(&mut self, keep: usize) -> String {
        let rest = self.held.split_off(self.held.len() - keep);
        let shown = String::from_utf8_lossy(&std::mem::replace(&mut self.held, rest)).into_owned();
        self.text.push_str(&shown);
        shown
    }
}

/// Bytes at the end of `text` that are the beginning of `stop`, at most all but one of it.
fn overlap(text: &[u8], stop: &[u8]) -> usize {
    (1..stop.len()).rev().find(|&len| text.ends_with(&stop[..len])).unwrap_or(0)
}

/// Bytes at the end of `text` that begin a character which is not complete.
fn incomplete_tail(text: &[u8]) -> usize {
    let last = text.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_beginning = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if is_beginning { last.len() } else { 0 }
}

/// The bytes of every token: the engine keeps the tokenizer while it answers.
struct Spellings {
    bytes: Vec<u8>,
    /// Where the bytes of token `id` end.
    ends: Vec<usize>,
    stop_ids: [u32; 3],
}

impl Spellings {
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut bytes = Vec::new();
        let ids = 0..tokenizer.vocab_size() as u32;
        let ends = ids
            .map(|id| {
                bytes.extend_from_slice(tokenizer.token_bytes(id).unwrap_or_default());
                bytes.len()
            })
            .collect();
        Self { bytes, ends, stop_ids: tokenizer.stop_ids() }
    }

    fn of_token(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let begin = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[begin..self.ends[id]]
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    /// Tokens 0 to 255 are bytes, then come the specials `<|end|>` (256) and `<|return|>` (257).
    fn continuation(stop: &[&str], raw: bool) -> Continuation {
        let names: [&[u8]; 2] = [b"<|end|>", b"<|return|>"];
        let spellings = (0..=255u8).map(|byte| vec![byte]).chain(names.map(<[u8]>::to_vec));
        let mut bytes = Vec::new();
        let ends = spellings.map(|spelling| {
            bytes.extend(spelling);
            bytes.len()
        });
        let ends = ends.collect();
        Continuation {
            spellings: Spellings { bytes, ends, stop_ids: [257; 3] },
            raw,
            stop: stop.iter().map(|stop| stop.as_bytes().to_vec()).collect(),
            held: Vec::new(),
            tail: Vec::new(),
            text: String::new(),
            stopped: false,
        }
    }

    fn said(continuation: &mut Continuation, text: &[u8], ids: &[u32]) -> Vec<String> {
        let ids = text.iter().map(|&byte| u32::from(byte)).chain(ids.iter().copied());
        let pieces: Vec<String> = ids.map(|id| continuation.push(id)).collect();
        pieces.into_iter().chain(iter::once(continuation.finish())).collect()
    }

    #[test]
    fn characters_come_whole_and_bytes_that_are_none_are_replaced() {
        let mut plain = continuation(&[], false);
        assert_eq!(said(&mut plain, "é1".as_bytes(), &[]), ["", "é", "1", ""]);
        assert_eq!(said(&mut continuation(&[], false), b"\xE7\x95", &[]), ["", "", "\u{FFFD}"]);
        assert_eq!(said(&mut continuation(&[], false), b"\xFFa", &[]).concat(), "\u{FFFD}a");
    }

    #[test]
    fn plain_text_ends_before_the_stop_sequence_and_raw_text_with_it() {
        let mut plain = continuation(&["END"], false);
        assert_eq!(said(&mut plain, b"aENbENDc", &[]).concat(), "aENb");
        assert!(plain.is_stopped() && plain.text() == "aENb");
        let mut raw = continuation(&["END"], true);
        for &byte in b"aEND" {
            assert!(!raw.is_stopped());
            raw.push(u32::from(byte));
        }
        assert!(raw.is_stopped() && raw.text() == "aEND");
        let mut cut = continuation(&["END"], false);
        assert_eq!(said(&mut cut, b"aE", &[]), ["a", "", "E"], "what was no stop sequence comes out at the end");
    }

    #[test]
    fn raw_text_has_all_specials_and_plain_text_no_end() {
        assert_eq!(said(&mut continuation(&[], true), b"a", &[256, 257]).concat(), "a<|end|><|return|>");
        assert_eq!(said(&mut continuation(&[], false), b"a", &[256, 257]).concat(), "a<|end|>");
        let mut raw = continuation(&["d|>x"], true);
        said(&mut raw, b"", &[256, u32::from(b'x')]);
        assert!(raw.is_stopped(), "a sequence may run across tokens");
    }
}
