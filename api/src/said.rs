//! What an answer says, piece by piece: the fold over its events that every dialect is written from.

use gptoss_protocol::{Channel, ChatMessage, Event, Failure, FinishReason, StoppedBy, TokenInfo};
use serde_json::Value;

/// What a stretch of an answer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Reasoning, on the analysis channel.
    Reasoning,
    /// What the model says to the user before it calls a function.
    Preamble,
    /// The answer itself.
    Answer,
    /// Input of a call of this tool.
    Call(String),
    /// Input of a call of something that the request did not offer, by its whole name: `browser.search`, `python`. It is no call
    /// of the client's tools.
    NotOffered(String),
}

/// A change of what was said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// A part begins; the one before has ended.
    Begin(Part),
    /// More of the part, with the token that completed it.
    Text(String, Option<Box<TokenInfo>>),
    /// This token came, whatever it says; the text that it completed comes before it.
    Token(u32),
    /// The part is complete.
    End,
    /// The answer was cut in the part: nothing comes of it any more.
    Cut,
}

/// Tokens of a request, as usage is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub prompt_tokens: u32,
    /// Tokens of the prompt that the KV cache held already, where that is known.
    pub cached_tokens: Option<u32>,
    pub new_tokens: u32,
    /// New tokens that are reasoning: those of the analysis channel.
    pub reasoning_tokens: u32,
}

/// Why nothing comes after the last token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub reason: FinishReason,
    /// Which of the request's own stops it was.
    pub stopped_by: Option<StoppedBy>,
}

impl End {
    /// The stop as vLLM tells it, in `stop_reason`: a stop sequence as text, a token as its id. Null where the model itself ended
    /// the answer, or a limit did.
    pub fn stop_reason(&self) -> Value {
        match &self.stopped_by {
            Some(StoppedBy::Text(text)) => text.as_str().into(),
            Some(StoppedBy::Token(id)) => (*id).into(),
            None => Value::Null,
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    /// There is an answer, which adds `messages` to a conversation.
    Finished {
        end: End,
        messages: Vec<ChatMessage>,
    },
    /// So many tokens in a row belong to no message: whatever was made of them is no word of a sound model.
    Junk(u32),
    Stopped,
    Failed(Failure),
    /// The engine went away without a word.
    Vanished,
}

/// Follows the events of one answer.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Tools that the model was told of.
    offered: Vec<String>,
    open: Option<(Channel, Option<String>)>,
    /// Functions whose calls were begun.
    calls: usize,
    final_text: String,
    usage: Usage,
    ending: Option<Ending>,
}

impl Said {
    /// Follows an answer to a prompt that offers these tools.
    pub fn of(offered: Vec<String>) -> Self {
        Self { offered, ..Self::default() }
    }

    /// The pieces that an event adds.
    pub fn follow(&mut self, event: Event) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match event {
            Event::PromptEncoded { tokens, .. } => self.usage.prompt_tokens = tokens,
            // An engine elsewhere says only that it is under way.
            Event::Prefill { done_tokens: 0, .. } => {}
            Event::Prefill { reused_tokens, .. } => self.usage.cached_tokens = Some(reused_tokens),
            Event::Token(token) => self.hear(token, &mut pieces),
            Event::Finished {
                reason,
                stopped_by,
                new_tokens,
                reused_tokens,
                final_text,
                tool_calls,
                messages,
                junk_tokens,
                ..
            } => {
                self.usage.new_tokens = new_tokens;
                self.usage.cached_tokens = reused_tokens;
                if let Some(rest) = final_text.strip_prefix(self.final_text.as_str()).filter(|rest| !rest.is_empty()) {
                    let rest = rest.to_owned();
                    self.say((Channel::Final, None), rest, None, &mut pieces);
                }
                let is_cut =
                    matches!(reason, FinishReason::MaxTokens | FinishReason::ContextFull | FinishReason::Stopped);
                if is_cut {
                    pieces.extend(self.open.take().map(|_| Piece::Cut));
                } else {
                    self.close(&mut pieces);
                    // A call whose arguments are empty was not seen in any token. One that was cut before them is none.
                    for call in tool_calls.into_iter().skip(self.calls) {
                        let part = self.part(&(Channel::ToolCall, Some(call.name)));
                        pieces.extend([Piece::Begin(part), Piece::Text(call.arguments, None), Piece::End]);
                    }
                }
                // What no client hears of comes back from none: the model is not to wait for a result.
                let messages = messages.into_iter().filter(|message| self.is_heard(message)).collect();
                self.ending = Some(match (reason, junk_tokens) {
                    // What was stopped is judged by nobody: the client hears that it was.
                    (_, 0) | (FinishReason::Stopped, _) => {
                        Ending::Finished { end: End { reason, stopped_by }, messages }
                    }
                    (_, tokens) => Ending::Junk(tokens),
                });
            }
            Event::Stopped { .. } => self.ending = Some(Ending::Stopped),
            Event::Failed { failure, .. } => self.ending = Some(Ending::Failed(failure)),
            _ => {}
        }
        pieces
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// How it ended; before the end what is to be said if no event comes any more.
    pub fn into_ending(self) -> Ending {
        self.ending.unwrap_or(Ending::Vanished)
    }

    fn hear(&mut self, token: TokenInfo, pieces: &mut Vec<Piece>) {
        self.usage.new_tokens = token.index + 1;
        let id = token.id;
        let (channel, recipient) = (token.channel, token.recipient.clone());
        let of = channel.map(|channel| (channel, recipient)).or_else(|| self.open.clone());
        if of.as_ref().is_some_and(|(channel, _)| *channel == Channel::Analysis) {
            self.usage.reasoning_tokens += 1;
        }
        // The token that ends a message may bring the end of its text, and belongs to no channel itself.
        if let Some(of) = of.filter(|_| !token.text.is_empty()) {
            let text = token.text.clone();
            self.say(of, text, Some(token), pieces);
        }
        pieces.push(Piece::Token(id));
        if channel.is_none() {
            self.close(pieces);
        }
    }

    fn say(&mut self, of: (Channel, Option<String>), text: String, token: Option<TokenInfo>, pieces: &mut Vec<Piece>) {
        if self.open.as_ref() != Some(&of) {
            self.close(pieces);
            pieces.push(Piece::Begin(self.part(&of)));
            self.calls += usize::from(of.0 == Channel::ToolCall);
        }
        if of.0 == Channel::Final {
            self.final_text.push_str(&text);
        }
        self.open = Some(of);
        pieces.push(Piece::Text(text, token.map(Box::new)));
    }

    fn close(&mut self, pieces: &mut Vec<Piece>) {
        if self.open.take().is_some() {
            pieces.push(Piece::End);
        }
    }

    fn part(&self, (channel, recipient): &(Channel, Option<String>)) -> Part {
        match channel {
            Channel::Analysis => Part::Reasoning,
            Channel::Commentary => Part::Preamble,
            Channel::Final => Part::Answer,
            Channel::ToolCall => {
                let whole = recipient.as_deref().unwrap_or_default();
                let name = whole.strip_prefix("functions.").filter(|name| !name.is_empty()).unwrap_or(whole);
                match self.offered.iter().any(|offered| offered == name) {
                    true => Part::Call(name.to_owned()),
                    false => Part::NotOffered(whole.to_owned()),
                }
            }
        }
    }

    /// Whether the client hears of a message: of all but calls of what it did not offer.
    fn is_heard(&self, message: &ChatMessage) -> bool {
        let ChatMessage::Assistant { recipient: Some(recipient), .. } = message else { return true };
        !matches!(self.part(&(Channel::ToolCall, Some(recipient.clone()))), Part::NotOffered(_))
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::ToolCall;

    use super::*;

    fn finished(reason: FinishReason, junk: u32) -> Ending {
        let mut said = Said::default();
        let mut event = ended(reason, Vec::new());
        if let Event::Finished { junk_tokens, .. } = &mut event {
            *junk_tokens = junk;
        }
        said.follow(event);
        said.into_ending()
    }

    fn ended(reason: FinishReason, tool_calls: Vec<ToolCall>) -> Event {
        Event::Finished {
            reason,
            stopped_by: None,
            new_tokens: 90,
            reused_tokens: Some(0),
            junk_tokens: 0,
            final_text: String::new(),
            analysis_text: String::new(),
            tool_calls,
            messages: Vec::new(),
            prefill_tokens_per_second: None,
            decode_tokens_per_second: None,
            time_to_first_token_ms: None,
        }
    }

    fn token(channel: Channel, recipient: &str, text: &str) -> Event {
        Event::Token(TokenInfo {
            index: 0,
            id: 0,
            text: text.into(),
            channel: Some(channel),
            recipient: Some(recipient.to_owned()).filter(|recipient| !recipient.is_empty()),
            probability: None,
            entropy_nats: 0.0,
            top: Vec::new(),
            elapsed_ms: 0.0,
            decode_tokens_per_second: None,
        })
    }

    #[test]
    fn a_call_on_any_channel_is_one_and_only_of_what_was_offered() {
        let mut said = Said::of(vec!["add".into()]);
        for (recipient, part) in [
            ("functions.add", Part::Call("add".into())),
            ("add", Part::Call("add".into())),
            ("browser.search", Part::NotOffered("browser.search".into())),
            ("python", Part::NotOffered("python".into())),
            ("functions.sub", Part::NotOffered("functions.sub".into())),
            ("browser.add", Part::NotOffered("browser.add".into())),
        ] {
            let pieces = said.follow(token(Channel::ToolCall, recipient, "{}"));
            assert!(pieces.contains(&Piece::Begin(part)), "{recipient}: {pieces:?}");
        }
        let call = |recipient: &str| ChatMessage::Assistant {
            channel: Some("analysis".into()),
            recipient: Some(recipient.into()),
            content_type: None,
            text: "{}".into(),
            tokens: None,
        };
        assert!(said.is_heard(&call("functions.add")) && said.is_heard(&ChatMessage::said("add")));
        assert!(!said.is_heard(&call("python")));
    }

    /// What comes with the end of an answer whose last call has no arguments, after a call that was seen.
    fn at_the_end(reason: FinishReason) -> Vec<Piece> {
        let call = |name: &str| ToolCall { name: name.into(), arguments: "{}".into() };
        let mut said = Said::of(vec!["add".into(), "now".into()]);
        said.follow(token(Channel::ToolCall, "functions.add", "{}"));
        said.follow(ended(reason, vec![call("add"), call("now")]))
    }

    #[test]
    fn a_call_that_was_cut_before_its_arguments_is_none() {
        let begun = Piece::Begin(Part::Call("now".into()));
        let whole = vec![Piece::End, begun, Piece::Text("{}".into(), None), Piece::End];
        assert_eq!(at_the_end(FinishReason::Call), whole);
        for reason in [FinishReason::MaxTokens, FinishReason::ContextFull, FinishReason::Stopped] {
            assert_eq!(at_the_end(reason), [Piece::Cut]);
        }
    }

    #[test]
    fn what_is_no_answer_is_not_given_as_one() {
        let whole = |reason| Ending::Finished { end: End { reason, stopped_by: None }, messages: Vec::new() };
        assert_eq!(finished(FinishReason::Return, 0), whole(FinishReason::Return));
        assert_eq!(finished(FinishReason::MaxTokens, 80), Ending::Junk(80));
        assert_eq!(finished(FinishReason::Stopped, 80), whole(FinishReason::Stopped));
        let error = crate::answer::error_of(&finished(FinishReason::Return, 80));
        assert!(error.status.is_server_error() && error.message.contains("80 tokens"), "{error}");
    }
}
