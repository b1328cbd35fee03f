//! What a message's header says, read from what a model wrote there.
//!
//! Legal headers name the recipient in the role (`assistant to=functions.f<|channel|>commentary`) or behind the channel
//! (`assistant<|channel|>commentary to=functions.f <|constrain|>json`). Models also repeat, misspell or omit parts, put
//! names in the wrong place, write markers as plain text, or go on with the message's text without `<|message|>`.
//! Nothing of that is an error here: docs/HARMONY.md has the rules, [`Recovery`] their names.

use crate::Special;

use super::message::{Channel, ContentType, Header, Role};
use super::parser::MessageEnd;
use super::recovery::Recovery;
use super::words::{self, ChannelWord};

/// Where a header begins, which decides what its first word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Behind `<|start|>`: the header begins with a role.
    Written,
    /// Behind the role, which is the assistant's. `is_first`: nothing was read before.
    Implied { is_first: bool },
}

/// What a header leaves open, so that its text is held back until it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Open {
    /// A name stands where a role or a channel belongs: it is the tool that is called, if the message ends as a call.
    Tool {
        name: String,
        /// The rule that applies in that case.
        place: Recovery,
        /// The channel that the name stands for in the other case.
        likely: Option<Channel>,
    },
    /// The text is either the answer or reasoning; the next message tells.
    Text,
    /// Nobody is called, but arguments may follow.
    Arguments,
}

/// A header that was read.
#[derive(Debug)]
pub(super) struct Reading {
    pub header: Header,
    /// Where in the header the message's text begins; the header's length if there is none.
    pub text_at: usize,
    pub recoveries: Vec<Recovery>,
    pub open: Option<Open>,
}

/// Reads `raw`, which holds specials by name. `end`: what ended the header in place of `<|message|>`.
pub(super) fn read(raw: &str, start: Start, end: Option<MessageEnd>) -> Reading {
    let mut reader = Reader::new(raw, start, end);
    if let Start::Implied { is_first } = start
        && end.is_some()
        && is_plain_text(raw, is_first)
    {
        reader.note(Recovery::HeaderMissing);
        let text_at = raw.len() - raw.trim_start().len();
        return reader.finish(Some(text_at));
    }
    let text_at = reader.run();
    reader.finish(text_at)
}

/// Whether text has begun in `raw`, which a marker follows.
pub(super) fn holds_text(raw: &str, start: Start, marker: Special) -> bool {
    let text_at = read(&format!("{raw}{}", marker.name()), start, Some(MessageEnd::Interrupted)).text_at;
    !raw[text_at.min(raw.len())..].trim().is_empty()
}

/// Whether a header without any marker is none. At the very beginning an answer may begin with a word of headers.
fn is_plain_text(raw: &str, is_first: bool) -> bool {
    let text = raw.trim_start();
    if [Special::Channel, Special::Constrain, Special::Message].iter().any(|marker| text.contains(marker.name())) {
        return false;
    }
    let after_role = words::strip_assistant(text).unwrap_or(text).trim_start();
    let word = &after_role[..words::word_length(after_role)];
    let is_channel = matches!(words::channel_word(word), ChannelWord::Known { is_exact: true, .. });
    let after_channel = if is_channel { after_role[word.len()..].trim_start() } else { after_role };
    let has_recipient = words::recipient(after_channel).is_some();
    !has_recipient && (is_first || after_channel.len() == text.len())
}

/// What the next word is, unless it is a recipient.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Role,
    Channel,
    ContentType,
    Nothing,
}

/// The outcome of reading a word.
enum Step {
    /// Number of bytes that were used.
    Used(usize),
    /// The word has no place in a header.
    Unplaced,
}

struct Reader<'a> {
    raw: &'a str,
    at: usize,
    start: Start,
    end: Option<MessageEnd>,
    expected: Expected,
    header: Header,
    recoveries: Vec<Recovery>,
    has_channel_marker: bool,
    /// Names that stand in the role's place and are no role, and in the channel's and are no channel.
    role_name: Option<String>,
    channel_name: Option<String>,
    /// What may be a recipient without `to=`.
    recipient_name: Option<String>,
    /// The header does not say what the text is.
    is_unclear: bool,
}

impl<'a> Reader<'a> {
    fn new(raw: &'a str, start: Start, end: Option<MessageEnd>) -> Reader<'a> {
        let expected = if start == Start::Written { Expected::Role } else { Expected::Nothing };
        Reader {
            raw,
            at: 0,
            start,
            end,
            expected,
            header: Header { role: Role::Assistant, channel: None, recipient: None, content_type: None },
            recoveries: Vec::new(),
            has_channel_marker: false,
            role_name: None,
            channel_name: None,
            recipient_name: None,
            is_unclear: false,
        }
    }

    fn note(&mut self, recovery: Recovery) {
        if !self.recoveries.contains(&recovery) {
            self.recoveries.push(recovery);
        }
    }

    /// Reads word by word; returns where text begins. Behind words that have no place only markers and the names of
    /// functions are looked for.
    fn run(&mut self) -> Option<usize> {
        let mut unplaced = None;
        loop {
            let rest = self.raw[self.at..].trim_start();
            self.at = self.raw.len() - rest.len();
            if rest.is_empty() {
                return unplaced;
            }
            if let Some(marker) = words::marker(rest) {
                self.at += marker.name().len();
                if marker == Special::Message {
                    self.note(Recovery::MarkerAsText);
                    return Some(self.at);
                }
                if unplaced.take().is_some() {
                    self.note(Recovery::WordsInHeader);
                }
                self.expect(marker);
                continue;
            }
            match self.word(rest, unplaced.is_some()) {
                Step::Used(length) => self.at += length,
                Step::Unplaced if self.end.is_some() => return Some(self.at),
                Step::Unplaced => {
                    unplaced.get_or_insert(self.at);
                    self.at += words::word_length(rest);
                }
            }
        }
    }

    fn expect(&mut self, marker: Special) {
        match marker {
            Special::Channel => {
                if std::mem::replace(&mut self.has_channel_marker, true) {
                    self.note(Recovery::ChannelRepeated);
                }
                self.expected = Expected::Channel;
            }
            Special::Constrain => self.expected = Expected::ContentType,
            _ => {
                self.note(Recovery::MarkerAsText);
                self.expected = Expected::Role;
            }
        }
    }

    fn word(&mut self, rest: &str, is_behind_words: bool) -> Step {
        if let Some(found) = words::recipient(rest).filter(|found| !is_behind_words || found.name.contains('.')) {
            return self.recipient(&found);
        }
        if is_behind_words {
            return Step::Unplaced;
        }
        let word = &rest[..words::word_length(rest)];
        if word.starts_with("<|") {
            self.note(Recovery::MarkerAsText);
            return if self.end.is_some() { Step::Unplaced } else { Step::Used(word.len()) };
        }
        match std::mem::replace(&mut self.expected, Expected::Nothing) {
            Expected::Role => self.role(word, rest),
            Expected::Channel => self.channel(word, rest),
            Expected::ContentType => self.constrained(word, rest),
            Expected::Nothing => self.other(word, rest),
        }
    }

    /// Only the first of two recipients counts.
    fn recipient(&mut self, found: &words::Recipient<'_>) -> Step {
        let is_channel = matches!(words::channel_word(found.name), ChannelWord::Known { is_exact: true, .. });
        if !found.is_clean {
            self.note(Recovery::RecipientSpelling);
        }
        if is_channel {
            self.note(Recovery::RecipientIsChannel);
            self.header.channel.get_or_insert_with(|| Channel::from_name(found.name));
        } else if self.header.recipient.is_some() {
            self.note(Recovery::RecipientRepeated);
        } else if !found.name.is_empty() {
            self.header.recipient = Some(found.name.to_owned());
        }
        Step::Used(found.length)
    }

    fn role(&mut self, word: &str, rest: &str) -> Step {
        if let Some(tail) = words::strip_assistant(word) {
            let is_named = tail.starts_with(':');
            if word.strip_prefix(Role::Assistant.name()) != Some(tail) || !(tail.is_empty() || is_named) {
                self.note(Recovery::RoleSpelling);
            }
            return Step::Used(if is_named { word.len() } else { word.len() - tail.len() });
        }
        // A participant may have a name: `user:ada`.
        let base = word.split(':').next().unwrap_or(word);
        let role = Role::from_name(&base.to_ascii_lowercase());
        if !matches!(role, Role::Tool(_)) {
            if role.name() != base {
                self.note(Recovery::RoleSpelling);
            }
            self.header.role = role;
            return Step::Used(word.len());
        }
        if let ChannelWord::Known { channel, .. } = words::channel_word(word) {
            self.note(Recovery::RoleIsChannel);
            self.header.channel = Some(channel);
            return Step::Used(word.len());
        }
        match self.tool_name(word, rest) {
            Some(name) => {
                self.role_name = Some(name.to_owned());
                Step::Used(name.len())
            }
            None => {
                self.note(Recovery::RoleUnknown);
                self.is_unclear = true;
                Step::Unplaced
            }
        }
    }

    /// Only the last known channel counts.
    fn channel(&mut self, word: &str, rest: &str) -> Step {
        match words::channel_word(word) {
            ChannelWord::Known { channel, is_exact } => {
                if !is_exact {
                    self.note(Recovery::ChannelSpelling);
                }
                self.header.channel = Some(channel);
                return Step::Used(word.len());
            }
            ChannelWord::Likely(_) | ChannelWord::Unknown => {}
        }
        if let Some(length) = words::glued_channel(word, self.end.is_some()) {
            self.note(Recovery::ChannelSpelling);
            self.header.channel = Some(Channel::from_name(&word[..length]));
            return Step::Used(length);
        }
        if let Some(name) = self.tool_name(word, rest) {
            if words::is_tool_name(name) {
                self.note(Recovery::ChannelIsTool);
                self.header.recipient.get_or_insert_with(|| name.to_owned());
            } else {
                self.channel_name.get_or_insert_with(|| name.to_owned());
            }
            return Step::Used(name.len());
        }
        self.note(Recovery::ChannelUnknown);
        self.is_unclear = true;
        let is_word = word.contains(char::is_alphanumeric);
        if is_word { Step::Unplaced } else { Step::Used(word.len()) }
    }

    /// The name of a tool that `word` may be: alone, or before what begins arguments.
    fn tool_name<'w>(&self, word: &'w str, rest: &str) -> Option<&'w str> {
        let name = words::name_of(word);
        let after = rest[name.len()..].trim_start();
        if name.is_empty() || words::begins_arguments(after) {
            return (!name.is_empty()).then_some(name);
        }
        let is_alone = name.len() == word.len() && self.ends_before(after);
        // A lone word that nothing follows is a name that was cut off, or a call without arguments, or text.
        let is_name = match self.end {
            Some(MessageEnd::Call | MessageEnd::Unfinished) | None => true,
            Some(_) => !after.is_empty() || words::is_tool_name(name),
        };
        (is_alone && is_name).then_some(name)
    }

    /// Whether what follows a name is something else of a header, or nothing.
    fn ends_before(&self, after: &str) -> bool {
        let word = &after[..words::word_length(after)];
        let behind = after[word.len()..].trim_start();
        let is_end = |text: &str| text.is_empty() || words::marker(text).is_some();
        let is_type = words::is_content_type(word) && (is_end(behind) || words::begins_arguments(behind));
        is_end(after) || is_type || words::recipient(after).is_some()
    }

    fn constrained(&mut self, word: &str, rest: &str) -> Step {
        if let ChannelWord::Known { channel, is_exact: true } = words::channel_word(word)
            && self.header.channel.is_none()
        {
            self.note(Recovery::ConstrainMisplaced);
            self.header.channel = Some(channel);
            return Step::Used(word.len());
        }
        let name = type_name(word);
        let after = rest[name.len()..].trim_start();
        let is_whole = name.len() == word.len();
        let is_type = words::begins_arguments(after)
            || after.starts_with('"')
            || is_whole && (self.ends_before(after) || words::is_content_type(name));
        if !name.is_empty() && is_type {
            self.header.content_type = Some(ContentType { name: name.to_owned(), constrained: true });
            return Step::Used(name.len());
        }
        if !is_type {
            self.note(Recovery::ConstrainMisplaced);
        }
        Step::Unplaced
    }

    fn other(&mut self, word: &str, rest: &str) -> Step {
        let is_bare = self.header.channel.is_none() && self.header.content_type.is_none() && !self.has_channel_marker;
        // A model that left out `<|start|>` may still write the role, and others write it twice.
        if is_bare && let Some(tail) = words::strip_assistant(word) {
            let is_channel = matches!(words::channel_word(tail), ChannelWord::Known { is_exact: true, .. });
            if tail.is_empty() || tail.starts_with("to=") || is_channel {
                if self.start == Start::Written || word != Role::Assistant.name() {
                    self.note(Recovery::RoleSpelling);
                }
                return Step::Used(word.len() - tail.len());
            }
        }
        if self.header.channel.is_none() && self.header.role == Role::Assistant {
            let glued = words::glued_channel(word, false).filter(|&length| word[length..].starts_with("to="));
            let name = &word[..glued.unwrap_or(word.len())];
            if let ChannelWord::Known { channel, is_exact } = words::channel_word(name)
                && (is_exact || self.end.is_none())
            {
                self.note(Recovery::ChannelUnmarked);
                self.header.channel = Some(channel);
                return Step::Used(name.len());
            }
        }
        self.unconstrained(word, rest)
    }

    /// Behind a channel or a recipient a lone word is a content type, `json` or `code`, but not where it may be text.
    fn unconstrained(&mut self, word: &str, rest: &str) -> Step {
        let name = type_name(word);
        let after = rest[name.len()..].trim_start();
        let is_known = words::is_content_type(name);
        let is_call = self.header.called_tool().is_some() || self.channel_name.is_some() || self.role_name.is_some();
        let is_alone = name.len() == word.len() && self.ends_before(after);
        let fits = match self.end {
            None => is_alone && (is_known || is_call) || is_call && is_known && words::begins_arguments(after),
            Some(_) => {
                let goes_on = words::marker(after).is_some() || words::begins_arguments(after);
                is_call && (is_known && (is_alone || goes_on) || is_alone && goes_on)
            }
        };
        if !name.is_empty() && fits && (self.header.channel.is_some() || is_call) {
            let content_type = ContentType { name: name.to_owned(), constrained: false };
            self.header.content_type.get_or_insert(content_type);
            return Step::Used(name.len());
        }
        if let Some(step) = self.unmarked_recipient(word, rest) {
            return step;
        }
        if self.end.is_none() && !word.contains(char::is_alphanumeric) && !words::begins_arguments(word) {
            self.note(Recovery::WordsInHeader);
            return Step::Used(word.len());
        }
        Step::Unplaced
    }

    /// A lone name that is no content type, where a recipient may stand: `commentary functions.f`, `commentary bash`.
    fn unmarked_recipient(&mut self, word: &str, rest: &str) -> Option<Step> {
        let is_place = match self.header.channel {
            Some(Channel::Final) => false,
            Some(_) => true,
            None => self.start == Start::Written,
        };
        let after = rest[word.len()..].trim_start();
        let is_followed = match self.end {
            None => self.ends_before(after),
            Some(_) => words::begins_arguments(after) || words::marker(after).is_some(),
        };
        let is_name = words::name_of(word).len() == word.len() && word.contains(|c: char| c.is_ascii_alphabetic());
        let is_open = self.header.recipient.is_none() && self.header.role == Role::Assistant;
        if !(is_place && is_followed && is_name && is_open) {
            return None;
        }
        if words::is_tool_name(word) {
            self.note(Recovery::RecipientUnmarked);
            self.header.recipient = Some(word.to_owned());
        } else {
            self.recipient_name.get_or_insert_with(|| word.to_owned());
        }
        Some(Step::Used(word.len()))
    }

    /// Combines what the parts say.
    fn finish(mut self, text_at: Option<usize>) -> Reading {
        let open = self.settle_names().or_else(|| self.unclear(text_at.is_some()));
        let is_call = self.header.called_tool().is_some() || matches!(open, Some(Open::Tool { .. }));
        let mut text_at = text_at.unwrap_or(self.raw.len());
        // Words in the header of a call are no arguments, unless they look like some.
        let is_in_header = is_call && self.end.is_none() && !words::begins_arguments(&self.raw[text_at..]);
        let is_foreign = self.header.role != Role::Assistant;
        if text_at < self.raw.len() {
            if self.end.is_none() {
                self.note(Recovery::WordsInHeader);
            }
            if self.end.is_none() && (is_in_header || is_foreign) {
                text_at = self.raw.len();
            }
        }
        Reading { header: self.header, text_at, recoveries: self.recoveries, open }
    }

    /// Decides what the names are that stand in place of a role or channel.
    fn settle_names(&mut self) -> Option<Open> {
        let is_called = self.header.called_tool().is_some();
        if let Some(name) = self.role_name.take() {
            let is_result = self.header.recipient.as_deref() == Some(Role::Assistant.name());
            let is_tool = words::is_tool_name(&name) || name == "tool";
            if is_result || is_tool && !is_called {
                self.header.role = Role::Tool(name.clone());
            } else {
                self.note(Recovery::RoleUnknown);
            }
            if !is_result && !is_called {
                return Some(Open::Tool { likely: likely(&name), name, place: Recovery::RoleIsTool });
            }
            return None;
        }
        let (name, place) = match (self.channel_name.take(), self.recipient_name.take()) {
            (Some(name), _) => (name, Recovery::ChannelIsTool),
            (None, name) => (name?, Recovery::RecipientUnmarked),
        };
        if is_called {
            self.note(if place == Recovery::ChannelIsTool {
                Recovery::ChannelUnknown
            } else {
                Recovery::WordsInHeader
            });
            return None;
        }
        Some(Open::Tool { likely: likely(&name), name, place })
    }

    /// Whether the header leaves open what its text is.
    fn unclear(&mut self, has_text: bool) -> Option<Open> {
        if self.header.role != Role::Assistant || self.header.called_tool().is_some() {
            return None;
        }
        let is_without_channel = self.header.channel.is_none();
        if is_without_channel && self.has_channel_marker {
            self.note(Recovery::ChannelUnknown);
            return Some(Open::Text);
        }
        // Without `<|message|>` a preamble may also be something else.
        let is_preamble = self.header.channel == Some(Channel::Commentary);
        let is_text = self.end.is_some() && has_text;
        if is_without_channel && (self.is_unclear || is_text) || is_preamble && is_text {
            return Some(Open::Text);
        }
        (is_without_channel || is_preamble).then_some(Open::Arguments)
    }
}

fn likely(name: &str) -> Option<Channel> {
    match words::channel_word(name) {
        ChannelWord::Likely(channel) => Some(channel),
        _ => None,
    }
}

/// The name of a content type with which `word` begins; `text/plain` is one.
fn type_name(word: &str) -> &str {
    let mut length = words::name_of(word).len();
    if let Some(subtype) = word[length..].strip_prefix('/') {
        length += 1 + words::name_of(subtype).len();
    }
    &word[..length]
}
