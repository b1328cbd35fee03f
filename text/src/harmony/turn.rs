//! What the model said, sorted by what it is for.

use crate::Special;

use serde_json::Value;

use super::message::{AssistantMessage, Channel, Header, Purpose};
use super::parser::MessageEnd;
use super::prompt::FUNCTIONS;
use super::recovery::Recovery;

/// A message as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedMessage {
    /// The header, after recovery.
    pub header: Header,
    /// What the message is for. A recovered message may be for something else than its header says.
    pub purpose: Purpose,
    /// The text behind the header.
    pub text: String,
    /// How the message ended.
    pub end: MessageEnd,
    /// The message's tokens behind `<|start|>`, without the one that ended it; `None` if the model should not see them
    /// again, because they are malformed.
    pub exact_tokens: Option<Vec<u32>>,
    /// The header as it was written, special tokens by name.
    pub header_text: String,
    /// The rules by which an odd message was read; none if it is as the format has it.
    pub recoveries: Vec<Recovery>,
}

/// A header that led to no message: it was cut off, or names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The header as it was written, special tokens by name.
    pub text: String,
    /// How many messages come before it.
    pub before: usize,
}

impl ParsedMessage {
    /// The message as a part of the conversation's history; `None` unless the assistant wrote it. A recovered message
    /// is put on the channel where it belongs.
    pub fn to_history(&self) -> Option<AssistantMessage> {
        let channel = match self.purpose {
            Purpose::Foreign => return None,
            _ if self.recoveries.is_empty() => self.header.channel.clone(),
            Purpose::Reasoning => Some(Channel::Analysis),
            Purpose::Preamble => Some(Channel::Commentary),
            Purpose::Answer => Some(Channel::Final),
            Purpose::Call => self.header.channel.clone().or(Some(Channel::Commentary)),
        };
        Some(AssistantMessage {
            channel,
            recipient: self.header.recipient.clone(),
            content_type: self.header.content_type.clone(),
            text: self.text.clone(),
            exact_tokens: self.exact_tokens.clone(),
        })
    }

    /// The text, if there is any and it is for one of `purposes`.
    fn text_for(&self, purposes: &[Purpose]) -> Option<&str> {
        (purposes.contains(&self.purpose) && !self.text.is_empty()).then_some(&self.text)
    }
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Name of the tool; for a function without `functions.`, a prefix that models sometimes omit.
    pub name: String,
    /// The recipient as it was written.
    pub recipient: String,
    /// The message's text: for a function JSON, unless the model made a mistake. `{}` where the model wrote nothing.
    pub arguments: String,
    /// Whether the model ended the message itself. If not, the arguments may lack their end.
    pub is_complete: bool,
    /// Whether the arguments are not the JSON object that a function takes. Tools that take plain text, such as
    /// `python`, are never malformed.
    pub is_malformed: bool,
}

/// One turn of the model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// All messages in order, those of other roles included.
    pub messages: Vec<ParsedMessage>,
    /// Headers that led to no message.
    pub fragments: Vec<Fragment>,
    /// The last token at which generation ended; `None` when it was cut off.
    pub stop: Option<Special>,
}

impl Turn {
    /// The model's thoughts; `None` if there are none.
    pub fn reasoning(&self) -> Option<String> {
        joined(self.texts(&[Purpose::Reasoning]))
    }

    /// What the model told the user: preambles and answer. `None` if there is nothing.
    pub fn content(&self) -> Option<String> {
        joined(self.texts(&[Purpose::Preamble, Purpose::Answer]))
    }

    /// What the model told the user before it called a tool or answered: text on the commentary channel.
    pub fn preambles(&self) -> impl Iterator<Item = &str> {
        self.texts(&[Purpose::Preamble])
    }

    /// The model's answer: text on the final channel, and text that can only be an answer.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.texts(&[Purpose::Answer])
    }

    /// The tools that the model called, on whatever channel.
    pub fn tool_calls(&self) -> impl Iterator<Item = ToolCall> {
        self.messages.iter().filter_map(|message| {
            let recipient = message.header.called_tool()?;
            let name = recipient.strip_prefix(FUNCTIONS).and_then(|name| name.strip_prefix('.'));
            let name = name.filter(|name| !name.is_empty()).unwrap_or(recipient);
            let arguments = if message.text.trim().is_empty() { "{}" } else { &message.text };
            Some(ToolCall {
                name: name.to_owned(),
                recipient: recipient.to_owned(),
                arguments: arguments.to_owned(),
                is_complete: !matches!(message.end, MessageEnd::Unfinished | MessageEnd::Interrupted),
                is_malformed: takes_object(&message.header) && !is_object(arguments),
            })
        })
    }

    fn texts(&self, purposes: &'static [Purpose]) -> impl Iterator<Item = &str> {
        self.messages.iter().filter_map(move |message| message.text_for(purposes))
    }
}

/// Whether a call's arguments are to be a JSON object.
fn takes_object(header: &Header) -> bool {
    let is_announced = header.content_type.as_ref().is_some_and(|content_type| content_type.name == "json");
    is_announced || header.recipient.as_deref() != Some("python")
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}
