//! What is told of an answer, token by token, wherever its tokens come from: what they say, when they end it, how fast they came.

use gptoss_protocol::{Event, FinishReason, StoppedBy, TokenInfo, TopToken};
use gptoss_text::{Special, Tokenizer};
use web_time::Instant;

use super::answer::{Answer, AnswerLimits};
use super::speech::{Said, Speech};
use crate::error::EngineError;
use crate::host::milliseconds_since;

/// An answer as far as it has come, without whatever computes it.
pub struct Utterance {
    /// The prompt, then what was generated.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    limits: AnswerLimits,
    speech: Speech,
    begun: Instant,
    prompt_read: Instant,
    last_token: Instant,
    first_token_ms: Option<f64>,
    /// The last token, if the prompt names it among its stops. A token that ends every answer is none of them, named or not:
    /// so vLLM has it, and clients tell by it whether the model ended the answer itself.
    stop_token: Option<u32>,
}

/// What is known of a token beside its id.
#[derive(Clone, Debug)]
pub struct Likelihood {
    /// As [`TokenInfo::probability`] has it.
    pub probability: Option<f32>,
    /// As [`TokenInfo::entropy_nats`] has it.
    pub entropy_nats: f32,
    /// As [`TokenInfo::top`] has it.
    pub top: Vec<TopToken>,
}

impl Likelihood {
    /// Nothing is known: another program drew the token.
    pub fn unknown() -> Self {
        Self { probability: None, entropy_nats: f32::NAN, top: Vec::new() }
    }
}

impl Utterance {
    /// An answer to `prompt` of which nothing has come.
    pub fn new(tokenizer: &Tokenizer, prompt: Vec<u32>, limits: AnswerLimits) -> Self {
        let now = Instant::now();
        Self {
            speech: Speech::new(tokenizer, limits.reading, &limits.stop),
            prompt_tokens: prompt.len(),
            tokens: prompt,
            limits,
            begun: now,
            prompt_read: now,
            last_token: now,
            first_token_ms: None,
            stop_token: None,
        }
    }

    /// The prompt, then what was generated.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_tokens]
    }

    /// The generated tokens.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_tokens..]
    }

    /// When it ends.
    pub fn limits(&self) -> &AnswerLimits {
        &self.limits
    }

    /// Time since it began, in milliseconds.
    pub fn elapsed_ms(&self) -> f64 {
        milliseconds_since(self.begun)
    }

    /// The prompt was read: tokens come from now on.
    pub fn prompt_was_read(&mut self) {
        self.prompt_read = Instant::now();
        self.last_token = self.prompt_read;
    }

    /// Whether it has as many tokens as it may have.
    pub fn is_full(&self) -> bool {
        self.generated().len() as u32 >= self.limits.max_new_tokens
    }

    /// Whether the last token was part of a text, and not of a message's header.
    pub fn says_text(&self) -> bool {
        self.speech.channel.is_some()
    }

    /// Whether the message that is being written calls a tool.
    pub fn calls_tool(&self) -> bool {
        self.speech.calls_tool()
    }

    /// Takes the next token. Gives what is to be told of it.
    ///
    /// # Errors
    /// [`EngineError::Token`]: it is not in the vocabulary.
    pub fn say(&mut self, tokenizer: &Tokenizer, token: u32, known: Likelihood) -> Result<TokenInfo, EngineError> {
        let unknown = |_| EngineError::Token { id: token, vocabulary: tokenizer.vocab_size() as u32 };
        let text = self.speech.push(tokenizer, token).map_err(unknown)?;
        self.tokens.push(token);
        let ends_every_answer = matches!(tokenizer.special(token), Some(Special::Return | Special::EndOfText));
        let is_named = self.limits.stop_tokens.contains(&token);
        self.stop_token = (is_named && !ends_every_answer).then_some(token);
        self.first_token_ms.get_or_insert_with(|| milliseconds_since(self.begun));
        let elapsed_ms = milliseconds_since(std::mem::replace(&mut self.last_token, Instant::now()));
        let decoded = self.generated().len() - 1;
        let Likelihood { probability, entropy_nats, top } = known;
        Ok(TokenInfo {
            index: decoded as u32,
            id: token,
            text,
            channel: self.speech.channel,
            recipient: self.speech.recipient.clone(),
            probability,
            entropy_nats,
            top,
            elapsed_ms,
            decode_tokens_per_second: rate(decoded, self.prompt_read.elapsed().as_secs_f64()),
        })
    }

    /// Why nothing comes after `token`, which came last, if it ends the answer.
    pub fn end_after(&self, tokenizer: &Tokenizer, token: u32) -> Option<FinishReason> {
        match tokenizer.special(token) {
            Some(Special::Return | Special::EndOfText) => Some(FinishReason::Return),
            Some(Special::Call) => Some(FinishReason::Call),
            _ if self.limits.stop_tokens.contains(&token) => Some(FinishReason::Return),
            _ if self.speech.stopped.is_some() => Some(FinishReason::StopSequence),
            _ => None,
        }
    }

    /// Everything, now that nothing comes any more, and what is to be told of it.
    pub fn finish(&mut self, reason: FinishReason, reused_tokens: u32) -> (Answer, Event) {
        let decode_seconds = self.prompt_read.elapsed().as_secs_f64();
        let prefill_seconds = (self.prompt_read - self.begun).as_secs_f64();
        let stopped_by = match reason {
            FinishReason::StopSequence => self.speech.stopped.clone().map(StoppedBy::Text),
            FinishReason::Return | FinishReason::Call => self.stop_token.map(StoppedBy::Token),
            FinishReason::MaxTokens | FinishReason::ContextFull | FinishReason::Stopped => None,
        };
        let Said { turn, final_text, junk_tokens } = self.speech.finish();
        let answer = Answer { reason, tokens: self.generated().to_vec(), reused_tokens, turn, junk_tokens, final_text };
        let finished = Event::Finished {
            reason,
            stopped_by,
            new_tokens: answer.tokens.len() as u32,
            reused_tokens: Some(reused_tokens),
            junk_tokens,
            final_text: answer.final_text.clone(),
            analysis_text: answer.turn.reasoning().unwrap_or_default(),
            tool_calls: answer.tool_calls(),
            messages: answer.messages(),
            prefill_tokens_per_second: rate(self.prompt_tokens - reused_tokens as usize, prefill_seconds),
            decode_tokens_per_second: rate(answer.tokens.len().saturating_sub(1), decode_seconds),
            time_to_first_token_ms: self.first_token_ms,
        };
        (answer, finished)
    }
}

fn rate(count: usize, seconds: f64) -> Option<f64> {
    (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use gptoss_source::MemorySource;

    use super::*;
    use crate::{Quiet, Reading, read_header, tokenizer};

    /// How an answer of these tokens ends, and by which of these stops: a text, or the name of a token.
    fn ended(stop: &[&str], stop_tokens: &[Special], text: &str) -> (FinishReason, Option<String>) {
        let file = include_bytes!("../../../models/nano/gpt-oss-nano.gguf").to_vec();
        let header = pollster::block_on(read_header(&MemorySource::new("nano", file), &Quiet)).expect("a model");
        let tokenizer = tokenizer(&header.gguf).expect("a tokenizer");
        let limits = AnswerLimits {
            max_new_tokens: 99,
            stop: stop.iter().map(|text| (*text).to_owned()).collect(),
            top_tokens: None,
            stop_tokens: stop_tokens.iter().map(|special| tokenizer.special_id(*special)).collect(),
            reading: Reading::Harmony,
            reuse_prefix: false,
        };
        let mut said = Utterance::new(&tokenizer, vec![0], limits);
        let end = tokenizer.encode_with_specials(text).into_iter().find_map(|token| {
            said.say(&tokenizer, token, Likelihood::unknown()).expect("a token");
            said.end_after(&tokenizer, token)
        });
        let reason = end.unwrap_or(FinishReason::MaxTokens);
        let (_, Event::Finished { stopped_by, .. }) = said.finish(reason, 0) else { panic!("another event") };
        let name = |id: u32| tokenizer.special_name(id).map(str::to_owned);
        let told = stopped_by.map(|by| match by {
            StoppedBy::Text(text) => text,
            StoppedBy::Token(id) => name(id).expect("a special token"),
        });
        (reason, told)
    }

    #[test]
    fn what_ended_an_answer_is_told_where_the_prompt_asked_for_it() {
        let answer = "<|channel|>final<|message|>A b c.<|return|>";
        let call = "<|channel|>commentary to=functions.f<|message|>{}<|call|>";
        let by = |text: &str| Some(text.to_owned());
        assert_eq!(ended(&["x", " c", " b c"], &[], answer), (FinishReason::StopSequence, by(" b c")));
        assert_eq!(ended(&["x"], &[], answer), (FinishReason::Return, None));
        assert_eq!(ended(&["x"], &[], "<|channel|>final<|message|>A b"), (FinishReason::MaxTokens, None));
        // A token that ends every answer does so by itself; the one of a call is told where it was asked for.
        assert_eq!(ended(&[], &[Special::Return, Special::Call], answer), (FinishReason::Return, None));
        assert_eq!(ended(&[], &[Special::Return], call), (FinishReason::Call, None));
        assert_eq!(ended(&[], &[Special::Call], call), (FinishReason::Call, by("<|call|>")));
        let two = "<|channel|>analysis<|message|>a<|end|><|start|>assistant";
        assert_eq!(ended(&[], &[Special::End], two), (FinishReason::Return, by("<|end|>")));
    }
}
