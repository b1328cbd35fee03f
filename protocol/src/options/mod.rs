//! Every option, described once: one row of [`OPTIONS`] each.
//!
//! Address parameters, form fields of the page, command-line flags, the words for values that cannot be used and
//! `docs/parameters.md` all come from the row. Which text means what is decided by [`OptionRow::apply`] and nowhere
//! else. A new option is a variant of [`OptionId`], a row, and a field of the typed settings that the row sets.

mod document;
mod parse;
mod settings;
mod table;

use serde::{Deserialize, Serialize};

pub use document::document;
pub use parse::{NODE_EXPECTED, NODE_SCHEME, NODE_TLS_SCHEME, parse_date};
pub use settings::Settings;
pub use table::OPTIONS;

use crate::Allowed;
use crate::units::{self, parse_bytes};

/// Identity of an option. Events use it to say which option was refused, see [`crate::Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionId {
    /// Address of the model file.
    Gguf,
    /// The user's text; also stands for the instructions if the engine refuses those.
    Prompt,
    /// Whether the prompt is answered, or continued as plain text.
    PromptFormat,
    /// Text of the developer message.
    Instructions,
    /// Reasoning effort.
    Effort,
    /// Date in the system message.
    Date,
    /// Limit for the tokens of an answer.
    MaxNewTokens,
    /// Whether a question goes on from those before it.
    History,
    /// Functions that the model may call.
    Functions,
    /// Text at which an answer ends.
    Stop,
    /// Temperature of sampling; 0 is greedy.
    Temperature,
    /// How many of the most likely tokens sampling considers.
    TopK,
    /// Total probability of the tokens that sampling considers.
    TopP,
    /// Least probability of a token, relative to the most likely one.
    MinP,
    /// Seed of sampling.
    Seed,
    /// Capacity of the KV cache, in tokens.
    MaxKvTokens,
    /// Number format of the KV cache.
    KvFormat,
    /// GPU memory for experts, in bytes.
    ExpertMemory,
    /// GPU memory for everything, in bytes.
    GpuMemory,
    /// When experts are read, if all of them fit.
    ExpertLoading,
    /// Number of layers that are run, for experiments.
    Layers,
    /// Whether attention uses its sliding windows, for experiments.
    Attention,
    /// Whether YaRN rounds its correction range as llama.cpp does, for comparisons.
    Yarn,
    /// Which experts run; the model's own are the only choice that is accepted.
    Moe,
    /// Limits that the GPU device is opened with.
    GpuLimits,
    /// Kernel tier.
    Tier,
    /// Threads of the CPU backend.
    Threads,
    /// Attempts without a byte before a read gives up.
    FetchAttempts,
    /// Seconds without a byte after which a request is given up.
    FetchStall,
    /// Whether downloads are cached in the browser.
    Cache,
    /// Whether the page begins to load by itself.
    Autostart,
    /// Recording that the page shows.
    Recording,
    /// Whether an answer is sampled or greedy.
    Sample,
}

/// The part of the program that an option is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Choice of the model.
    Model,
    /// The prompt and what is around it.
    Prompt,
    /// How tokens are chosen.
    Sampling,
    /// The engine, on any device.
    Engine,
    /// The GPU backend.
    Gpu,
    /// The CPU backend.
    Cpu,
    /// Reading over HTTP.
    Network,
    /// The download cache.
    Cache,
    /// The page itself.
    Page,
}

/// A row of the option table: everything about one option.
#[derive(Debug)]
pub struct OptionRow {
    /// Which option this is.
    pub id: OptionId,
    /// The part of the program that it is for, which groups the documentation.
    pub owner: Owner,
    /// Address parameter of the page; `None` if the page does not have the option.
    pub key: Option<Key>,
    /// Flag of pylon; `None` if pylon does not have the option.
    pub flag: Option<Flag>,
    /// Label of the input on the page.
    pub label: &'static str,
    /// Type of the value, and where it goes.
    pub kind: Kind,
    /// What applies if nothing is chosen.
    pub default: DefaultWords,
    /// One sentence of help, without its full stop.
    pub help: &'static str,
    /// Example values for the documentation.
    pub examples: &'static [&'static str],
}

/// Name of an address parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name, as it stands before `=`.
    pub name: &'static str,
    /// Whether the page has an input for it; otherwise it only stands in addresses.
    pub in_form: bool,
}

/// A long flag of pylon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Name without the dashes.
    pub name: &'static str,
    /// The value that the flag means; `None` for a flag that takes a value.
    pub means: Option<&'static str>,
    /// Whether the flag may be given more than once.
    pub repeats: bool,
    /// What pylon's help adds to the option's help, or says in its place for a flag without a value; may be empty.
    pub note: &'static str,
}

/// Description of the default, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultWords {
    /// The page's default.
    pub page: &'static str,
    /// Pylon's default.
    pub pylon: &'static str,
}

/// Type of an option's value, and the setter for it.
#[derive(Debug)]
pub enum Kind {
    /// A whole number. `instead` is a word that may stand in place of one, in any case.
    Whole {
        /// Smallest value.
        from: u64,
        /// Largest value.
        to: u64,
        /// Unit, as it follows the number in messages.
        unit: &'static str,
        /// Word that may stand in place of a number.
        instead: Option<Word>,
        /// Stores the value.
        set: fn(&mut Settings, u64),
    },
    /// A number with decimals.
    Number {
        /// Range of values.
        allowed: Allowed,
        /// Stores the value.
        set: fn(&mut Settings, f32),
    },
    /// A duration: seconds as text, milliseconds as a value.
    Seconds {
        /// Range of values, in seconds.
        allowed: Allowed,
        /// Stores the value, in milliseconds.
        set: fn(&mut Settings, u64),
    },
    /// A size, written with or without a unit.
    Bytes {
        /// Stores the value, in bytes.
        set: fn(&mut Settings, u64),
    },
    /// One of a fixed list of words.
    Words {
        /// The words.
        words: &'static [Word],
        /// Words that are refused with a reason of their own.
        refused: &'static [RefusedWords],
    },
    /// A text, which may have several lines.
    Text {
        /// Stores the value.
        set: fn(&mut Settings, &str),
    },
    /// A date, or none.
    Date {
        /// Stores the value; `None` leaves the date out of the prompt.
        set: fn(&mut Settings, Option<String>),
    },
    /// Address of a file; pylon has paths instead.
    Address {
        /// Whether it may be that of a node, which has a file.
        node: bool,
        /// Stores the value.
        set: fn(&mut Settings, &str),
    },
}

/// One of the words that an option accepts.
#[derive(Debug)]
pub struct Word {
    /// The word, in the spelling that is printed.
    pub text: &'static str,
    /// Other spellings with the same meaning.
    pub also: &'static [&'static str],
    /// Explanation of the word; empty if it needs none.
    pub meaning: &'static str,
    set: fn(&mut Settings),
}

/// Words that somebody might try, refused with a reason.
#[derive(Debug)]
pub struct RefusedWords {
    /// The words.
    pub words: &'static [&'static str],
    /// What was expected, and why these words are no use.
    pub expected: &'static str,
}

impl OptionId {
    /// The option's row in [`OPTIONS`].
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

    /// The option's flag, with the dashes.
    pub fn flag(self) -> Option<String> {
        self.row().flag.map(|flag| format!("--{}", flag.name))
    }
}

impl OptionRow {
    /// Stores the value that `text` means. An error leaves the settings as they are, and says what was expected.
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
            Kind::Address { node, set } => {
                parse::check_address(text, *node)?;
                set(settings, text);
            }
        }
        Ok(())
    }

    /// Checks whether `text` is a valid value; the error says what was expected.
    pub fn check(&self, text: &str) -> Result<(), String> {
        self.apply(&mut Settings::page(), text)
    }

    /// Help text of the flag: the option's help, and the flag's note.
    pub fn flag_help(&self) -> String {
        match self.flag {
            Some(Flag { means: Some(_), note, .. }) => note.to_owned(),
            Some(Flag { note, .. }) if !note.is_empty() => format!("{}; {note}", self.help),
            _ => self.help.to_owned(),
        }
    }

    /// The words that the option accepts; empty unless it has a fixed list.
    pub fn words(&self) -> &'static [Word] {
        match self.kind {
            Kind::Words { words, .. } => words,
            _ => &[],
        }
    }

    /// The listed word that `text` means, be it another spelling.
    pub fn canonical<'a>(&self, text: &'a str) -> &'a str {
        self.words().iter().find(|word| word.is(text)).map_or(text, |word| word.text)
    }
}

impl Kind {
    /// Describes valid values, as it follows "expected".
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
            Kind::Address { node, .. } => parse::address_expected(*node),
        }
    }
}

impl Word {
    /// Whether `text` means this word.
    fn is(&self, text: &str) -> bool {
        self.text == text || self.also.contains(&text)
    }
}

/// Lists the words as `low, medium or high`, with their meanings.
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
