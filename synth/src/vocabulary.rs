//! The tokenizer's arrays: o200k as GGUF converters write it, or a tiny vocabulary of the same kind.

use std::collections::HashMap;
use std::ops::Range;

use crate::SynthError;

/// ggml's token types.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const UNUSED: i32 = 5;
}

/// Which tokens a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// The 256 bytes, a few English merges, Harmony's specials, and unused ids up to `tokens`.
    Tiny {
        /// Ids in all; at least [`Vocabulary::TINY_TOKENS`].
        tokens: u32,
    },
    /// o200k_harmony as in the public files: 199,998 ranks, 21 specials, 1,069 unused ids, 446,189 merges.
    O200k,
}

/// What the keys `tokenizer.ggml.*` hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrays {
    /// Tokens by id, in the byte-level alphabet; specials as they are.
    pub tokens: Vec<String>,
    /// ggml's token types by id: 1 normal, 3 control, 5 unused.
    pub token_types: Vec<i32>,
    /// Pairs of tokens separated by a space, in order of precedence.
    pub merges: Vec<String>,
}

impl Vocabulary {
    /// Fewest ids of a tiny vocabulary: 256 bytes, 54 merges, 10 specials.
    pub const TINY_TOKENS: u32 = 320;

    /// The arrays of this vocabulary. Those of o200k take some 100 MB while they are made, and a second or two.
    ///
    /// # Errors
    /// Too few ids for a tiny vocabulary; ranks that are not o200k's.
    pub fn arrays(self) -> Result<Arrays, SynthError> {
        match self {
            Self::Tiny { tokens } => tiny(tokens),
            Self::O200k => o200k(),
        }
    }
}

impl Arrays {
    /// The id of the special token of that name, if there is one.
    pub(crate) fn special(&self, name: &str) -> Option<u32> {
        // Specials come late in every vocabulary here.
        let found = self.tokens.iter().rposition(|token| token == name)?;
        (self.token_types[found] == token_type::CONTROL).then_some(found as u32)
    }

    fn add(&mut self, token: String, token_type: i32) {
        self.tokens.push(token);
        self.token_types.push(token_type);
    }

    /// Fills up to `tokens` ids as converters fill holes in the numbering.
    fn pad(&mut self, tokens: u32) {
        for id in self.tokens.len()..tokens as usize {
            self.add(format!("[PAD{id}]"), token_type::UNUSED);
        }
    }
}

/// Bytes in the order and spelling of the byte-level alphabet: those that print stand for themselves and come first,
/// the others follow as the characters from U+0100 on.
fn alphabet() -> [(u8, char); 256] {
    let prints = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let printing = (0..=255u8).filter(prints).map(|byte| (byte, char::from(byte)));
    let others = (0..=255u8).filter(|byte| !prints(byte)).zip('\u{100}'..);
    let mut letters = printing.chain(others);
    std::array::from_fn(|_| letters.next().expect("every byte prints or does not"))
}

/// Bytes in the byte-level alphabet.
fn spell(bytes: &[u8], letters: &[char; 256]) -> String {
    bytes.iter().map(|&byte| letters[usize::from(byte)]).collect()
}

/// Pairs whose joining gives the merged tokens of a tiny vocabulary, in that order.
const TINY_MERGES: [&str; Vocabulary::TINY_TOKENS as usize - 256 - TINY_SPECIALS.len()] = [
    "Ġ t", "h e", "i n", "r e", "Ġ a", "o n", "Ġt he", "e r", "Ġ s", "a t", "Ġ w", "Ġ o", "e n", "Ġ c", "i t", "i s",
    "a n", "o r", "e s", "Ġ b", "e d", "Ġ f", "in g", "Ġ p", "o u", "Ġa n", "a l", "a r", "Ġt o", "Ġ m", "Ġo f",
    "Ġ in", "Ġ d", "Ġ h", "Ġan d", "i c", "a s", "l e", "Ġt h", "i on", "o m", "l l", "en t", "Ġ n", "Ġ l", "s t",
    "Ġ re", "v e", "Ġ e", "r o", "l y", "Ġb e", "Ġ g", "u t",
];

/// Special tokens of a tiny vocabulary, in the order of their ids in o200k_harmony.
const TINY_SPECIALS: [&str; 10] = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
    "<|endofprompt|>",
];

fn tiny(tokens: u32) -> Result<Arrays, SynthError> {
    if tokens < Vocabulary::TINY_TOKENS {
        let expected = format!("at least {}: bytes, merges and specials", Vocabulary::TINY_TOKENS);
        return Err(SynthError::Shape { what: "the size of a tiny vocabulary", got: tokens.into(), expected });
    }
    let mut arrays = Arrays { tokens: Vec::new(), token_types: Vec::new(), merges: Vec::new() };
    for (_, letter) in alphabet() {
        arrays.add(letter.to_string(), token_type::NORMAL);
    }
    for merge in TINY_MERGES {
        arrays.add(merge.replace(' ', ""), token_type::NORMAL);
        arrays.merges.push(merge.to_owned());
    }
    for special in TINY_SPECIALS {
        arrays.add(special.to_owned(), token_type::CONTROL);
    }
    arrays.pad(tokens);
    Ok(arrays)
}

/// Ids of o200k's byte-pair ranks, and of the specials that a public file names.
const RANKS: Range<u32> = 0..199_998;
const SPECIALS: Range<u32> = 199_998..200_019;
const O200K_TOKENS: u32 = 201_088;
const O200K_MERGES: usize = 446_189;

fn o200k() -> Result<Arrays, SynthError> {
    let fault = |why: String| SynthError::O200k { why };
    let ranks = ranks()?;
    let mut letters = ['\0'; 256];
    for (byte, letter) in alphabet() {
        letters[usize::from(byte)] = letter;
    }
    let merges = merges(&ranks, &letters);
    if merges.len() != O200K_MERGES {
        return Err(fault(format!("{} pairs of tokens make tokens, expected {O200K_MERGES}", merges.len())));
    }
    let mut arrays = Arrays { tokens: Vec::with_capacity(O200K_TOKENS as usize), token_types: Vec::new(), merges };
    for bytes in &ranks {
        arrays.add(spell(bytes, &letters), token_type::NORMAL);
    }
    for id in SPECIALS {
        arrays.add(special_name(id), token_type::CONTROL);
    }
    arrays.pad(O200K_TOKENS);
    Ok(arrays)
}

/// The bytes of every rank, by id.
fn ranks() -> Result<Vec<Vec<u8>>, SynthError> {
    let fault = |why: String| SynthError::O200k { why };
    // This is not the crate's singleton, which would keep its tables for the rest of the process.
    let encoder = tiktoken_rs::o200k_harmony().map_err(|error| fault(error.to_string()))?;
    RANKS.map(|id| encoder.decode_bytes(&[id]).map_err(|error| fault(format!("rank {id}: {error}")))).collect()
}

/// Every pair of tokens that makes a token: by the rank of what they make, then by their own ranks. So Transformers
/// derives merges from ranks, and so they are in the public files.
fn merges(ranks: &[Vec<u8>], letters: &[char; 256]) -> Vec<String> {
    let rank: HashMap<&[u8], usize> = ranks.iter().enumerate().map(|(id, bytes)| (bytes.as_slice(), id)).collect();
    let mut merges = Vec::with_capacity(O200K_MERGES);
    for token in ranks {
        let splits = (1..token.len()).map(|middle| token.split_at(middle));
        let mut pairs: Vec<_> =
            splits.filter_map(|(left, right)| Some((*rank.get(left)?, *rank.get(right)?))).collect();
        pairs.sort_unstable();
        let written = |(left, right): (usize, usize)| [&ranks[left], &ranks[right]].map(|bytes| spell(bytes, letters));
        merges.extend(pairs.into_iter().map(|pair| written(pair).join(" ")));
    }
    merges
}

/// Names of o200k_harmony's specials.
fn special_name(id: u32) -> String {
    match id {
        199_998 => "<|startoftext|>".to_owned(),
        199_999 => "<|endoftext|>".to_owned(),
        200_002 => "<|return|>".to_owned(),
        200_003 => "<|constrain|>".to_owned(),
        200_005 => "<|channel|>".to_owned(),
        200_006 => "<|start|>".to_owned(),
        200_007 => "<|end|>".to_owned(),
        200_008 => "<|message|>".to_owned(),
        200_012 => "<|call|>".to_owned(),
        200_018 => "<|endofprompt|>".to_owned(),
        reserved => format!("<|reserved_{reserved}|>"),
    }
}
