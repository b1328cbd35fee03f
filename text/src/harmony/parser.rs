//! The model's tokens to messages, one token at a time.

use crate::tokenizer::Utf8Stream;
use crate::{Special, Tokenizer, UnknownToken};

use super::header::{self, Ended};
use super::message::{Header, Role};
use super::turn::{ParsedMessage, Turn};

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageEnd {
    /// `<|end|>`: the turn may go on.
    End,
    /// `<|return|>`: so did the turn.
    Return,
    /// `<|call|>`: the turn waits for a tool.
    Call,
    /// `<|endoftext|>`.
    EndOfText,
    /// The next message began without any of these.
    Interrupted,
    /// The tokens ended first: the text may lack its end.
    Unfinished,
}

/// What a token made known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message begins; its header is complete.
    Header(Header),
    /// The message's text goes on. Always whole characters.
    Text(String),
    /// The message is over.
    MessageEnd(MessageEnd),
    /// Generation is over: the token was one of [`Special::STOPS`]. [`MessageEnd`] comes before it.
    Stop(Special),
    /// A special token where it means nothing, by its id. It is not part of any text.
    Ignored(u32),
}

enum State {
    /// Between messages, or before the first.
    Outside,
    Header,
    Body(Header),
}

/// Reads what the model generates after a prompt that ends in `<|start|>assistant`, or a transcript that begins with
/// `<|start|>`. Any token of the vocabulary may come at any place; see [`Event`] for what becomes of the odd ones.
///
/// ```no_run
/// # fn example(tokenizer: &gptoss_text::Tokenizer, generated: Vec<u32>) -> Result<(), gptoss_text::UnknownToken> {
/// use gptoss_text::harmony::{Event, Parser};
/// let mut parser = Parser::new(tokenizer);
/// for id in generated {
///     for event in parser.push(tokenizer, id)? {
///         match event {
///             Event::Header(header) => println!("[{:?}]", header.channel),
///             Event::Text(text) => print!("{text}"),
///             _ => {}
///         }
///     }
/// }
/// let (_, turn) = parser.finish();
/// println!("answer: {:?}, calls: {:?}", turn.content(), turn.tool_calls().collect::<Vec<_>>());
/// # Ok(())
/// # }
/// ```
pub struct Parser {
    state: State,
    utf8: Utf8Stream,
    /// The header so far, specials by name.
    raw_header: String,
    /// The header is the assistant's, and its role was not written.
    role_implied: bool,
    /// The message so far: header and text.
    tokens: Vec<u32>,
    /// Whether `tokens` is a message as it should be written.
    is_well_formed: bool,
    text: String,
    messages: Vec<ParsedMessage>,
    stop: Option<Special>,
    /// The role `assistant` as tokens.
    assistant: Vec<u32>,
}

impl Parser {
    /// A parser that has seen nothing.
    pub fn new(tokenizer: &Tokenizer) -> Parser {
        Parser {
            state: State::Outside,
            utf8: Utf8Stream::default(),
            raw_header: String::new(),
            role_implied: true,
            tokens: Vec::new(),
            is_well_formed: true,
            text: String::new(),
            messages: Vec::new(),
            stop: None,
            assistant: tokenizer.encode_ordinary(Role::Assistant.name()),
        }
    }

    /// Reads the next token. `tokenizer` is the one the parser was made with.
    ///
    /// # Errors
    /// `id` is outside the vocabulary; the parser is unchanged.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<Vec<Event>, UnknownToken> {
        let bytes = tokenizer.token_bytes(id)?;
        let mut events = Vec::new();
        match tokenizer.special(id) {
            Some(special) => self.push_special(special, id, &mut events),
            None if tokenizer.is_special(id) => self.ignore(id, &mut events),
            None => self.push_text(bytes, id, &mut events),
        }
        Ok(events)
    }

    /// Ends the input, however it stands: the last events, and everything that was said.
    pub fn finish(mut self) -> (Vec<Event>, Turn) {
        let mut events = Vec::new();
        self.end_message(MessageEnd::Unfinished, &mut events);
        (events, Turn { messages: self.messages, stop: self.stop })
    }

    /// The messages that are complete so far.
    pub fn messages(&self) -> &[ParsedMessage] {
        &self.messages
    }

    fn push_text(&mut self, bytes: &[u8], id: u32, events: &mut Vec<Event>) {
        if matches!(self.state, State::Outside) {
            self.begin_header(true);
        }
        self.tokens.push(id);
        let text = self.utf8.push(bytes);
        self.append(text, events);
    }

    fn append(&mut self, text: String, events: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        match self.state {
            State::Body(_) => {
                self.text.push_str(&text);
                events.push(Event::Text(text));
            }
            State::Header | State::Outside => self.raw_header.push_str(&text),
        }
    }

    fn push_special(&mut self, special: Special, id: u32, events: &mut Vec<Event>) {
        match special {
            Special::Start => {
                self.end_message(MessageEnd::Interrupted, events);
                self.begin_header(false);
            }
            Special::Channel | Special::Constrain => {
                // A channel announces a message even where `<|start|>` is missing.
                match (&self.state, special) {
                    (State::Body(_), Special::Constrain) => return self.ignore(id, events),
                    (State::Body(_), _) => {
                        self.end_message(MessageEnd::Interrupted, events);
                        self.begin_header(true);
                    }
                    (State::Outside, _) => self.begin_header(true),
                    (State::Header, _) => {}
                }
                self.flush_utf8(events);
                self.raw_header.push_str(special.name());
                self.tokens.push(id);
            }
            Special::Message => {
                match self.state {
                    State::Body(_) => return self.ignore(id, events),
                    State::Outside => self.begin_header(true),
                    State::Header => {}
                }
                self.flush_utf8(events);
                self.tokens.push(id);
                let (header, _) = header::read(&self.raw_header, self.role_implied, Ended::Properly);
                if self.role_implied {
                    // Behind the role that the tokens then begin with, the header may read otherwise.
                    let whole = format!("{}{}", Role::Assistant.name(), self.raw_header);
                    self.is_well_formed &= header::read(&whole, false, Ended::Properly).0 == header;
                }
                self.begin_body(header, events);
            }
            Special::End => self.end_message(MessageEnd::End, events),
            Special::Return => self.stop(MessageEnd::Return, special, events),
            Special::Call => self.stop(MessageEnd::Call, special, events),
            Special::EndOfText => self.stop(MessageEnd::EndOfText, special, events),
        }
    }

    fn stop(&mut self, end: MessageEnd, special: Special, events: &mut Vec<Event>) {
        self.end_message(end, events);
        self.stop = Some(special);
        events.push(Event::Stop(special));
    }

    fn ignore(&mut self, id: u32, events: &mut Vec<Event>) {
        self.is_well_formed = false;
        self.flush_utf8(events);
        events.push(Event::Ignored(id));
    }

    /// A special token never continues a character.
    fn flush_utf8(&mut self, events: &mut Vec<Event>) {
        let text = self.utf8.flush();
        self.append(text, events);
    }

    fn begin_header(&mut self, role_implied: bool) {
        self.state = State::Header;
        self.raw_header.clear();
        self.text.clear();
        self.tokens.clear();
        self.is_well_formed = true;
        self.role_implied = role_implied;
        if role_implied {
            self.tokens.extend_from_slice(&self.assistant);
        }
    }

    fn begin_body(&mut self, header: Header, events: &mut Vec<Event>) {
        events.push(Event::Header(header.clone()));
        self.state = State::Body(header);
    }

    fn end_message(&mut self, end: MessageEnd, events: &mut Vec<Event>) {
        self.flush_utf8(events);
        if matches!(self.state, State::Header) {
            self.recover_body(end, events);
        }
        let State::Body(header) = std::mem::replace(&mut self.state, State::Outside) else { return };
        let tokens = std::mem::take(&mut self.tokens);
        self.messages.push(ParsedMessage {
            header,
            text: std::mem::take(&mut self.text),
            end,
            exact_tokens: self.is_well_formed.then_some(tokens),
        });
        events.push(Event::MessageEnd(end));
    }

    /// A message that ends while still in its header, because `<|message|>` is missing: what does not belong to a
    /// header is its text. There is no message if that leaves nothing, as in a header that was cut off; and no call
    /// unless the model ended it, as the name may be cut off too.
    fn recover_body(&mut self, end: MessageEnd, events: &mut Vec<Event>) {
        let (header, text) = header::read(&self.raw_header, self.role_implied, Ended::WithoutMessage);
        let text = text.to_owned();
        let is_message = match header.called_tool() {
            Some(_) => !matches!(end, MessageEnd::Unfinished | MessageEnd::Interrupted),
            None => !text.is_empty(),
        };
        if is_message {
            self.is_well_formed = false;
            self.begin_body(header, events);
            self.append(text, events);
        }
    }
}
