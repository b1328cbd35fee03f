//! Special tokens, found by name.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::TokenizerError;
use super::vocab::{Kind, Vocab};

/// The special tokens that Harmony is made of. A vocabulary must have them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Special {
    /// `<|start|>`: a message's header begins.
    Start,
    /// `<|channel|>`: the channel's name follows, in a header.
    Channel,
    /// `<|constrain|>`: the content type follows, in a header.
    Constrain,
    /// `<|message|>`: the header is over, the text follows.
    Message,
    /// `<|end|>`: the message is over; the turn may go on.
    End,
    /// `<|return|>`: the message and the turn are over.
    Return,
    /// `<|call|>`: the message is over, and is a tool call to be answered.
    Call,
    /// `<|endoftext|>`: there is no more text.
    EndOfText,
}

impl Special {
    /// All of them.
    pub const ALL: [Special; 8] = [
        Special::Start,
        Special::Channel,
        Special::Constrain,
        Special::Message,
        Special::End,
        Special::Return,
        Special::Call,
        Special::EndOfText,
    ];

    /// The tokens that end generation.
    pub const STOPS: [Special; 3] = [Special::Return, Special::Call, Special::EndOfText];

    /// The name by which vocabularies list it.
    pub fn name(self) -> &'static str {
        match self {
            Special::Start => "<|start|>",
            Special::Channel => "<|channel|>",
            Special::Constrain => "<|constrain|>",
            Special::Message => "<|message|>",
            Special::End => "<|end|>",
            Special::Return => "<|return|>",
            Special::Call => "<|call|>",
            Special::EndOfText => "<|endoftext|>",
        }
    }

    /// Whether the token ends generation; [`Special::End`] does not.
    pub fn is_stop(self) -> bool {
        Special::STOPS.contains(&self)
    }
}

/// Every special token of a vocabulary by name, and Harmony's by meaning.
#[derive(Debug)]
pub(super) struct SpecialTable {
    by_name: BTreeMap<Box<str>, u32>,
    /// Ids in the order of [`Special::ALL`].
    harmony_ids: [u32; Special::ALL.len()],
}

impl SpecialTable {
    /// # Errors
    /// One of Harmony's specials is missing, or a name occurs twice.
    pub(super) fn new(vocab: &Vocab) -> Result<SpecialTable, TokenizerError> {
        let mut by_name: BTreeMap<Box<str>, u32> = BTreeMap::new();
        for id in 0..vocab.len() as u32 {
            let Some((bytes, Kind::Special)) = vocab.get(id) else { continue };
            let name = String::from_utf8_lossy(bytes);
            if name.is_empty() {
                return Err(TokenizerError::EmptyToken { id });
            }
            if let Some(first) = by_name.insert(name.as_ref().into(), id) {
                return Err(TokenizerError::DuplicateSpecial { name: name.into_owned(), first, second: id });
            }
        }
        let mut harmony_ids = [0; Special::ALL.len()];
        for (id, special) in harmony_ids.iter_mut().zip(Special::ALL) {
            let name = special.name();
            *id = *by_name.get(name).ok_or(TokenizerError::MissingSpecial { name })?;
        }
        Ok(SpecialTable { by_name, harmony_ids })
    }

    pub(super) fn id(&self, special: Special) -> u32 {
        self.harmony_ids[special as usize]
    }

    pub(super) fn special(&self, id: u32) -> Option<Special> {
        Special::ALL.into_iter().find(|&special| self.id(special) == id)
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The first special that `text` names: where, how many bytes its name has, its id. The longest of several that
    /// begin at the same byte.
    pub(super) fn find_first(&self, text: &str) -> Option<(usize, usize, u32)> {
        text.char_indices().find_map(|(at, _)| self.find_prefix(&text[at..]).map(|(length, id)| (at, length, id)))
    }

    /// The longest special whose name `text` begins with.
    fn find_prefix(&self, text: &str) -> Option<(usize, u32)> {
        // A prefix of `text` sorts at or before it, and so does every name between the two; step down through the
        // names by what they still have in common with `text`.
        let mut bound = text;
        loop {
            let (name, &id) = self.by_name.range::<str, _>((Bound::Unbounded, Bound::Included(bound))).next_back()?;
            if text.starts_with(&**name) {
                return Some((name.len(), id));
            }
            let common = name.bytes().zip(bound.bytes()).take_while(|(a, b)| a == b).count();
            let common = (0..=common).rev().find(|&at| bound.is_char_boundary(at)).unwrap_or(0);
            if common == 0 {
                return None;
            }
            bound = &bound[..common];
        }
    }
}
