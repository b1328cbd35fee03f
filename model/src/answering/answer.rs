//! From a question to an answer: Harmony prompt, prefill, decode, and the typed stream of what the model says.

use gptoss_protocol::{self as protocol, Event, FinishReason, Prompt, PromptFormat, Stage, TokenInfo, TopToken};
use gptoss_text::harmony::Turn;
use gptoss_text::{Special, Tokenizer};
use web_time::Instant;

use super::conversation::{encode, require_room_for_answer};
use super::sampling::{Draw, Sampler};
use super::speech::{Reading, Said, Speech};
use crate::backend::{Asked, Backend, Prediction};
use crate::error::{EngineError, StageError};
use crate::host::{Host, check_cancelled, in_stage, milliseconds_since};
use crate::sequences::SequenceId;

/// Most likely tokens that go with each token of the stream.
const TOP_TOKENS: usize = 5;

/// A loaded model and its tokenizer: ready to answer.
pub struct Engine<B> {
    pub model: B,
    pub tokenizer: Tokenizer,
    /// The conversation.
    sequence: SequenceId,
}

/// When an answer ends, besides by the model's own word.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerLimits {
    pub max_new_tokens: u32,
    /// Text that ends the answer when it appears on the final channel; it is not part of the answer.
    pub stop: Vec<String>,
    pub reading: Reading,
    /// Keep the KV cache of the longest common beginning with the last conversation.
    pub reuse_prefix: bool,
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub reason: FinishReason,
    /// The generated tokens, the one that ended the answer included.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt that were in the KV cache already.
    pub reused_tokens: u32,
    /// What was said, by channel; whole, also when a stop sequence ended it. Empty unless it was read as Harmony.
    pub turn: Turn,
    /// Tokens in a row that said nothing on any channel, where they are too many for a header: then this is no answer, whatever
    /// was made of them. Else 0.
    pub junk_tokens: u32,
    pub(super) final_text: String,
}

impl Answer {
    /// Text of the final channel, or all text that was not read as Harmony, up to a stop sequence.
    pub fn final_text(&self) -> &str {
        &self.final_text
    }
}

impl<B: Backend> Engine<B> {
    /// A model that is loaded already.
    ///
    /// # Errors
    /// It has as many sequences as it can have.
    pub fn new(mut model: B, tokenizer: Tokenizer) -> Result<Self, EngineError> {
        let sequence = model.open()?;
        Ok(Self { model, tokenizer, sequence })
    }

    /// Tokens of the conversation that the model holds.
    pub fn position(&self) -> u32 {
        self.model.position(self.sequence)
    }

    /// The tokens of a prompt; as Harmony they end where the assistant begins. User text never becomes a special token.
    pub fn encode(&self, prompt: &Prompt) -> Vec<u32> {
        encode(&self.tokenizer, prompt)
    }

    /// Answers one prompt from an empty context.
    pub async fn answer(&mut self, prompt: &Prompt, host: &dyn Host) -> Result<Answer, StageError> {
        let (tokens, sampler) = in_stage(host, Stage::PromptEncode, async {
            let sampler = Sampler::new(prompt.sampling)?;
            let tokens = self.encode(prompt);
            host.emit(Event::PromptEncoded { tokens: tokens.len() as u32, context_tokens: self.model.kv_capacity() });
            Ok((tokens, sampler))
        })
        .await?;
        let limits = AnswerLimits {
            max_new_tokens: prompt.max_new_tokens,
            stop: prompt.stop.clone(),
            reading: match prompt.format {
                PromptFormat::Harmony => Reading::Harmony,
                PromptFormat::Text => Reading::Text,
            },
            ..AnswerLimits::default()
        };
        self.answer_tokens(&tokens, sampler, &limits, host).await
    }

    /// Continues token ids that end where the assistant begins.
    pub async fn answer_tokens(
        &mut self,
        prompt: &[u32],
        mut sampler: Sampler,
        limits: &AnswerLimits,
        host: &dyn Host,
    ) -> Result<Answer, StageError> {
        let begin = Instant::now();
        let (prediction, reused_tokens) =
            in_stage(host, Stage::Prefill, self.prefill(prompt, &sampler, limits.reuse_prefix, begin, host)).await?;
        let prefill = Prefill {
            begin,
            reused_tokens,
            new_tokens: prompt.len() - reused_tokens as usize,
            seconds: begin.elapsed().as_secs_f64(),
        };
        self.report_state(host);
        in_stage(host, Stage::Decode, self.decode(prediction, &mut sampler, limits, prefill, host)).await
    }

    /// Brings the KV cache to the end of the prompt. Returns the prediction and how many tokens were there already.
    async fn prefill(
        &mut self,
        prompt: &[u32],
        sampler: &Sampler,
        reuse_prefix: bool,
        begin: Instant,
        host: &dyn Host,
    ) -> Result<(Prediction, u32), EngineError> {
        let (total_tokens, capacity) = (prompt.len() as u32, self.model.kv_capacity());
        require_room_for_answer(total_tokens, capacity, self.model.config().context_tokens)?;
        let held = self.model.tokens(self.sequence);
        let common = held.iter().zip(prompt).take_while(|(held, wanted)| held == wanted).count();
        // The last token is always run: its logits are wanted.
        let keep = if reuse_prefix { common.min(prompt.len().saturating_sub(1)) } else { 0 };
        let reused = self.model.rewind(self.sequence, keep as u32);
        let (sequence, rest) = (self.sequence, &prompt[reused as usize..]);
        let report = |done_tokens| {
            let done_tokens = reused + done_tokens;
            host.emit(Event::Prefill { done_tokens, total_tokens, elapsed_ms: milliseconds_since(begin) });
        };
        let prediction = self.model.prefill(sequence, rest, asked(sampler), host, report).await?;
        // The next prompt goes on here: reasoning is no part of it.
        self.model.mark_turn(sequence);
        Ok((prediction, reused))
    }

    async fn decode(
        &mut self,
        mut prediction: Prediction,
        sampler: &mut Sampler,
        limits: &AnswerLimits,
        prefill: Prefill,
        host: &dyn Host,
    ) -> Result<Answer, EngineError> {
        let begin = Instant::now();
        let mut last = begin;
        let mut first_token_ms = None;
        let mut tokens = Vec::new();
        let mut speech = Speech::new(&self.tokenizer, limits.reading, &limits.stop);
        let reason = loop {
            check_cancelled(host)?;
            if tokens.len() as u32 >= limits.max_new_tokens {
                break FinishReason::MaxTokens;
            }
            let token = self.draw(sampler, &prediction, host).await?;
            let text = speech.push(&self.tokenizer, token).map_err(|_| self.unknown(token))?;
            tokens.push(token);
            first_token_ms.get_or_insert_with(|| milliseconds_since(prefill.begin));
            let elapsed_ms = milliseconds_since(std::mem::replace(&mut last, Instant::now()));
            let decoded = tokens.len() - 1;
            host.emit(Event::Token(TokenInfo {
                index: decoded as u32,
                id: token,
                text,
                channel: speech.channel,
                recipient: speech.recipient.clone(),
                probability: self.probability(&prediction, token),
                entropy_nats: prediction.entropy_nats,
                top: self.top_tokens(&prediction),
                elapsed_ms,
                decode_tokens_per_second: rate(decoded, begin.elapsed().as_secs_f64()),
            }));
            match self.tokenizer.special(token) {
                Some(Special::Return | Special::EndOfText) => break FinishReason::Return,
                Some(Special::Call) => break FinishReason::Call,
                _ => {}
            }
            if speech.stopped {
                break FinishReason::StopSequence;
            }
            if self.model.room(self.sequence) == 0 {
                break FinishReason::ContextFull;
            }
            check_cancelled(host)?;
            prediction = self.model.decode(self.sequence, token, asked(sampler), host).await?;
            self.report_state(host);
        };
        let decode_seconds = begin.elapsed().as_secs_f64();
        let Said { turn, final_text, junk_tokens } = speech.finish();
        let answer = Answer { reason, tokens, reused_tokens: prefill.reused_tokens, turn, junk_tokens, final_text };
        host.emit(Event::Finished {
            reason,
            new_tokens: answer.tokens.len() as u32,
            junk_tokens,
            final_text: answer.final_text.clone(),
            analysis_text: answer.turn.reasoning().unwrap_or_default(),
            tool_calls: answer
                .turn
                .tool_calls()
                .map(|call| protocol::ToolCall { name: call.name, arguments: call.arguments })
                .collect(),
            prefill_tokens_per_second: rate(prefill.new_tokens, prefill.seconds),
            decode_tokens_per_second: rate(answer.tokens.len().saturating_sub(1), decode_seconds),
            time_to_first_token_ms: first_token_ms,
        });
        Ok(answer)
    }

    async fn draw(
        &mut self,
        sampler: &mut Sampler,
        prediction: &Prediction,
        host: &dyn Host,
    ) -> Result<u32, EngineError> {
        match sampler.draw(prediction) {
            Draw::Token(token) => Ok(token),
            Draw::NeedsAll { uniform } => {
                Ok(sampler.draw_from_all(&self.model.last_logits(self.sequence, host).await?, uniform))
            }
        }
    }

    fn unknown(&self, id: u32) -> EngineError {
        EngineError::Token { id, vocabulary: self.tokenizer.vocab_size() as u32 }
    }

    fn report_state(&self, host: &dyn Host) {
        host.emit(Event::Kv {
            used_tokens: self.position(),
            capacity_tokens: self.model.kv_capacity(),
            bytes: self.model.kv_bytes(),
        });
        host.emit(Event::Experts(self.model.cache_counters()));
        host.emit(Event::Work(self.model.work_counters()));
    }

    /// `None` when the token was drawn from beyond the candidates.
    fn probability(&self, prediction: &Prediction, token: u32) -> Option<f32> {
        let candidate = prediction.candidates.iter().find(|candidate| candidate.token == token)?;
        Some((candidate.logit - prediction.log_sum_exp).exp())
    }

    fn top_tokens(&self, prediction: &Prediction) -> Vec<TopToken> {
        prediction
            .candidates
            .iter()
            .take(TOP_TOKENS)
            .map(|candidate| TopToken {
                id: candidate.token,
                text: self.token_text(candidate.token),
                probability: (candidate.logit - prediction.log_sum_exp).exp(),
            })
            .collect()
    }

    fn token_text(&self, id: u32) -> String {
        match self.tokenizer.special_name(id) {
            Some(name) => name.to_owned(),
            None => self
                .tokenizer
                .token_bytes(id)
                .map_or_else(|_| format!("[{id}]"), |bytes| String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

/// How the prefill went.
struct Prefill {
    /// When the answer began.
    begin: Instant,
    reused_tokens: u32,
    new_tokens: usize,
    seconds: f64,
}

/// What a sampler needs to know.
fn asked(sampler: &Sampler) -> Asked {
    Asked { inverse_temperature: sampler.inverse_temperature(), candidates: true }
}

fn rate(count: usize, seconds: f64) -> Option<f64> {
    (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
}
