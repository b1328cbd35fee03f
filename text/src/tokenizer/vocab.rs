//! The vocabulary: the bytes of every token, and back.

use xxhash_rust::xxh3::xxh3_64;

use super::TokenizerError;
use super::alphabet;

/// ggml's token types, as a GGUF file stores them in `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    /// A hole in the numbering: the id exists, but stands for no text.
    pub(super) const UNUSED: i32 = 5;
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes that ordinary text is made of.
    Normal,
    /// A marker with a name; text never becomes one by accident.
    Special,
    /// An id without meaning.
    Unused,
}

/// Byte strings by id in one block, and an open-addressing table from bytes to id for the normal ones.
#[derive(Debug)]
pub(super) struct Vocab {
    bytes: Box<[u8]>,
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`.
    starts: Box<[u32]>,
    kinds: Box<[Kind]>,
    /// Id + 1 of normal tokens at their hash or the next free place after it, 0 where free. A power of two long.
    slots: Box<[u32]>,
    /// The token of each single byte.
    byte_tokens: [u32; 256],
}

const FREE: u32 = 0;

impl Vocab {
    /// Reads the vocabulary: `tokens` in the byte alphabet, specials in plain text, with their ggml types.
    ///
    /// # Errors
    /// Different lengths, too many tokens, an unsupported type, a character outside the alphabet, an empty or repeated
    /// normal token, a byte without a token.
    pub(super) fn new<T: AsRef<str>>(
        tokens: impl IntoIterator<Item = T>,
        token_types: &[i32],
    ) -> Result<Vocab, TokenizerError> {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        let mut kinds = Vec::with_capacity(token_types.len());
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            let (token, id) = (token.as_ref(), kinds.len());
            // Ids go to the model as 32-bit numbers; so do the offsets here.
            let overflow = || TokenizerError::TooLarge { tokens: id + 1, bytes: bytes.len() };
            let id32 = u32::try_from(id).map_err(|_too_large| overflow())?;
            let Some(&token_type) = token_types.get(id) else {
                return Err(TokenizerError::TypeCount { tokens: id + 1 + tokens.count(), types: id });
            };
            let kind = match token_type {
                token_type::NORMAL => Kind::Normal,
                token_type::CONTROL | token_type::USER_DEFINED => Kind::Special,
                token_type::UNUSED => Kind::Unused,
                _ => return Err(TokenizerError::TokenType { id: id32, token: token.to_owned(), token_type }),
            };
            match kind {
                Kind::Normal if token.is_empty() => return Err(TokenizerError::EmptyToken { id: id32 }),
                Kind::Normal => alphabet::decode_into(token, &mut bytes)
                    .map_err(|character| TokenizerError::Alphabet { id: id32, token: token.to_owned(), character })?,
                Kind::Special => bytes.extend_from_slice(token.as_bytes()),
                Kind::Unused => {}
            }
            let end = u32::try_from(bytes.len());
            starts.push(end.map_err(|_too_large| TokenizerError::TooLarge { tokens: id + 1, bytes: bytes.len() })?);
            kinds.push(kind);
        }
        if kinds.len() != token_types.len() {
            return Err(TokenizerError::TypeCount { tokens: kinds.len(), types: token_types.len() });
        }
        let slots = vec![FREE; (kinds.len() * 2).next_power_of_two()].into();
        let mut vocab =
            Vocab { bytes: bytes.into(), starts: starts.into(), kinds: kinds.into(), slots, byte_tokens: [0; 256] };
        vocab.index()?;
        Ok(vocab)
    }

    /// Fills `slots` and `byte_tokens`.
    fn index(&mut self) -> Result<(), TokenizerError> {
        for id in 0..self.len() as u32 {
            if self.kinds[id as usize] != Kind::Normal {
                continue;
            }
            match self.probe(self.bytes_of(id)) {
                Ok(first) => return Err(TokenizerError::Duplicate { first, second: id }),
                Err(free) => self.slots[free] = id + 1,
            }
        }
        for byte in 0..=u8::MAX {
            self.byte_tokens[usize::from(byte)] = self.find(&[byte]).ok_or(TokenizerError::MissingByte { byte })?;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The bytes and kind of token `id`, or `None` outside the vocabulary.
    pub(super) fn get(&self, id: u32) -> Option<(&[u8], Kind)> {
        let &kind = self.kinds.get(id as usize)?;
        Some((self.bytes_of(id), kind))
    }

    /// The normal token that is exactly `bytes`.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.probe(bytes).ok()
    }

    /// The token of a single byte.
    pub(super) fn byte_token(&self, byte: u8) -> u32 {
        self.byte_tokens[usize::from(byte)]
    }

    fn bytes_of(&self, id: u32) -> &[u8] {
        let id = id as usize;
        &self.bytes[self.starts[id] as usize..self.starts[id + 1] as usize]
    }

    /// The token that is `bytes`, or else the free slot where it would be. At most half of the slots are taken. The
    /// keys are the vocabulary's, so nobody can choose them to collide, and a lookup of chosen text only meets the few
    /// tokens around its slot.
    fn probe(&self, bytes: &[u8]) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = xxh3_64(bytes) as usize & mask;
        loop {
            match self.slots[slot] {
                FREE => return Err(slot),
                taken if self.bytes_of(taken - 1) == bytes => return Ok(taken - 1),
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}
