//! Every option, described once: one row of [`OPTIONS`] each.
//!
//! Address parameters, form fields of the page, command-line flags, the words for values that cannot be used and
//! `docs/parameters.md` all come from the row. Which text means what is decided by [`OptionRow::apply`] and nowhere else.
//! A new option is a variant of [`OptionId`], a row, and a field of the typed settings that the row sets.

mod document;
mod parse;
mod settings;
mod table;

use serde::{Deserialize, Serialize};

pub use document::document;
pub use parse::parse_date;
pub use settings::Settings;
pub use table::OPTIONS;

use crate::Allowed;
use crate::units::{self, parse_bytes};

/// Which option. On the wire it says which one was refused, see [`crate::Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionId {
    Gguf,
    /// The user's text, the instructions included where the engine refuses it.
    Prompt,
    PromptFormat,
    Instructions,
    Effort,
    Date,
    MaxNewTokens,
    Stop,
    Temperature,
    TopK,
    TopP,
    MinP,
    Seed,
    MaxKvTokens,
    KvFormat,
    ExpertMemory,
    GpuMemory,
    ExpertLoading,
    Layers,
    Attention,
    Yarn,
    Moe,
    GpuLimits,
    Tier,
    Threads,
    FetchAttempts,
    FetchStall,
    Cache,
    Autostart,
    Sample,
}

/// The part of the program that an option is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Which model.
    Model,
    Prompt,
    Sampling,
    Engine,
    Gpu,
    Cpu,
    Network,
    Cache,
    /// The page itself.
    Page,
}

/// All that there is to know about an option.
#[derive(Debug)]
pub struct OptionRow {
    pub id: OptionId,
    pub owner: Owner,
    /// `None`: the page does not have it.
    pub key: Option<Key>,
    /// `None`: pylon does not have it.
    pub flag: Option<Flag>,
    /// What the user sees beside the input.
    pub label: &'static str,
    pub kind: Kind,
    pub default: DefaultWords,
    /// One sentence, without the full stop that ends it.
    pub help: &'static str,
    /// Values that can be used, for the documentation.
    pub examples: &'static [&'static str],
}

/// Name of the address parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    /// There is an input for it on the page; else it only stands in addresses.
    pub in_form: bool,
}

/// A long flag of pylon's, without the dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    pub name: &'static str,
    /// The flag takes no value: it means this one.
    pub means: Option<&'static str>,
    /// It may be given more than once.
    pub repeats: bool,
    /// What pylon's help says besides the option's, or of a flag without a value in its place; empty for nothing.
    pub note: &'static str,
}

/// What holds where nothing is chosen, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultWords {
    pub page: &'static str,
    pub pylon: &'static str,
}

/// What values there are, and where they go.
#[derive(Debug)]
pub enum Kind {
    /// A whole number. `instead` is a word that may stand in place of one, in any case.
    Whole {
        from: u64,
        to: u64,
        unit: &'static str,
        instead: Option<Word>,
        set: fn(&mut Settings, u64),
    },
    Number {
        allowed: Allowed,
        set: fn(&mut Settings, f32),
    },
    /// Seconds as text, milliseconds as a value.
    Seconds {
        allowed: Allowed,
        set: fn(&mut Settings, u64),
    },
    Bytes {
        set: fn(&mut Settings, u64),
    },
    /// One of a few.
    Words {
        words: &'static [Word],
        refused: &'static [RefusedWords],
    },
    /// A text, which may have several lines.
    Text {
        set: fn(&mut Settings, &str),
    },
    /// `None`: no date is told.
    Date {
        set: fn(&mut Settings, Option<String>),
    },
    /// Where a model is: pylon has paths instead.
    Address {
        set: fn(&mut Settings, &str),
    },
}

/// One of the words that an option may be.
#[derive(Debug)]
pub struct Word {
    pub text: &'static str,
    /// Other words that mean the same.
    pub also: &'static [&'static str],
    /// Empty where the word says it all.
    pub meaning: &'static str,
    set: fn(&mut Settings),
}

/// Words that somebody might try, which are refused with a reason.
#[derive(Debug)]
pub struct RefusedWords {
    pub words: &'static [&'static str],
    /// What was expected, and why not this.
    pub expected: &'static str,
}

impl OptionId {
    pub fn row(self) -> &'static OptionRow {
        &OPTIONS[self as usize]
    }

    /// The option with this address parameter.
    pub fn of_key(name: &str) -> Option<Self> {
        OPTIONS.iter().find(|row| row.key.is_some_and(|key| key.name == name)).map(|row| row.id)
    }

    /// Options with an input on the page.
    pub fn in_form() -> impl Iterator<Item = Self> {
        OPTIONS.iter().filter(|row| row.key.is_some_and(|key| key.in_form)).map(|row| row.id)
    }

    /// How it is named to somebody who may know it by any of its names: `KV capacity (max_kv)`.
    pub fn name(self) -> String {
        let row = self.row();
        match (row.key, row.flag) {
            (Some(key), _) if key.name == row.label => row.label.to_owned(),
            (Some(key), _) => format!("{} ({})", row.label, key.name),
            (None, Some(_)) => format!("{} ({})", row.label, self.flag().unwrap_or_default()),
            (None, None) => row.label.to_owned(),
        }
    }

    /// Its flag, with the dashes.
    pub fn flag(self) -> Option<String> {
        self.row().flag.map(|flag| format!("--{}", flag.name))
    }
}

impl OptionRow {
    /// Sets what `text` says. An error leaves the settings as they are, and says what was expected.
    pub fn apply(&self, settings: &mut Settings, text: &str) -> Result<(), String> {
        let expected = || self.kind.expected();
        match &self.kind {
            Kind::Whole { instead: Some(word), .. } if text.eq_ignore_ascii_case(word.text) => (word.set)(settings),
            &Kind::Whole { from, to, set, .. } => {
                let value = parse::digits(text).filter(|value| (from..=to).contains(value));
                set(settings, value.ok_or_else(expected)?);
            }
            Kind::Number { allowed, set } => set(settings, parse::allowed(text, *allowed).ok_or_else(expected)?),
            Kind::Seconds { allowed, set } => {
                let seconds = parse::allowed(text, *allowed).ok_or_else(expected)?;
                set(settings, (seconds * 1000.0).round() as u64);
            }
            Kind::Bytes { set } => set(settings, parse_bytes(text)?),
            Kind::Words { words, refused } => match words.iter().find(|word| word.is(text)) {
                Some(word) => (word.set)(settings),
                None => {
                    let known = refused.iter().find(|refused| refused.words.contains(&text));
                    return Err(known.map_or_else(expected, |known| known.expected.to_owned()));
                }
            },
            Kind::Text { .. } if text.is_empty() => return Err(expected()),
            Kind::Text { set } => set(settings, text),
            Kind::Date { set } => {
                let date = parse_date(text)?;
                let date = date.resolve(&settings.today);
                set(settings, date);
            }
            Kind::Address { set } => {
                parse::check_address(text)?;
                set(settings, text);
            }
        }
        Ok(())
    }

    /// Says whether `text` could be used; the error is what was expected.
    pub fn check(&self, text: &str) -> Result<(), String> {
        self.apply(&mut Settings::page(), text)
    }

    /// What pylon's help says: the option's help, and what is to be said of the flag.
    pub fn flag_help(&self) -> String {
        match self.flag {
            Some(Flag { means: Some(_), note, .. }) => note.to_owned(),
            Some(Flag { note, .. }) if !note.is_empty() => format!("{}; {note}", self.help),
            _ => self.help.to_owned(),
        }
    }

    /// The words that it may be, where it is one of a few; else none.
    pub fn words(&self) -> &'static [Word] {
        match self.kind {
            Kind::Words { words, .. } => words,
            _ => &[],
        }
    }

    /// The word of the list that `text` means, be it another one for the same.
    pub fn canonical<'a>(&self, text: &'a str) -> &'a str {
        self.words().iter().find(|word| word.is(text)).map_or(text, |word| word.text)
    }
}

impl Kind {
    /// What can be used, as it follows "expected".
    pub fn expected(&self) -> String {
        match self {
            Kind::Whole { from, to, instead: None, .. } => format!("a whole number from {from} to {to}"),
            Kind::Whole { from, to, instead: Some(word), .. } => {
                format!("\"{}\" or a whole number from {from} to {to}", word.text)
            }
            Kind::Number { allowed, .. } | Kind::Seconds { allowed, .. } => allowed.words.to_owned(),
            Kind::Bytes { .. } => units::BYTES_EXPECTED.to_owned(),
            Kind::Words { words, .. } => any_of(words),
            Kind::Text { .. } => "some text that is not empty".to_owned(),
            Kind::Date { .. } => parse::DATE_EXPECTED.to_owned(),
            Kind::Address { .. } => parse::ADDRESS_EXPECTED.to_owned(),
        }
    }
}

impl Word {
    /// Whether `text` means this one.
    fn is(&self, text: &str) -> bool {
        self.text == text || self.also.contains(&text)
    }
}

/// `low, medium or high`, with the meanings of those that have one.
fn any_of(words: &[Word]) -> String {
    let said = |word: &Word| match word.meaning {
        "" => word.text.to_owned(),
        meaning => format!("{} ({meaning})", word.text),
    };
    match words {
        [] => String::new(),
        [only] => said(only),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(said).collect();
            format!("{} or {}", most.join(", "), said(last))
        }
    }
}

#[cfg(test)]
mod tests;
