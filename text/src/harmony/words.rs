//! What a word of a header may be, taken by itself.

use crate::Special;

use super::message::{Channel, Role};

/// The channels of the format.
const CHANNELS: [Channel; 3] = [Channel::Analysis, Channel::Commentary, Channel::Final];

/// Words that models write in a channel's place and that mean one of the channels. Some may also be names of tools.
const SYNONYMS: [(&str, Channel); 12] = [
    ("thinking", Channel::Analysis),
    ("think", Channel::Analysis),
    ("thought", Channel::Analysis),
    ("thoughts", Channel::Analysis),
    ("reasoning", Channel::Analysis),
    ("reflection", Channel::Analysis),
    ("scratchpad", Channel::Analysis),
    ("comment", Channel::Commentary),
    ("comments", Channel::Commentary),
    ("preamble", Channel::Commentary),
    ("answer", Channel::Final),
    ("response", Channel::Final),
];

/// Tools that gpt-oss was trained with and whose names have no dot.
const BUILT_IN_TOOLS: [&str; 2] = ["python", "browser"];

/// Types of content that models name without `<|constrain|>`.
const CONTENT_TYPES: [&str; 7] = ["json", "code", "text", "markdown", "xml", "yaml", "python"];

/// Characters around a name that is quoted or part of a sentence.
const QUOTES: [char; 5] = ['"', '\'', '`', '“', '”'];

/// A word where a channel is expected.
pub(super) enum ChannelWord {
    /// One of the format's channels; `is_exact` if it is spelled so.
    Known {
        channel: Channel,
        is_exact: bool,
    },
    /// Another word that means a channel.
    Likely(Channel),
    Unknown,
}

/// The channel that a word means. Letter case, punctuation around it, repetition and slips of the pen do not matter:
/// `Final`, `analysis:`, `commentary?commentary?`, `analyis`.
pub(super) fn channel_word(word: &str) -> ChannelWord {
    if let Some(channel) = CHANNELS.into_iter().find(|channel| channel.name() == word) {
        return ChannelWord::Known { channel, is_exact: true };
    }
    let lower = word.to_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let [first, others @ ..] = parts.as_slice() else { return ChannelWord::Unknown };
    let is_repeated = |channel: &Channel| parts.iter().all(|part| part.replace(channel.name(), "").is_empty());
    // `finalA` is no slip: the letter belongs to the text.
    let may_be_slip = others.is_empty() && glued_channel(word, false).is_none();
    let is_misspelt = |channel: &Channel| {
        let allowed = if channel.name().len() > 5 { 2 } else { 1 };
        may_be_slip && strsim::osa_distance(first, channel.name()) <= allowed
    };
    if let Some(channel) = CHANNELS.into_iter().find(|channel| is_repeated(channel) || is_misspelt(channel)) {
        return ChannelWord::Known { channel, is_exact: false };
    }
    let extended = CHANNELS
        .into_iter()
        .find(|channel| lower.strip_prefix(channel.name()).is_some_and(|rest| rest.starts_with(['_', '-'])));
    let synonym = || SYNONYMS.into_iter().find(|(name, _)| *name == lower).map(|(_, channel)| channel);
    extended.or_else(synonym).map_or(ChannelWord::Unknown, ChannelWord::Likely)
}

/// The length of a channel's name with which `word` begins, though it goes on without a blank: `finalThe answer`,
/// `commentaryto=functions.f`. `may_be_text`: whether text may follow a channel.
pub(super) fn glued_channel(word: &str, may_be_text: bool) -> Option<usize> {
    CHANNELS.iter().map(Channel::name).find_map(|name| {
        let rest = word.strip_prefix(name)?;
        let first = rest.chars().next()?;
        let goes_on = match first {
            '_' | '-' | '.' => may_be_text,
            first => !first.is_ascii_lowercase() && !first.is_ascii_digit(),
        };
        (goes_on || rest.starts_with("to=")).then_some(name.len())
    })
}

/// What follows `assistant`, if `word` begins with it, however often.
pub(super) fn strip_assistant(word: &str) -> Option<&str> {
    let name = Role::Assistant.name();
    let once = |text: &mut &str| {
        let is_there = text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if is_there {
            *text = &text[name.len()..];
        }
        is_there
    };
    let mut rest = word;
    let mut found = false;
    while once(&mut rest) {
        found = true;
    }
    found.then_some(rest)
}

/// The name with which `text` begins: `[A-Za-z0-9_.-]`.
pub(super) fn name_of(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    &text[..text.find(|c| !is_part(c)).unwrap_or(text.len())]
}

/// Whether `name` can only be a tool's: `functions.f`, `python`.
pub(super) fn is_tool_name(name: &str) -> bool {
    let is_dotted =
        name.contains('.') && name.split('.').all(|part| part.contains(|c: char| c.is_ascii_alphanumeric()));
    is_dotted || BUILT_IN_TOOLS.contains(&name)
}

/// Whether `name` is a content type by itself.
pub(super) fn is_content_type(name: &str) -> bool {
    CONTENT_TYPES.contains(&name)
}

/// Whether `text` begins as arguments of a call do.
pub(super) fn begins_arguments(text: &str) -> bool {
    text.starts_with(['{', '['])
}

/// A `to=…` with the name behind it.
pub(super) struct Recipient<'a> {
    /// Name of the recipient; empty if no name follows.
    pub name: &'a str,
    pub length: usize,
    /// Whether the name has no blanks, quotes or glued text around it.
    pub is_clean: bool,
}

/// The recipient with which `text` begins: `to=functions.f`, `to = "functions.f"`.
pub(super) fn recipient(text: &str) -> Option<Recipient<'_>> {
    let after_to = text.get(2..).filter(|_| text[..2].eq_ignore_ascii_case("to"))?;
    let value = after_to.trim_start().strip_prefix('=')?;
    let is_spaced = !after_to.starts_with('=') || value.starts_with(char::is_whitespace);
    let quoted = value.trim_start_matches(|c: char| c.is_whitespace() || QUOTES.contains(&c));
    let name = match name_of(quoted) {
        "functions." => "functions.",
        name => name.trim_end_matches('.'),
    };
    if name.is_empty() {
        let length = text.len() - value.len();
        return (!is_spaced || quoted.is_empty()).then_some(Recipient { name, length, is_clean: false });
    }
    // `a to = 5` is a sentence.
    if is_spaced && !name.contains(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let rest = &quoted[name.len()..];
    let behind =
        rest.trim_start_matches(|c: char| QUOTES.contains(&c) || matches!(c, ':' | ',' | ';' | '.' | '?' | '!' | '='));
    let is_clean = quoted.len() == value.len() && behind.len() == rest.len() && !is_spaced && at_word_end(behind);
    Some(Recipient { name, length: text.len() - behind.len(), is_clean })
}

/// The length of the first word: up to whitespace or a marker. An unknown marker (`<|…`) is a word too.
pub(super) fn word_length(text: &str) -> usize {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    match text[..end].find("<|") {
        Some(marker) if marker > 0 => marker,
        _ => end,
    }
}

/// The marker of a header with which `text` begins.
pub(super) fn marker(text: &str) -> Option<Special> {
    let markers = [Special::Start, Special::Channel, Special::Constrain, Special::Message];
    markers.into_iter().find(|marker| text.starts_with(marker.name()))
}

fn at_word_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(char::is_whitespace) || rest.starts_with("<|")
}
