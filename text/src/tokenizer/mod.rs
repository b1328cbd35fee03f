//! Byte-level BPE from the arrays of a GGUF file.

mod alphabet;
mod bpe;
mod merges;
mod special;
mod split;
mod stream;
mod vocab;

use thiserror::Error;

pub use special::Special;
use special::SpecialTable;
pub use split::split_o200k;
pub use stream::StreamDecoder;
pub(crate) use stream::Utf8Stream;
use vocab::{Kind, Vocab};

/// Why a vocabulary cannot be used. Nothing is guessed: such a file has a broken or a different tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TokenizerError {
    /// `tokenizer.ggml.tokens` and `tokenizer.ggml.token_type` differ in length.
    #[error("the vocabulary has {tokens} tokens but {types} token types; the two arrays must be equally long")]
    TypeCount { tokens: usize, types: usize },
    /// Ids or the total length of the tokens exceed 32 bits.
    #[error("the vocabulary has {tokens} tokens and {bytes} bytes or more; both must fit in 32 bits")]
    TooLarge { tokens: usize, bytes: usize },
    /// A token has a ggml type that a byte-level BPE does not use.
    #[error(
        "token {id} ({token:?}) has type {token_type}; a byte-level vocabulary has only 1 (normal), 3 (control), \
         4 (user-defined) and 5 (unused)"
    )]
    TokenType { id: u32, token: String, token_type: i32 },
    /// A normal token has a character outside the GPT-2 byte-to-character alphabet.
    #[error(
        "token {id} ({token:?}) holds {character:?}, which is not in the byte-level alphabet; \
         is this a byte-level BPE vocabulary?"
    )]
    Alphabet { id: u32, token: String, character: char },
    /// A normal token has no text.
    #[error("token {id} is normal text but empty")]
    EmptyToken { id: u32 },
    /// Two normal tokens have the same bytes.
    #[error("tokens {first} and {second} are the same text; normal tokens must differ")]
    Duplicate { first: u32, second: u32 },
    /// A byte has no token of its own, so that some text could not be encoded.
    #[error("no token stands for the single byte 0x{byte:02x}; a byte-level vocabulary has all 256")]
    MissingByte { byte: u8 },
    /// A line of `tokenizer.ggml.merges` does not join two tokens into a third.
    #[error("merge {index} ({merge:?}) is not usable: {reason}")]
    Merge { index: usize, merge: String, reason: &'static str },
    /// A special token that Harmony needs is missing.
    #[error("the special token {name} is missing; gpt-oss cannot converse without it")]
    MissingSpecial { name: &'static str },
    /// Two special tokens have the same name.
    #[error("the special token {name} occurs twice, as {first} and {second}")]
    DuplicateSpecial { name: String, first: u32, second: u32 },
}

/// A token id that the vocabulary does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
pub struct UnknownToken {
    /// The id that was asked for.
    pub id: u32,
    /// Number of ids in the vocabulary.
    pub vocab_size: usize,
}

/// Text to token ids and back, for one vocabulary. Immutable; about 10 MB for that of gpt-oss-20b.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    merges: merges::MergeTable,
    specials: SpecialTable,
}

impl Tokenizer {
    /// Builds the tokenizer from a GGUF file's arrays.
    ///
    /// - `tokens`: `tokenizer.ggml.tokens`, by id. Normal ones in the GPT-2 byte-to-character alphabet, specials in
    ///   plain text.
    /// - `token_types`: `tokenizer.ggml.token_type`. Control (3) and user-defined (4) tokens are specials.
    /// - `merges`: `tokenizer.ggml.merges`, `"left right"`, first preferred.
    ///
    /// # Errors
    /// [`TokenizerError`] where the arrays contradict each other, are not byte-level BPE, or lack a special that
    /// Harmony needs (see [`Special`]).
    pub fn new<T: AsRef<str>, M: AsRef<str>>(
        tokens: impl IntoIterator<Item = T>,
        token_types: &[i32],
        merges: impl IntoIterator<Item = M>,
    ) -> Result<Tokenizer, TokenizerError> {
        let vocab = Vocab::new(tokens, token_types)?;
        let specials = SpecialTable::new(&vocab)?;
        let merges = merges::MergeTable::new(&vocab, merges)?;
        Ok(Tokenizer { vocab, merges, specials })
    }

    /// Number of ids: they are `0..vocab_size()`.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The ids of `text` as plain text: whatever it spells, it never becomes a special token.
    pub fn encode_ordinary(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.append_ordinary(text, &mut ids);
        ids
    }

    /// Appends the ids of `text` as plain text.
    pub(crate) fn append_ordinary(&self, text: &str, ids: &mut Vec<u32>) {
        let mut merger = bpe::Merger::default();
        for piece in split_o200k(text) {
            // o200k's own encoder does the same. Most pieces are tokens, and merging would arrive at them, too.
            match self.vocab.find(piece.as_bytes()) {
                Some(id) => ids.push(id),
                None => merger.encode(&self.vocab, &self.merges, piece.as_bytes(), ids),
            }
        }
    }

    /// The ids of **trusted** text in which the names of specials stand for the specials, such as a written-out Harmony
    /// prompt. Never give it text from a user, a tool or a model: use [`Tokenizer::encode_ordinary`] or
    /// [`crate::harmony::Renderer`] for those.
    pub fn encode_with_specials(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while let Some((at, length, id)) = self.specials.find_first(rest) {
            self.append_ordinary(&rest[..at], &mut ids);
            ids.push(id);
            rest = &rest[at + length..];
        }
        self.append_ordinary(rest, &mut ids);
        ids
    }

    /// The bytes that token `id` stands for: of a special its name, of an unused id nothing. A token may end inside a
    /// character; use [`StreamDecoder`] for text.
    ///
    /// # Errors
    /// `id` is outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8], UnknownToken> {
        self.vocab.get(id).map(|(bytes, _)| bytes).ok_or_else(|| self.unknown(id))
    }

    /// Whether `id` is a special token. An id outside the vocabulary is not.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocab.get(id), Some((_, Kind::Special)))
    }

    /// The name of special token `id`, such as `<|start|>`; `None` for any other id.
    pub fn special_name(&self, id: u32) -> Option<&str> {
        match self.vocab.get(id) {
            Some((bytes, Kind::Special)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The id of a special that Harmony uses.
    pub fn special_id(&self, special: Special) -> u32 {
        self.specials.id(special)
    }

    /// Which of Harmony's specials `id` is, if any.
    pub fn special(&self, id: u32) -> Option<Special> {
        self.specials.special(id)
    }

    /// The id of the special token called `name`, one of Harmony's or another.
    pub fn find_special(&self, name: &str) -> Option<u32> {
        self.specials.find(name)
    }

    /// Whether generation ends at `id`: `<|return|>`, `<|call|>` or `<|endoftext|>`. `<|end|>` only ends a message.
    pub fn is_stop(&self, id: u32) -> bool {
        self.special(id).is_some_and(Special::is_stop)
    }

    /// The ids that end generation.
    pub fn stop_ids(&self) -> [u32; 3] {
        Special::STOPS.map(|special| self.special_id(special))
    }

    /// The text of `ids`, with specials by name and U+FFFD for what is not UTF-8.
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, UnknownToken> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.token_bytes(id)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn unknown(&self, id: u32) -> UnknownToken {
        UnknownToken { id, vocab_size: self.vocab_size() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encoders of merge lists have no shortcut for pieces that are tokens. The demo model's vocabulary was trained as
    /// such a list, so the shortcut must not matter.
    #[test]
    fn merging_arrives_at_every_token_of_the_demo_model() -> Result<(), Box<dyn std::error::Error>> {
        let file = include_bytes!("../../../models/nano/gpt-oss-nano.gguf");
        let Ok(gptoss_gguf::Progress::Ready(gguf)) = gptoss_gguf::parse(file, file.len() as u64) else {
            panic!("the demo model is a whole GGUF file");
        };
        let tokens = gguf.metadata.string_array("tokenizer.ggml.tokens")?;
        let merges = gguf.metadata.string_array("tokenizer.ggml.merges")?;
        let types = gguf.metadata.i32_array("tokenizer.ggml.token_type")?;
        let tokenizer = Tokenizer::new(tokens.iter(), &types, merges.iter())?;
        let mut merger = bpe::Merger::default();
        for id in 0..tokenizer.vocab_size() as u32 {
            if !tokenizer.is_special(id) {
                let mut ids = Vec::new();
                merger.encode(&tokenizer.vocab, &tokenizer.merges, tokenizer.token_bytes(id)?, &mut ids);
                assert_eq!(ids, [id]);
            }
        }
        Ok(())
    }
}
