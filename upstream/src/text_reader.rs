//! Tokens out of the text of a server that tells no ids.

use gptoss_text::Tokenizer;

/// The longest name of a special token that is waited for, in bytes.
const LONGEST_NAME: usize = 64;

/// Encodes text as it comes. Names of special tokens are those tokens: a server that tells text only cannot tell them from a
/// model that spells them. The ids of other text are those of the tokenizer, which need not be those that the model chose; their
/// text is the same.
#[derive(Debug, Default)]
pub(crate) struct TextReader {
    /// The end of the text so far that may be the beginning of a name.
    held: String,
}

impl TextReader {
    /// The tokens that more text completes.
    pub fn push(&mut self, tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        self.held.push_str(text);
        let keep = self.held.rfind('<').filter(|at| may_become_name(&self.held[*at..]));
        let rest = keep.map_or_else(String::new, |at| self.held.split_off(at));
        tokenizer.encode_with_specials(&std::mem::replace(&mut self.held, rest))
    }

    /// The tokens of what was held back, now that nothing comes any more.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Vec<u32> {
        tokenizer.encode_with_specials(&std::mem::take(&mut self.held))
    }
}

fn may_become_name(text: &str) -> bool {
    let is_begun = text.len() == 1 || text.starts_with("<|");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '|';
    is_begun && text.len() < LONGEST_NAME && text[1..].chars().all(is_word)
}

#[cfg(test)]
mod tests {
    use gptoss_model::{Quiet, read_header, tokenizer};
    use gptoss_source::MemorySource;

    use super::*;

    #[test]
    fn names_are_special_tokens_however_the_text_is_cut() {
        let file = include_bytes!("../../models/nano/gpt-oss-nano.gguf").to_vec();
        let header = pollster::block_on(read_header(&MemorySource::new("nano", file), &Quiet)).expect("a model");
        let tokenizer = tokenizer(&header.gguf).expect("a tokenizer");
        let text =
            "<|channel|>analysis<|message|>a <b <| c é<|end|><|start|>assistant<|channel|>final<|message|>d<|return|>";
        let specials =
            |tokens: &[u32]| tokens.iter().copied().filter(|id| tokenizer.is_special(*id)).collect::<Vec<_>>();
        let whole = specials(&tokenizer.encode_with_specials(text));
        assert_eq!(whole.len(), 7);
        for size in 1..12 {
            let mut reader = TextReader::default();
            let letters: Vec<char> = text.chars().collect();
            let mut tokens: Vec<u32> = letters
                .chunks(size)
                .flat_map(|piece| reader.push(&tokenizer, &piece.iter().collect::<String>()))
                .collect();
            tokens.extend(reader.finish(&tokenizer));
            assert_eq!(tokenizer.decode(&tokens).as_deref(), Ok(text));
            assert_eq!(specials(&tokens), whole, "{size} letters at a time");
        }
        let mut reader = TextReader::default();
        assert_eq!(reader.push(&tokenizer, "<|channel|>").len(), 1, "a whole name is not held back");
        assert!(reader.push(&tokenizer, "a <|ret").len() < 4);
        assert!(!reader.finish(&tokenizer).is_empty(), "no name: it is text");
    }
}
