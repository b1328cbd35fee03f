//! What the model said, sorted by what it is for.

use crate::Special;

use super::message::{AssistantMessage, Channel, Header, Role};
use super::parser::MessageEnd;
use super::prompt::FUNCTIONS;

/// A message as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedMessage {
    pub header: Header,
    pub text: String,
    pub end: MessageEnd,
    /// The message's tokens behind `<|start|>`, without the one that ended it; `None` when they are not a well-formed
    /// message, and better not repeated to the model.
    pub exact_tokens: Option<Vec<u32>>,
}

impl ParsedMessage {
    /// The message as a part of the conversation's history; `None` unless the assistant wrote it.
    pub fn to_history(&self) -> Option<AssistantMessage> {
        (self.header.role == Role::Assistant).then(|| AssistantMessage {
            channel: self.header.channel.clone(),
            recipient: self.header.recipient.clone(),
            content_type: self.header.content_type.clone(),
            text: self.text.clone(),
            exact_tokens: self.exact_tokens.clone(),
        })
    }

    /// Whether its text is the assistant's and addressed to no tool.
    fn is_said(&self) -> bool {
        self.header.role == Role::Assistant && self.header.called_tool().is_none() && !self.text.is_empty()
    }
}

/// A tool that the model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool's name; of a function without `functions.`. Models leave that prefix out at times.
    pub name: String,
    /// The recipient as it was written.
    pub recipient: String,
    /// The message's text: for a function JSON, unless the model made a mistake. `{}` where the model wrote nothing.
    pub arguments: String,
    /// Whether the model ended the message itself. If not, the arguments may lack their end.
    pub is_complete: bool,
}

/// One turn of the model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// All messages in order, those of other roles included.
    pub messages: Vec<ParsedMessage>,
    /// The last token at which generation ended; `None` when it was cut off.
    pub stop: Option<Special>,
}

impl Turn {
    /// What it thought: the text on the analysis channel; `None` when there is none.
    pub fn reasoning(&self) -> Option<String> {
        joined(self.said().filter(|message| message.header.channel == Some(Channel::Analysis)))
    }

    /// What it told the user: preambles and answer, and text without a channel or on one that is not known, so that
    /// nothing is lost. `None` when there is none.
    pub fn content(&self) -> Option<String> {
        joined(self.said().filter(|message| message.header.channel != Some(Channel::Analysis)))
    }

    /// What it told the user before it called a tool or answered: text on the commentary channel.
    pub fn preambles(&self) -> impl Iterator<Item = &str> {
        self.on_channel(Channel::Commentary)
    }

    /// Its answer: the text on the final channel.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.on_channel(Channel::Final)
    }

    /// The tools it called, on whatever channel.
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
            })
        })
    }

    fn said(&self) -> impl Iterator<Item = &ParsedMessage> {
        self.messages.iter().filter(|message| message.is_said())
    }

    fn on_channel(&self, channel: Channel) -> impl Iterator<Item = &str> {
        self.said().filter(move |message| message.header.channel.as_ref() == Some(&channel)).map(|m| m.text.as_str())
    }
}

fn joined<'a>(messages: impl Iterator<Item = &'a ParsedMessage>) -> Option<String> {
    let texts: Vec<&str> = messages.map(|message| message.text.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}
