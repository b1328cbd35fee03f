//! Harmony, the format gpt-oss converses in.
//!
//! A conversation is a sequence of messages `<|start|>{header}<|message|>{text}<|end|>`. The header names the author,
//! and optionally a channel, a recipient and a content type. One turn of the model may hold several messages;
//! `<|end|>` ends a message only, generation ends at `<|return|>` or `<|call|>`.
//!
//! - [`Message`] and [`Conversation`]: what is said, typed.
//! - [`Renderer`]: a conversation to token ids. Names and text are encoded as ordinary text, so nothing that a user or
//!   a tool writes becomes a special token.
//! - [`Parser`]: the model's tokens, one at a time, to [`Event`]s and a [`Turn`].
//!
//! # Where this differs from OpenAI's library
//!
//! On purpose; recorded vectors of that library pin everything else.
//! - A call is rendered as the model writes it, recipient behind the channel ([`RecipientPlace`]).
//! - The reasoning of *every* completed turn is dropped, also while a later turn waits for a tool; the library stops
//!   at the first answer. Calls and tool results on the analysis channel stay.
//! - `<|constrain|>` is the special token wherever a content type is [`ContentType::constrained`].
//! - The parser never fails: the library's strict and lenient modes both refuse output that models do produce. By which
//!   rules it is read is in docs/HARMONY.md; a message that needed one names it ([`Recovery`]).
//!   `final <|constrain|>json` is an answer with a content type, not a call of a tool by that name.
//! - A developer message that says nothing is left out; so is a section of instructions or a namespace without anything
//!   in it. Tools are shown byte for byte as that library shows them: see the module `typescript`.

mod header;
mod message;
mod parser;
mod prompt;
mod recovery;
mod render;
mod turn;
mod typescript;
mod words;

pub use message::{
    AssistantMessage, Channel, ContentType, Conversation, DeveloperMessage, Effort, FunctionTool, Header, Message,
    Purpose, ResponseFormat, Role, SystemMessage, ToolMessage, ToolNamespace,
};
pub use parser::{Event, MessageEnd, Parser};
pub use recovery::Recovery;
pub use render::{Ending, RecipientPlace, Renderer};
pub use turn::{Fragment, ParsedMessage, ToolCall, Turn};
