//! One answer: its tokens as they come, what they say on which channel, and how it ended.

use gptoss_protocol::{Channel, ChatMessage, Event, FinishReason, LoadOptions, Missing, TokenInfo, TopToken};
use serde::{Deserialize, Serialize};

/// A message of an answer: tokens on one channel, between two headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What the text is for.
    pub channel: Channel,
    /// Function that the message calls, as its header names it; `None` where it calls none.
    pub recipient: Option<String>,
    /// The text so far.
    pub text: String,
    /// For each token with a text of its own: its place in [`Answer::tokens`], and where its text ends in `text`, in bytes.
    pub ends: Vec<(u32, u32)>,
    /// Whether the message has come to its end.
    pub is_complete: bool,
}

/// How much of the prompt was run through the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prefill {
    /// Tokens of the prompt that the KV cache holds, reused ones included.
    pub done_tokens: u32,
    /// Tokens of the whole prompt.
    pub total_tokens: u32,
    /// Tokens that the KV cache held already: nothing was computed for them.
    pub reused_tokens: u32,
    /// Time since the answer began.
    pub elapsed_ms: f64,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Why nothing came after the last token.
    pub reason: FinishReason,
    /// Tokens of the answer, the one that ended it included.
    pub new_tokens: u32,
    /// Tokens in a row that said nothing, where this is therefore no answer; else 0.
    pub junk_tokens: u32,
    /// Rate at which the tokens of the prompt that were not reused were run; `None` if it was not measured.
    pub prefill_tokens_per_second: Option<f64>,
    /// Rate of the tokens after the first; `None` where there is no second one.
    pub decode_tokens_per_second: Option<f64>,
}

/// The answer in progress or just given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Counts answers, so that whoever draws them sees that a new one began.
    pub number: u32,
    /// Tokens of the whole prompt; `None` until it is encoded.
    pub prompt_tokens: Option<u32>,
    /// How far the prompt was run; `None` before its first batch.
    pub prefill: Option<Prefill>,
    /// Every token so far, those of the format included, as the engine told it.
    pub tokens: Vec<TokenInfo>,
    /// What they say, message by message.
    pub said: Vec<Said>,
    /// Text of the final channel so far; replaced by the engine's own text at the end.
    pub final_text: String,
    /// Text of the analysis channel so far; replaced by the engine's own text at the end.
    pub analysis_text: String,
    /// What the answer adds to the history of its conversation; empty until it has ended.
    pub messages: Vec<ChatMessage>,
    /// Experts that the prompt waits for; `None` while it does not wait.
    pub missing: Option<Missing>,
    /// Rate of the tokens after the first so far; `None` before there is a second one.
    pub decode_tokens_per_second: Option<f64>,
    /// Time from the question to the first token by the worker's clock; replaced by the engine's own number at the end.
    pub time_to_first_token_ms: Option<f64>,
    /// How it ended; `None` while it goes on.
    pub finished: Option<Finished>,
    /// How the model that answers was loaded, where that makes another model of it, for an experiment.
    pub experiment: Option<LoadOptions>,
    pub(super) begun_at_ms: Option<f64>,
    pub(super) in_message: bool,
}

impl Answer {
    /// Tokens of any kind so far.
    pub fn generated(&self) -> u32 {
        self.tokens.last().map_or(0, |token| token.index + 1)
    }

    /// Whether nothing was said so far.
    pub fn is_silent(&self) -> bool {
        self.said.is_empty() && self.final_text.is_empty() && self.analysis_text.is_empty()
    }

    /// The most likely tokens at the last step, best first.
    pub fn top(&self) -> &[TopToken] {
        self.tokens.last().map_or(&[], |token| &token.top)
    }

    /// Prompt tokens per second: the engine's own number, or what its progress so far amounts to.
    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        if let Some(finished) = &self.finished {
            return finished.prefill_tokens_per_second;
        }
        let prefill = self.prefill.as_ref()?;
        let computed = prefill.done_tokens.saturating_sub(prefill.reused_tokens);
        (computed > 0 && prefill.elapsed_ms > 0.0).then(|| f64::from(computed) / prefill.elapsed_ms * 1000.0)
    }

    /// New tokens per second: the engine's own number, or its latest while tokens still come.
    pub fn decode_rate(&self) -> Option<f64> {
        match &self.finished {
            Some(finished) => finished.decode_tokens_per_second,
            None => self.decode_tokens_per_second,
        }
    }

    /// Mean entropy of the distributions that the tokens were drawn from, in nats; `None` before the first.
    pub fn mean_entropy_nats(&self) -> Option<f32> {
        let sum: f32 = self.tokens.iter().map(|token| token.entropy_nats).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f32)
    }

    /// What the history of the conversation has of it. An answer that was stopped is what was shown of it.
    pub fn history(&self) -> Vec<ChatMessage> {
        if self.messages.is_empty() && !self.final_text.is_empty() {
            return vec![ChatMessage::said(self.final_text.clone())];
        }
        self.messages.clone()
    }

    /// Takes in a message of which no tokens are known.
    pub(super) fn take_message(&mut self, message: ChatMessage) {
        if let ChatMessage::Assistant { channel, recipient, text, .. } = &message {
            let channel = match (channel.as_deref(), recipient) {
                (_, Some(_)) => Channel::ToolCall,
                (Some("analysis"), None) => Channel::Analysis,
                (Some("commentary"), None) => Channel::Commentary,
                _ => Channel::Final,
            };
            match channel {
                Channel::Final => self.final_text.push_str(text),
                Channel::Analysis => self.analysis_text.push_str(text),
                Channel::Commentary | Channel::ToolCall => {}
            }
            let (recipient, text, ends) = (recipient.clone(), text.clone(), Vec::new());
            self.said.push(Said { channel, recipient, text, ends, is_complete: true });
        }
        self.messages.push(message);
    }

    pub(super) fn take_token(&mut self, token: &TokenInfo, at_ms: f64) {
        if self.tokens.is_empty() {
            self.time_to_first_token_ms = self.begun_at_ms.map(|begun_at_ms| at_ms - begun_at_ms);
        }
        self.decode_tokens_per_second = token.decode_tokens_per_second.or(self.decode_tokens_per_second);
        let place = self.tokens.len() as u32;
        self.tokens.push(token.clone());
        let Some(channel) = token.channel else {
            self.end_message();
            return;
        };
        if token.text.is_empty() {
            return;
        }
        match channel {
            Channel::Final => self.final_text.push_str(&token.text),
            Channel::Analysis => self.analysis_text.push_str(&token.text),
            Channel::Commentary | Channel::ToolCall => {}
        }
        if !self.in_message || self.said.last().is_none_or(|said| said.channel != channel) {
            self.end_message();
            let (recipient, text, ends) = (token.recipient.clone(), String::new(), Vec::new());
            self.said.push(Said { channel, recipient, text, ends, is_complete: false });
        }
        if let Some(said) = self.said.last_mut() {
            said.text.push_str(&token.text);
            said.ends.push((place, said.text.len() as u32));
        }
        self.in_message = true;
    }

    fn end_message(&mut self) {
        self.in_message = false;
        if let Some(said) = self.said.last_mut() {
            said.is_complete = true;
        }
    }

    pub(super) fn take_finished(&mut self, event: &Event) {
        let Event::Finished {
            reason,
            new_tokens,
            junk_tokens,
            final_text,
            analysis_text,
            messages,
            prefill_tokens_per_second,
            decode_tokens_per_second,
            time_to_first_token_ms,
            ..
        } = event
        else {
            return;
        };
        self.end_message();
        self.final_text.clone_from(final_text);
        self.analysis_text.clone_from(analysis_text);
        self.correct(Channel::Final, final_text);
        self.correct(Channel::Analysis, analysis_text);
        self.messages.clone_from(messages);
        self.finished = Some(Finished {
            reason: *reason,
            new_tokens: *new_tokens,
            junk_tokens: *junk_tokens,
            prefill_tokens_per_second: *prefill_tokens_per_second,
            decode_tokens_per_second: *decode_tokens_per_second,
        });
        self.time_to_first_token_ms = time_to_first_token_ms.or(self.time_to_first_token_ms);
    }

    /// The engine's own text of a channel is the one that counts; normally it is what was streamed.
    fn correct(&mut self, channel: Channel, text: &str) {
        let is_of = |said: &&mut Said| said.channel == channel;
        let streamed: String = self.said.iter_mut().filter(is_of).map(|said| said.text.as_str()).collect();
        if streamed == text {
            return;
        }
        self.said.retain(|said| said.channel != channel);
        if !text.is_empty() {
            let (recipient, text, ends) = (None, text.to_owned(), Vec::new());
            self.said.push(Said { channel, recipient, text, ends, is_complete: true });
        }
    }
}
