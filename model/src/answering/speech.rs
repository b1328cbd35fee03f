//! What the generated tokens say, token by token: the messages of a turn, or plain text.

use gptoss_protocol::Channel;
use gptoss_text::harmony::{self, Parser, Purpose, Turn};
use gptoss_text::{StreamDecoder, Tokenizer, UnknownToken};

use crate::answering::stop::StopFilter;

/// So many tokens in a row that say nothing on any channel are no header any more: the longest that a model has reason to
/// write, with a recipient and a content type, takes about half of them.
const JUNK_TOKENS: u32 = 64;

/// How generated tokens are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The tokens are the messages of an assistant's turn.
    #[default]
    Harmony,
    /// The tokens are text, without the special token that ends it. Other special tokens appear by name.
    Text,
    /// The tokens are text with everything in it: the token that ends it and a stop sequence included.
    Raw,
}

/// Follows the tokens of one answer.
pub(crate) struct Speech {
    reader: Reader,
    stop: StopFilter,
    final_text: String,
    /// The channel of the message that is being read.
    open: Option<Channel>,
    open_recipient: Option<String>,
    /// Channel that the text of the last token belongs to; while it has none, the channel of the message that is being
    /// read.
    pub channel: Option<Channel>,
    pub recipient: Option<String>,
    /// The stop sequence that was completed.
    pub stopped: Option<String>,
    /// Tokens since the last text of a message, and the most there ever were.
    silent_tokens: u32,
    most_silent_tokens: u32,
}

/// What an answer came to.
pub(crate) struct Said {
    /// Messages of the turn; empty unless the tokens were read as Harmony.
    pub turn: Turn,
    pub final_text: String,
    /// Tokens in a row that said nothing on any channel, where they are too many for a header; else 0.
    pub junk_tokens: u32,
}

enum Reader {
    Harmony(Box<Parser>),
    Text { decoder: StreamDecoder, raw: bool },
}

impl Speech {
    pub fn new(tokenizer: &Tokenizer, reading: Reading, stop: &[String]) -> Self {
        let reader = match reading {
            Reading::Harmony => Reader::Harmony(Box::new(Parser::new(tokenizer))),
            Reading::Text | Reading::Raw => {
                Reader::Text { decoder: StreamDecoder::new(), raw: reading == Reading::Raw }
            }
        };
        Self {
            reader,
            stop: StopFilter::new(stop),
            final_text: String::new(),
            open: None,
            open_recipient: None,
            channel: None,
            recipient: None,
            stopped: None,
            silent_tokens: 0,
            most_silent_tokens: 0,
        }
    }

    /// Whether the message that is being read calls a tool.
    pub fn calls_tool(&self) -> bool {
        self.open == Some(Channel::ToolCall)
    }

    /// Returns the visible text that the token completed.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String, UnknownToken> {
        let mut visible = String::new();
        match &mut self.reader {
            Reader::Harmony(parser) => {
                let events = parser.push(tokenizer, token)?;
                let says_something =
                    |event: &harmony::Event| matches!(event, harmony::Event::Text(text) if !text.is_empty());
                self.silent_tokens = if events.iter().any(says_something) { 0 } else { self.silent_tokens + 1 };
                self.most_silent_tokens = self.most_silent_tokens.max(self.silent_tokens);
                self.follow(events, &mut visible);
                if visible.is_empty() {
                    (self.channel, self.recipient) = (self.open, self.open_recipient.clone());
                }
            }
            Reader::Text { raw: false, .. } if tokenizer.is_stop(token) => {}
            Reader::Text { decoder, raw } => {
                let (text, raw) = (decoder.push(tokenizer, token)?, *raw);
                self.channel = Some(Channel::Final);
                self.open = self.channel;
                self.hear(&text, raw, &mut visible);
            }
        }
        Ok(visible)
    }

    /// Everything that was said, now that no more tokens come.
    pub fn finish(&mut self) -> Said {
        let reader = std::mem::replace(&mut self.reader, Reader::Text { decoder: StreamDecoder::new(), raw: false });
        let mut visible = String::new();
        let turn = match reader {
            Reader::Harmony(parser) => {
                let (events, turn) = parser.finish();
                self.follow(events, &mut visible);
                turn
            }
            Reader::Text { decoder, raw } => {
                self.hear(&decoder.finish(), raw, &mut visible);
                if !raw {
                    self.release(&mut visible);
                }
                Turn::default()
            }
        };
        let junk_tokens = if self.most_silent_tokens >= JUNK_TOKENS { self.most_silent_tokens } else { 0 };
        Said { turn, final_text: std::mem::take(&mut self.final_text), junk_tokens }
    }

    fn follow(&mut self, events: Vec<harmony::Event>, visible: &mut String) {
        for event in events {
            match event {
                harmony::Event::Header(header, purpose) => {
                    self.open_recipient = header.called_tool().map(str::to_owned);
                    self.open = match purpose {
                        Purpose::Reasoning => Some(Channel::Analysis),
                        Purpose::Preamble => Some(Channel::Commentary),
                        Purpose::Answer => Some(Channel::Final),
                        Purpose::Call => Some(Channel::ToolCall),
                        // What the model made up for others is not its answer.
                        Purpose::Foreign => None,
                    };
                }
                harmony::Event::Text(text) if self.open == Some(Channel::Final) => self.hear(&text, false, visible),
                harmony::Event::Text(text) => self.show(&text, visible),
                harmony::Event::MessageEnd(_) => {
                    self.release(visible);
                    (self.open, self.open_recipient) = (None, None);
                }
                harmony::Event::Stop(_) | harmony::Event::Ignored(_) => {}
            }
        }
    }

    /// More text that may hold a stop sequence; with `everything` the sequence is shown, too.
    fn hear(&mut self, text: &str, everything: bool, visible: &mut String) {
        if self.stopped.is_some() {
            return;
        }
        let (before, stopped) = self.stop.push(text);
        self.stopped = stopped;
        self.show(if everything { text } else { &before }, visible);
    }

    /// The text is over: what was held back was no stop sequence.
    fn release(&mut self, visible: &mut String) {
        let rest = self.stop.finish();
        self.show(&rest, visible);
    }

    /// Text of the open message. A token that tells of several messages shows one channel: what the user waits for.
    fn show(&mut self, text: &str, visible: &mut String) {
        let Some(channel) = self.open.filter(|_| !text.is_empty()) else { return };
        if channel == Channel::Final {
            self.final_text.push_str(text);
        }
        if visible.is_empty() || self.channel.is_some_and(|shown| rank(shown) < rank(channel)) {
            visible.clear();
            (self.channel, self.recipient) = (Some(channel), self.open_recipient.clone());
        }
        if self.channel == Some(channel) {
            visible.push_str(text);
        }
    }
}

/// Which channel matters more to the user.
fn rank(channel: Channel) -> u8 {
    match channel {
        Channel::Analysis => 0,
        Channel::Commentary => 1,
        Channel::ToolCall => 2,
        Channel::Final => 3,
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use gptoss_source::MemorySource;
    use gptoss_text::Special;

    use super::*;
    use crate::{Quiet, read_header, tokenizer};

    fn nano() -> Tokenizer {
        let file = include_bytes!("../../../models/nano/gpt-oss-nano.gguf").to_vec();
        let header = pollster::block_on(read_header(&MemorySource::new("nano", file), &Quiet)).expect("a model");
        tokenizer(&header.gguf).expect("a tokenizer")
    }

    /// What each token shows, until the text stops, and the final text.
    fn said(tokenizer: &Tokenizer, reading: Reading, stop: &str, text: &str) -> (String, String, bool) {
        let mut speech = Speech::new(tokenizer, reading, &[stop.to_owned()]);
        let mut shown = String::new();
        for token in tokenizer.encode_with_specials(text) {
            shown += &speech.push(tokenizer, token).expect("a token");
            if speech.stopped.is_some() {
                break;
            }
        }
        let stopped = speech.stopped.is_some();
        let Said { turn, final_text, .. } = speech.finish();
        assert_eq!(turn.messages.is_empty(), reading != Reading::Harmony);
        (shown, final_text, stopped)
    }

    #[test]
    fn the_same_tokens_read_in_three_ways() {
        let tokenizer = nano();
        let end = tokenizer.special_name(tokenizer.special_id(Special::End)).expect("named").to_owned();
        let text = format!(
            "<|channel|>analysis<|message|>Think.{end}<|start|>assistant<|channel|>final<|message|>It is é.<|return|>"
        );
        let whole = |reading| said(&tokenizer, reading, "", &text);
        let (shown, final_text, _) = whole(Reading::Harmony);
        assert_eq!((shown.as_str(), final_text.as_str()), ("Think.It is é.", "It is é."));
        assert_eq!(whole(Reading::Raw).0, text);
        assert_eq!(whole(Reading::Text).0, text.strip_suffix("<|return|>").expect("its end"));
    }

    #[test]
    fn tokens_that_belong_to_no_message_are_no_answer() {
        let tokenizer = nano();
        let junk = |text: &str| {
            let mut speech = Speech::new(&tokenizer, Reading::Harmony, &[]);
            for token in tokenizer.encode_with_specials(text) {
                speech.push(&tokenizer, token).expect("a token");
            }
            speech.finish().junk_tokens
        };
        let sound = "<|channel|>analysis<|message|>t<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>";
        assert_eq!(junk(sound), 0);
        // Messages without a word, over and over; and words of a message that are many.
        let empty = "<|channel|>final<|message|><|end|><|start|>assistant";
        assert_eq!(junk(&empty.repeat(3)), 0);
        let loops = junk(&empty.repeat(40));
        assert!(loops >= 40 * 5, "{loops}");
        assert!(junk(&format!("{sound}{}", "<|start|><|channel|>".repeat(50))) >= 100);
        assert_eq!(junk(&format!("<|channel|>final<|message|>{}", "a b c ".repeat(200))), 0);
    }

    #[test]
    fn a_stop_sequence_is_shown_in_raw_text_only_and_not_looked_for_in_the_analysis() {
        let tokenizer = nano();
        let text = "<|channel|>analysis<|message|>a b c<|end|><|start|>assistant<|channel|>final<|message|>c b a";
        let stopped = |reading| said(&tokenizer, reading, " b", text);
        let (shown, final_text, stop) = stopped(Reading::Harmony);
        assert_eq!((shown.as_str(), final_text.as_str(), stop), ("a b cc", "c", true));
        let (shown, _, stop) = stopped(Reading::Text);
        assert_eq!((shown.as_str(), stop), ("<|channel|>analysis<|message|>a", true));
        let (shown, _, stop) = stopped(Reading::Raw);
        assert_eq!((shown.as_str(), stop), ("<|channel|>analysis<|message|>a b", true));
    }

    /// Texts in a row, with the channel on which they are shown, and the final text.
    fn heard(tokenizer: &Tokenizer, text: &str) -> (Vec<(Option<Channel>, String)>, String) {
        let mut speech = Speech::new(tokenizer, Reading::Harmony, &[]);
        let mut heard: Vec<(Option<Channel>, String)> = Vec::new();
        for token in tokenizer.encode_with_specials(text) {
            let text = speech.push(tokenizer, token).expect("a token");
            match heard.last_mut() {
                _ if text.is_empty() => {}
                Some((channel, whole)) if *channel == speech.channel => whole.push_str(&text),
                _ => heard.push((speech.channel, text)),
            }
        }
        (heard, speech.finish().final_text)
    }

    /// The parser says what a message is for, also where that is known only when its text is over.
    #[test]
    fn odd_messages_are_shown_as_what_they_are() {
        let tokenizer = nano();
        let heard = |text: &str| heard(&tokenizer, text);
        let on = |channel: Channel, text: &str| (Some(channel), text.to_owned());
        assert_eq!(
            heard("<|channel|>We look.<|end|><|start|>assistant<|channel|>final<|message|>A.<|return|>"),
            (vec![on(Channel::Analysis, "We look."), on(Channel::Final, "A.")], "A.".to_owned())
        );
        assert_eq!(heard("<|channel|>bash<|message|>{}<|call|>"), (vec![on(Channel::ToolCall, "{}")], String::new()));
        assert_eq!(heard("A.<|return|>"), (vec![on(Channel::Final, "A.")], "A.".to_owned()));
        // Known when no more tokens come.
        assert_eq!(heard("A."), (vec![], "A.".to_owned()));
        // What is made up for others is not the answer.
        assert_eq!(heard("<|start|>user<|message|>Hi.<|end|>"), (vec![], String::new()));
    }
}
