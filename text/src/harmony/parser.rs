//! The model's tokens to messages, one token at a time.

use crate::tokenizer::Utf8Stream;
use crate::{Special, Tokenizer, UnknownToken};

use super::header::{self, Open, Reading, Start};
use super::message::{Channel, Header, Purpose, Role};
use super::recovery::Recovery;
use super::turn::{Fragment, ParsedMessage, Turn};

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
    /// A message begins; its header is complete, and what its text is for is known.
    Header(Header, Purpose),
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
    Body(Box<Body>),
}

/// A message whose text is being read.
struct Body {
    header: Header,
    header_text: String,
    purpose: Purpose,
    recoveries: Vec<Recovery>,
    /// What is not known yet; nothing of the message is reported until then.
    open: Option<Open>,
    is_told: bool,
}

/// Reads what the model generates after a prompt that ends in `<|start|>assistant`, or a transcript that begins with
/// `<|start|>`. Any token of the vocabulary may come at any place; see [`Event`] for what becomes of the odd ones, and
/// docs/HARMONY.md for the rules by which malformed messages are read.
///
/// Text is told as it comes once it is known what it is for. That is so with the header, unless the header is odd: a
/// message that may be a call is told at its end, and one that may be reasoning or the answer when the next begins.
///
/// ```no_run
/// # fn example(tokenizer: &gptoss_text::Tokenizer, generated: Vec<u32>) -> Result<(), gptoss_text::UnknownToken> {
/// use gptoss_text::harmony::{Event, Parser};
/// let mut parser = Parser::new(tokenizer);
/// for id in generated {
///     for event in parser.push(tokenizer, id)? {
///         match event {
///             Event::Header(_, purpose) => println!("[{purpose:?}]"),
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
    /// How many special tokens are in it.
    markers: usize,
    start: Start,
    /// The message so far: header and text.
    tokens: Vec<u32>,
    /// Whether `tokens` is a message as it should be written.
    is_well_formed: bool,
    text: String,
    /// Messages that are over but not reported yet: reasoning if another message follows, else the answer.
    waiting: Vec<ParsedMessage>,
    messages: Vec<ParsedMessage>,
    fragments: Vec<Fragment>,
    stop: Option<Special>,
    /// The role `assistant` as tokens.
    assistant: Vec<u32>,
}

impl Parser {
    /// A parser at the beginning of its input.
    pub fn new(tokenizer: &Tokenizer) -> Parser {
        Parser {
            state: State::Outside,
            utf8: Utf8Stream::default(),
            raw_header: String::new(),
            markers: 0,
            start: Start::Implied { is_first: true },
            tokens: Vec::new(),
            is_well_formed: true,
            text: String::new(),
            waiting: Vec::new(),
            messages: Vec::new(),
            fragments: Vec::new(),
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

    /// Ends the input in whatever state it is: returns the last events, and the whole turn.
    pub fn finish(mut self) -> (Vec<Event>, Turn) {
        let mut events = Vec::new();
        self.end_message(MessageEnd::Unfinished, &mut events);
        self.tell_waiting(false, &mut events);
        (events, Turn { messages: self.messages, fragments: self.fragments, stop: self.stop })
    }

    /// The messages that are complete and whose purpose is known.
    pub fn messages(&self) -> &[ParsedMessage] {
        &self.messages
    }

    fn push_text(&mut self, bytes: &[u8], id: u32, events: &mut Vec<Event>) {
        if matches!(self.state, State::Outside) {
            self.begin_implied_header();
        }
        self.tokens.push(id);
        let text = self.utf8.push(bytes);
        self.append(&text, events);
    }

    fn append(&mut self, text: &str, events: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let State::Body(body) = &mut self.state else { return self.raw_header.push_str(text) };
        self.text.push_str(text);
        if body.is_told {
            return events.push(Event::Text(text.to_owned()));
        }
        let is_other = |text: &str| !text.is_empty() && !text.starts_with('{');
        if body.open == Some(Open::Arguments) && is_other(self.text.trim_start()) {
            self.tell(events);
        }
    }

    fn push_special(&mut self, special: Special, id: u32, events: &mut Vec<Event>) {
        match special {
            Special::Start => {
                self.end_message(MessageEnd::Interrupted, events);
                self.begin_header(Start::Written);
            }
            Special::Channel | Special::Constrain => self.push_marker(special, id, events),
            Special::Message => {
                match self.state {
                    State::Body(_) => return self.ignore(id, events),
                    State::Outside => self.begin_implied_header(),
                    State::Header => {}
                }
                self.flush_utf8(events);
                self.tokens.push(id);
                let reading = self.read_header(None);
                if self.start != Start::Written {
                    // Behind the role that the tokens then begin with, the header may read otherwise.
                    let whole = format!("{}{}", Role::Assistant.name(), self.raw_header);
                    let again = header::read(&whole, Start::Written, None);
                    self.is_well_formed &= again.header == reading.header && again.recoveries.is_empty();
                }
                self.begin_message(reading, events);
            }
            Special::End => self.end_message(MessageEnd::End, events),
            Special::Return => self.stop(MessageEnd::Return, special, events),
            Special::Call => self.stop(MessageEnd::Call, special, events),
            Special::EndOfText => self.stop(MessageEnd::EndOfText, special, events),
        }
    }

    /// `<|channel|>` or `<|constrain|>`: part of a header, whether one has begun or not.
    fn push_marker(&mut self, special: Special, id: u32, events: &mut Vec<Event>) {
        self.flush_utf8(events);
        let is_in_text = match self.state {
            State::Outside => false,
            State::Body(_) => true,
            State::Header => header::holds_text(&self.raw_header, self.start, special),
        };
        // A channel announces a message even where `<|start|>` is missing.
        match special {
            Special::Constrain if is_in_text => return self.ignore(id, events),
            _ if is_in_text => {
                self.end_message(MessageEnd::Interrupted, events);
                self.begin_implied_header();
            }
            _ if matches!(self.state, State::Outside) => self.begin_implied_header(),
            _ => {}
        }
        self.raw_header.push_str(special.name());
        self.markers += 1;
        self.tokens.push(id);
    }

    fn stop(&mut self, end: MessageEnd, special: Special, events: &mut Vec<Event>) {
        self.end_message(end, events);
        self.tell_waiting(false, events);
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
        self.append(&text, events);
    }

    /// A header begins behind the role, which was not written.
    fn begin_implied_header(&mut self) {
        let is_first =
            self.stop.is_none() && self.messages.is_empty() && self.waiting.is_empty() && self.fragments.is_empty();
        self.begin_header(Start::Implied { is_first });
    }

    fn begin_header(&mut self, start: Start) {
        self.state = State::Header;
        self.raw_header.clear();
        self.markers = 0;
        self.text.clear();
        self.tokens.clear();
        self.is_well_formed = true;
        self.start = start;
        if start != Start::Written {
            self.tokens.extend_from_slice(&self.assistant);
        }
    }

    fn read_header(&self, end: Option<MessageEnd>) -> Reading {
        let mut reading = header::read(&self.raw_header, self.start, end);
        let written =
            [Special::Channel, Special::Constrain].map(|marker| self.raw_header.matches(marker.name()).count());
        if written.iter().sum::<usize>() > self.markers && !reading.recoveries.contains(&Recovery::MarkerAsText) {
            reading.recoveries.push(Recovery::MarkerAsText);
        }
        reading
    }

    /// `<|message|>` ended the header. Text in it is a call's arguments, or a message of its own.
    fn begin_message(&mut self, reading: Reading, events: &mut Vec<Event>) {
        let is_call = reading.header.called_tool().is_some() || matches!(reading.open, Some(Open::Tool { .. }));
        if is_call || reading.text_at == self.raw_header.len() {
            return self.begin_body(reading, events);
        }
        let Reading { header, recoveries, open, .. } = &reading;
        let body = Body {
            header: header.clone(),
            header_text: String::new(),
            purpose: header.purpose(),
            recoveries: recoveries.clone(),
            open: open.clone(),
            is_told: false,
        };
        self.begin_body(reading, events);
        self.end_message(MessageEnd::Interrupted, events);
        let is_known = body.open.is_none();
        self.state = State::Body(Box::new(body));
        if is_known {
            self.tell(events);
        }
    }

    /// The header is read; what text it holds comes first.
    fn begin_body(&mut self, reading: Reading, events: &mut Vec<Event>) {
        let Reading { header, text_at, recoveries, open } = reading;
        let header_text = self.raw_header[..text_at].to_owned();
        let text = self.raw_header[text_at..].to_owned();
        let is_known = open.is_none();
        let purpose = header.purpose();
        let body = Body { header, header_text, purpose, recoveries, open, is_told: false };
        self.state = State::Body(Box::new(body));
        if is_known {
            self.tell(events);
        }
        self.append(&text, events);
    }

    /// What the message is for is known: tells its header and its text so far.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let State::Body(body) = &mut self.state else { return };
        body.is_told = true;
        body.open = None;
        let (header, purpose) = (body.header.clone(), body.purpose);
        self.tell_waiting(purpose != Purpose::Foreign, events);
        events.push(Event::Header(header, purpose));
        if !self.text.is_empty() {
            events.push(Event::Text(self.text.clone()));
        }
    }

    /// Reports messages whose purpose was open: reasoning if the assistant goes on, the answer if nothing follows.
    fn tell_waiting(&mut self, goes_on: bool, events: &mut Vec<Event>) {
        for mut message in self.waiting.drain(..) {
            if goes_on {
                message.purpose = Purpose::Reasoning;
            }
            message.recoveries.push(if goes_on { Recovery::UnclearReasoning } else { Recovery::UnclearAnswer });
            events.push(Event::Header(message.header.clone(), message.purpose));
            if !message.text.is_empty() {
                events.push(Event::Text(message.text.clone()));
            }
            events.push(Event::MessageEnd(message.end));
            self.messages.push(message);
        }
    }

    fn end_message(&mut self, end: MessageEnd, events: &mut Vec<Event>) {
        self.flush_utf8(events);
        if matches!(self.state, State::Header) {
            self.recover_body(end, events);
        }
        let is_unclear = self.settle(end, events);
        let State::Body(body) = std::mem::replace(&mut self.state, State::Outside) else { return };
        let mut body = *body;
        if end == MessageEnd::Call && body.purpose != Purpose::Call && !is_unclear {
            body.recoveries.push(Recovery::CallUnnamed);
        }
        let tokens = std::mem::take(&mut self.tokens);
        let is_exact = self.is_well_formed && body.recoveries.is_empty() && !is_unclear;
        let message = ParsedMessage {
            header: body.header,
            purpose: body.purpose,
            text: std::mem::take(&mut self.text),
            end,
            exact_tokens: is_exact.then_some(tokens),
            header_text: body.header_text,
            recoveries: body.recoveries,
        };
        if is_unclear {
            self.waiting.push(message);
        } else {
            self.messages.push(message);
            events.push(Event::MessageEnd(end));
        }
    }

    /// Decides what the end of a message makes known, and reports the message; returns whether it is still open.
    fn settle(&mut self, end: MessageEnd, events: &mut Vec<Event>) -> bool {
        let State::Body(body) = &mut self.state else { return false };
        if body.is_told {
            return false;
        }
        let text = self.text.trim();
        let is_answered = matches!(end, MessageEnd::Return | MessageEnd::EndOfText);
        let is_cut = matches!(end, MessageEnd::Unfinished | MessageEnd::Interrupted);
        let has_arguments = text.starts_with('{') && (is_cut || text.ends_with('}'));
        match body.open.take() {
            Some(Open::Tool { name, place, likely }) => {
                let is_foreign = body.header.role != Role::Assistant;
                let may_be_call = !is_answered && !is_foreign && body.header.channel != Some(Channel::Final);
                if end == MessageEnd::Call || may_be_call && text.starts_with('{') {
                    body.header.role = Role::Assistant;
                    body.header.recipient = Some(name);
                    body.purpose = Purpose::Call;
                    body.recoveries.push(place);
                } else if !is_foreign {
                    let is_channel = place == Recovery::ChannelIsTool;
                    match place {
                        Recovery::ChannelIsTool if likely.is_some() => body.recoveries.push(Recovery::ChannelSpelling),
                        Recovery::ChannelIsTool => body.recoveries.push(Recovery::ChannelUnknown),
                        Recovery::RecipientUnmarked => body.recoveries.push(Recovery::WordsInHeader),
                        _ => {}
                    }
                    if body.header.channel.is_none() && likely.is_none() {
                        body.header.channel = is_channel.then_some(Channel::Other(name));
                        return true;
                    }
                    body.header.channel = body.header.channel.take().or(likely);
                    body.purpose = body.header.purpose();
                }
            }
            Some(Open::Arguments) => {
                // A message on no channel may be an answer in JSON; a preamble is none.
                let is_preamble = body.header.channel == Some(Channel::Commentary);
                self.is_well_formed &= !is_preamble;
                if has_arguments && (end == MessageEnd::Call || is_preamble && !is_answered) {
                    body.purpose = Purpose::Reasoning;
                    if end != MessageEnd::Call {
                        body.recoveries.push(Recovery::CallUnnamed);
                    }
                }
            }
            Some(Open::Text) if end == MessageEnd::Call && has_arguments => body.purpose = Purpose::Reasoning,
            Some(Open::Text) => return true,
            None => {}
        }
        self.tell(events);
        false
    }

    /// A message that ends while still in its header, because `<|message|>` is missing: what does not belong to a
    /// header is its text. There is no message if that leaves nothing, as in a header that was cut off; and no call
    /// unless the model ended it or its arguments began, as the name may be cut off too.
    fn recover_body(&mut self, end: MessageEnd, events: &mut Vec<Event>) {
        let mut reading = self.read_header(Some(end));
        let has_text = !self.raw_header[reading.text_at..].trim().is_empty();
        let is_call = match &reading.open {
            Some(Open::Tool { .. }) => end == MessageEnd::Call,
            _ => reading.header.called_tool().is_some(),
        };
        let is_cut = matches!(end, MessageEnd::Unfinished | MessageEnd::Interrupted);
        if has_text || is_call && !is_cut {
            if !reading.recoveries.contains(&Recovery::HeaderMissing) {
                reading.recoveries.push(Recovery::MessageMissing);
            }
            return self.begin_body(reading, events);
        }
        self.state = State::Outside;
        if !self.raw_header.is_empty() {
            let before = self.messages.len() + self.waiting.len();
            self.fragments.push(Fragment { text: std::mem::take(&mut self.raw_header), before });
        }
    }
}
