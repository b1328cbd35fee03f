//! A conversation to token ids, or to text for display.

use crate::{Special, Tokenizer};

use super::message::{Channel, ContentType, Conversation, Message, Role};
use super::prompt;

/// Where the header of an assistant's tool call names the recipient. Both are legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecipientPlace {
    /// `assistant<|channel|>commentary to=functions.f`: what the model itself writes. A history in the other order was
    /// seen to push later calls into the analysis channel.
    #[default]
    AfterChannel,
    /// `assistant to=functions.f<|channel|>commentary`: what OpenAI's renderer writes.
    InRole,
}

/// How a rendering ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// `<|start|>assistant` follows the last message: the model is to write the next one.
    #[default]
    AwaitAssistant,
    /// The rendering ends after the last message.
    Closed,
    /// The rendering ends after the last message; a final answer there is closed by `<|return|>`, as it was when it was
    /// generated, instead of the `<|end|>` that it has in a history.
    Returned,
}

/// Renders conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renderer {
    /// Place of the recipient in the headers of tool calls.
    pub recipient_place: RecipientPlace,
    /// Whether to leave out the reasoning of completed turns, as in training: of turns whose answer on the final
    /// channel is followed by another message. Tool calls and their results stay.
    pub drop_analysis: bool,
    /// What follows the last message.
    pub ending: Ending,
}

impl Default for Renderer {
    /// Settings for the model to continue a conversation.
    fn default() -> Renderer {
        Renderer { recipient_place: RecipientPlace::default(), drop_analysis: true, ending: Ending::default() }
    }
}

/// A part of a rendering.
enum Piece<'a> {
    Special(Special),
    /// Text that is encoded as ordinary text, whatever it spells.
    Text(String),
    /// Tokens that the model wrote, unchanged.
    Exact(&'a [u32]),
}

impl Renderer {
    /// Encodes `conversation`. Only what this renderer itself writes becomes a special token.
    pub fn tokens(&self, tokenizer: &Tokenizer, conversation: &Conversation) -> Vec<u32> {
        let mut ids = Vec::new();
        for piece in self.pieces(conversation) {
            match piece {
                Piece::Special(special) => ids.push(tokenizer.special_id(special)),
                Piece::Text(text) => tokenizer.append_ordinary(&text, &mut ids),
                Piece::Exact(tokens) => ids.extend_from_slice(tokens),
            }
        }
        ids
    }

    /// Renders `conversation` as text, specials by name, for display. Encoding it again is not the same as
    /// [`Renderer::tokens`], since text cannot tell a special from its name. Exact tokens outside the vocabulary are
    /// shown as U+FFFD.
    pub fn text(&self, tokenizer: &Tokenizer, conversation: &Conversation) -> String {
        let mut whole = String::new();
        for piece in self.pieces(conversation) {
            match piece {
                Piece::Special(special) => whole.push_str(special.name()),
                Piece::Text(text) => whole.push_str(&text),
                Piece::Exact(tokens) => whole.push_str(&tokenizer.decode(tokens).unwrap_or("\u{FFFD}".to_owned())),
            }
        }
        whole
    }

    fn pieces<'a>(&self, conversation: &'a Conversation) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let with_functions = conversation.has_functions();
        let completed = if self.drop_analysis { self.completed(&conversation.messages) } else { 0 };
        for (index, message) in conversation.messages.iter().enumerate() {
            if index < completed && is_reasoning(message) {
                continue;
            }
            let is_last = index + 1 == conversation.messages.len();
            self.push_message(&mut pieces, message, with_functions, is_last);
        }
        if self.ending == Ending::AwaitAssistant {
            pieces.push(Piece::Special(Special::Start));
            pieces.push(Piece::Text(Role::Assistant.name().to_owned()));
        }
        pieces
    }

    /// How many messages, from the first, belong to completed turns: up to the last answer that something follows.
    fn completed(&self, messages: &[Message]) -> usize {
        let goes_on = self.ending == Ending::AwaitAssistant;
        let followed = if goes_on { messages.len() } else { messages.len().saturating_sub(1) };
        messages[..followed].iter().rposition(is_answer).map_or(0, |at| at + 1)
    }

    fn push_message<'a>(&self, pieces: &mut Vec<Piece<'a>>, message: &'a Message, with_functions: bool, is_last: bool) {
        match message {
            Message::System(system) => {
                push_plain(pieces, Role::System, prompt::system_text(system, with_functions));
            }
            Message::Developer(developer) => {
                if let Some(text) = prompt::developer_text(developer) {
                    push_plain(pieces, Role::Developer, text);
                }
            }
            Message::User(text) => push_plain(pieces, Role::User, text.clone()),
            Message::Tool(tool) => {
                let role = match &tool.recipient {
                    Some(recipient) => format!("{} to={recipient}", tool.name),
                    None => tool.name.clone(),
                };
                pieces.extend([Piece::Special(Special::Start), Piece::Text(role)]);
                push_channel(pieces, tool.channel.as_ref(), None);
                push_body(pieces, &tool.text, Special::End);
            }
            Message::Assistant(assistant) => {
                let returned = self.ending == Ending::Returned && is_last && is_answer(message);
                let end = match assistant.recipient {
                    Some(_) => Special::Call,
                    None if returned => Special::Return,
                    None => Special::End,
                };
                pieces.push(Piece::Special(Special::Start));
                if let Some(tokens) = &assistant.exact_tokens {
                    pieces.extend([Piece::Exact(tokens), Piece::Special(end)]);
                    return;
                }
                let recipient = assistant.recipient.as_deref();
                // A header without a channel has only one place for it.
                let in_role = self.recipient_place == RecipientPlace::InRole || assistant.channel.is_none();
                let (in_role, after_channel) = if in_role { (recipient, None) } else { (None, recipient) };
                let role = Role::Assistant.name();
                pieces.push(Piece::Text(in_role.map_or(role.to_owned(), |name| format!("{role} to={name}"))));
                push_channel(pieces, assistant.channel.as_ref(), after_channel);
                push_content_type(pieces, assistant.content_type.as_ref());
                push_body(pieces, &assistant.text, end);
            }
        }
    }
}

/// Whether `message` is an answer to the user.
fn is_answer(message: &Message) -> bool {
    matches!(message, Message::Assistant(assistant) if assistant.channel == Some(Channel::Final))
}

/// Whether `message` only reasons: a call is not dropped, or its result would answer nothing.
fn is_reasoning(message: &Message) -> bool {
    matches!(message, Message::Assistant(assistant)
        if assistant.channel == Some(Channel::Analysis) && assistant.recipient.is_none())
}

fn push_plain(pieces: &mut Vec<Piece<'_>>, role: Role, text: String) {
    pieces.extend([Piece::Special(Special::Start), Piece::Text(role.name().to_owned())]);
    push_body(pieces, &text, Special::End);
}

fn push_channel(pieces: &mut Vec<Piece<'_>>, channel: Option<&Channel>, recipient: Option<&str>) {
    let Some(channel) = channel else { return };
    let name = match recipient {
        Some(recipient) => format!("{channel} to={recipient}"),
        None => channel.name().to_owned(),
    };
    pieces.extend([Piece::Special(Special::Channel), Piece::Text(name)]);
}

/// Appends the content type after a space, with the special token if it was constrained.
fn push_content_type(pieces: &mut Vec<Piece<'_>>, content_type: Option<&ContentType>) {
    match content_type {
        Some(ContentType { name, constrained: true }) => {
            pieces.extend([Piece::Text(" ".to_owned()), Piece::Special(Special::Constrain), Piece::Text(name.clone())])
        }
        Some(ContentType { name, constrained: false }) => pieces.push(Piece::Text(format!(" {name}"))),
        None => {}
    }
}

fn push_body(pieces: &mut Vec<Piece<'_>>, text: &str, end: Special) {
    pieces.extend([Piece::Special(Special::Message), Piece::Text(text.to_owned()), Piece::Special(end)]);
}
