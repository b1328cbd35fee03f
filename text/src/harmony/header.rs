//! What a message's header says, read from what a model wrote there.
//!
//! Legal headers name the recipient in the role (`assistant to=functions.f<|channel|>commentary`) or behind the channel
//! (`assistant<|channel|>commentary to=functions.f <|constrain|>json`). Models also repeat or omit parts, write markers
//! as plain text, or go on with the message's text without `<|message|>`. Nothing of that is an error here: what can
//! be understood is used, and names never keep a marker's text.

use crate::Special;

use super::message::{Channel, ContentType, Header, Role};

/// Whether `<|message|>` ended the header, or something else did where it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Words that have no place in a header are ignored.
    Properly,
    /// From the first word that has no place in a header on, it is the message's text.
    WithoutMessage,
}

/// What the next word is, unless it is a recipient.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Role,
    Channel,
    ContentType,
    Nothing,
}

/// Reads `raw`, which holds specials by name.
///
/// `role_implied`: `raw` starts behind the role, which is the assistant's.
///
/// Returns the header and the text that stands in it; always empty if it [`Ended::Properly`].
pub(super) fn read(raw: &str, role_implied: bool, ended: Ended) -> (Header, &str) {
    // `<|message|>` in plain text: the text follows.
    let (head, body) = match raw.split_once(Special::Message.name()) {
        Some((head, body)) if ended == Ended::WithoutMessage => (head, Some(body)),
        Some((head, _)) => (head, None),
        None => (raw, None),
    };
    let mut reader = Reader::new(if role_implied { Expected::Nothing } else { Expected::Role }, ended);
    let rest = reader.read(head, role_implied);
    (reader.header, body.unwrap_or(rest))
}

struct Reader {
    header: Header,
    expected: Expected,
    ended: Ended,
}

impl Reader {
    fn new(expected: Expected, ended: Ended) -> Reader {
        let header = Header { role: Role::Assistant, channel: None, recipient: None, content_type: None };
        Reader { header, expected, ended }
    }

    /// Reads `head` word by word; returns the part that is text.
    fn read<'a>(&mut self, head: &'a str, role_implied: bool) -> &'a str {
        let mut rest = head.trim();
        // A model that left out `<|start|>` may still write the role.
        if role_implied
            && let Some(after) = rest.strip_prefix(Role::Assistant.name())
            && at_word_end(after)
        {
            rest = after;
        }
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix(Special::Channel.name()) {
                self.expected = Expected::Channel;
                rest = after;
            } else if let Some(after) = rest.strip_prefix(Special::Constrain.name()) {
                self.expected = Expected::ContentType;
                rest = after;
            } else if rest.is_empty() {
                return "";
            } else {
                let (word, after) = rest.split_at(word_length(rest));
                match self.take(word) {
                    Some(used) => rest = &rest[used..],
                    None if self.ended == Ended::WithoutMessage => return text_of(rest),
                    None => rest = after,
                }
            }
        }
    }

    /// Uses `word`; returns how much of it was used, or `None` when it has no place.
    fn take(&mut self, word: &str) -> Option<usize> {
        if word.starts_with("<|") {
            return None;
        }
        if let Some(recipient) = word.strip_prefix("to=") {
            // Of two recipients the first counts.
            if !recipient.is_empty() {
                self.header.recipient.get_or_insert_with(|| recipient.to_owned());
            }
            return Some(word.len());
        }
        match std::mem::replace(&mut self.expected, Expected::Nothing) {
            Expected::Role => self.header.role = Role::from_name(word),
            Expected::Channel => self.header.channel = Some(Channel::from_name(word)),
            Expected::ContentType => {
                // Text may follow at once: `json{"a": 1}`.
                let length = word.find(['{', '[', '"']).unwrap_or(word.len());
                self.set_content_type(&word[..length], true);
                return (length > 0).then_some(length);
            }
            Expected::Nothing => {
                // Behind a channel a lone word is a content type, `json` or `code`, but not where text may follow.
                if self.ended == Ended::WithoutMessage || self.header.channel.is_none() {
                    return None;
                }
                self.set_content_type(word, false);
            }
        }
        Some(word.len())
    }

    fn set_content_type(&mut self, name: &str, constrained: bool) {
        if !name.is_empty() && self.header.content_type.is_none() {
            self.header.content_type = Some(ContentType { name: name.to_owned(), constrained });
        }
    }
}

/// Up to whitespace or a marker; an unknown marker (`<|…`) is a word too.
fn word_length(text: &str) -> usize {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    match text[..end].find("<|") {
        Some(marker) if marker > 0 => marker,
        _ => end,
    }
}

fn at_word_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(char::is_whitespace) || rest.starts_with("<|")
}

/// `text` up to where the header goes on with a marker.
fn text_of(text: &str) -> &str {
    let markers = [Special::Channel, Special::Constrain].map(Special::name);
    let end = markers.iter().filter_map(|marker| text.find(marker)).min().unwrap_or(text.len());
    &text[..end]
}
