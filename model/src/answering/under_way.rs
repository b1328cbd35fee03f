//! One answer under way: what it wants of the next batch, and what it makes of what came of the last one.

use std::rc::Rc;

use gptoss_protocol::{Event, FinishReason, Stage, StageStatus, TokenInfo, TopToken};
use gptoss_text::{Special, Tokenizer};
use web_time::Instant;

use super::answer::{Answer, AnswerLimits};
use super::conversation::require_room_for_answer;
use super::sampling::{Draw, Sampler};
use super::speech::{Said, Speech};
use crate::backend::{Asked, Backend, rows_of};
use crate::error::{EngineError, StageError};
use crate::host::{Host, check_cancelled, milliseconds_since};
use crate::prediction::Prediction;
use crate::sequences::{Row, SequenceId, Wanted};

/// Number of the most likely tokens that go with each token of the stream.
const TOP_TOKENS: usize = 5;

/// An answer from its prompt to its last token, one batch at a time.
///
/// It knows all its tokens; those that its sequence does not hold yet are what it wants run. A sequence that was rewound, or
/// replaced by an empty one, is therefore caught up without the answer noticing.
pub(super) struct UnderWay<'h> {
    pub host: Rc<dyn Host + 'h>,
    pub sequence: SequenceId,
    /// The prompt, then what was generated.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    sampler: Sampler,
    limits: AnswerLimits,
    speech: Speech,
    stage: Stage,
    stage_begun: Instant,
    begun: Instant,
    /// Tokens of the prompt that were in the KV cache already.
    reused_tokens: u32,
    prefill_seconds: f64,
    last_token: Instant,
    first_token_ms: Option<f64>,
}

impl<'h> UnderWay<'h> {
    /// An answer to `prompt` in `sequence`, which is rewound to what it has in common with the prompt (to nothing unless
    /// [`AnswerLimits::reuse_prefix`]).
    ///
    /// # Errors
    /// The prompt leaves no room for an answer; STOP.
    pub fn begin(
        model: &mut impl Backend,
        tokenizer: &Tokenizer,
        sequence: SequenceId,
        asked: (Vec<u32>, Sampler, AnswerLimits),
        host: Rc<dyn Host + 'h>,
    ) -> Result<Self, StageError> {
        let (tokens, sampler, limits) = asked;
        let now = Instant::now();
        let mut answer = Self {
            speech: Speech::new(tokenizer, limits.reading, &limits.stop),
            prompt_tokens: tokens.len(),
            host,
            sequence,
            tokens,
            sampler,
            limits,
            stage: Stage::Prefill,
            stage_begun: now,
            begun: now,
            reused_tokens: 0,
            prefill_seconds: 0.0,
            last_token: now,
            first_token_ms: None,
        };
        answer.begin_stage(Stage::Prefill);
        match answer.rewind(model) {
            Ok(()) => Ok(answer),
            Err(error) => Err(answer.failed(error)),
        }
    }

    fn rewind(&mut self, model: &mut impl Backend) -> Result<(), EngineError> {
        check_cancelled(self.host.as_ref())?;
        require_room_for_answer(self.tokens.len() as u32, model.kv_capacity(), model.config().context_tokens)?;
        let held = model.tokens(self.sequence);
        let common = held.iter().zip(&self.tokens).take_while(|(held, wanted)| held == wanted).count();
        // The last token is always run: its logits are wanted.
        let keep = if self.limits.reuse_prefix { common.min(self.tokens.len().saturating_sub(1)) } else { 0 };
        self.reused_tokens = model.rewind(self.sequence, keep as u32);
        model.require_room(self.sequence, self.tokens.len() - self.reused_tokens as usize)
    }

    /// Rows for the next batch, at most `most`: tokens that the sequence does not hold. None while what comes next depends on a
    /// batch that is under way.
    pub fn rows(&self, model: &impl Backend, most: usize) -> Vec<Row> {
        let next = model.sequences().cache.len(self.sequence) as usize;
        let end = self.tokens.len().min(next + most);
        let mut rows = rows_of(self.sequence, &self.tokens[next..end], Wanted::Nothing);
        if end == self.tokens.len()
            && let Some(last) = rows.last_mut()
        {
            last.wanted = self.asked().wanted();
        }
        rows
    }

    /// Gives up what its sequence holds: all its tokens are to be computed again.
    pub fn give_up_sequence(&mut self, model: &mut impl Backend) {
        model.rewind(self.sequence, 0);
    }

    /// Whether it is past its prompt.
    pub fn decodes(&self) -> bool {
        self.stage == Stage::Decode
    }

    fn asked(&self) -> Asked {
        Asked { inverse_temperature: self.sampler.inverse_temperature(), candidates: true }
    }

    /// Takes note that a batch with tokens of its own was computed.
    pub fn progressed(&self, model: &impl Backend) {
        if self.stage == Stage::Prefill {
            self.host.emit(Event::Prefill {
                done_tokens: model.position(self.sequence),
                total_tokens: self.prompt_tokens as u32,
                reused_tokens: self.reused_tokens,
                elapsed_ms: milliseconds_since(self.begun),
            });
        }
    }

    /// What came of its last token is lost: the token is computed again.
    pub fn run_last_again(&self, model: &mut impl Backend) {
        if model.position(self.sequence) as usize == self.tokens.len() {
            model.rewind(self.sequence, self.tokens.len() as u32 - 1);
        }
    }

    /// Takes what is known about the next token. Gives the answer if that ends it.
    ///
    /// # Errors
    /// STOP; what drawing from all logits fails with.
    pub async fn predicted<B: Backend>(
        &mut self,
        model: &mut B,
        tokenizer: &Tokenizer,
        prediction: &Prediction,
    ) -> Result<Option<Answer>, EngineError> {
        if self.stage == Stage::Prefill {
            self.prefilled(model);
        } else {
            self.report_state(model);
        }
        check_cancelled(self.host.as_ref())?;
        if self.generated().len() as u32 >= self.limits.max_new_tokens {
            return Ok(Some(self.finished(FinishReason::MaxTokens)));
        }
        let token = match self.sampler.draw(prediction)? {
            Draw::Token(token) => token,
            Draw::NeedsAll { uniform } => {
                // Its own host: STOP of another answer of the batch is no reason to end this one.
                let host = Rc::clone(&self.host);
                let logits = model.last_logits(self.sequence, host.as_ref()).await?;
                self.sampler.draw_from_all(&logits, uniform)?
            }
        };
        self.say(tokenizer, token, prediction)?;
        let ended = self.end_after(model, tokenizer, token);
        Ok(ended.map(|reason| self.finished(reason)))
    }

    /// The prompt is read; the first token is drawn next.
    fn prefilled(&mut self, model: &mut impl Backend) {
        // The next prompt goes on here: reasoning is no part of it.
        model.mark_turn(self.sequence);
        self.end_stage(StageStatus::Completed);
        self.prefill_seconds = self.begun.elapsed().as_secs_f64();
        self.report_state(model);
        self.begin_stage(Stage::Decode);
        self.last_token = self.stage_begun;
    }

    fn say(&mut self, tokenizer: &Tokenizer, token: u32, prediction: &Prediction) -> Result<(), EngineError> {
        let unknown = |_| EngineError::Token { id: token, vocabulary: tokenizer.vocab_size() as u32 };
        let text = self.speech.push(tokenizer, token).map_err(unknown)?;
        self.tokens.push(token);
        self.sampler.accept(token, self.speech.channel.is_some() && !tokenizer.is_special(token));
        self.first_token_ms.get_or_insert_with(|| milliseconds_since(self.begun));
        let elapsed_ms = milliseconds_since(std::mem::replace(&mut self.last_token, Instant::now()));
        let decoded = self.generated().len() - 1;
        self.host.emit(Event::Token(TokenInfo {
            index: decoded as u32,
            id: token,
            text,
            channel: self.speech.channel,
            recipient: self.speech.recipient.clone(),
            probability: probability(prediction, token),
            entropy_nats: prediction.entropy_nats,
            top: top_tokens(tokenizer, prediction),
            elapsed_ms,
            decode_tokens_per_second: rate(decoded, self.stage_begun.elapsed().as_secs_f64()),
        }));
        Ok(())
    }

    /// Why nothing comes after `token`, if nothing does.
    fn end_after(&self, model: &impl Backend, tokenizer: &Tokenizer, token: u32) -> Option<FinishReason> {
        match tokenizer.special(token) {
            Some(Special::Return | Special::EndOfText) => Some(FinishReason::Return),
            Some(Special::Call) => Some(FinishReason::Call),
            _ if self.speech.stopped => Some(FinishReason::StopSequence),
            _ if model.kv_capacity() < self.tokens.len() as u32 => Some(FinishReason::ContextFull),
            _ => None,
        }
    }

    fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_tokens..]
    }

    fn finished(&mut self, reason: FinishReason) -> Answer {
        let decode_seconds = self.stage_begun.elapsed().as_secs_f64();
        let Said { turn, final_text, junk_tokens } = self.speech.finish();
        let tokens = self.generated().to_vec();
        let answer = Answer { reason, tokens, reused_tokens: self.reused_tokens, turn, junk_tokens, final_text };
        // The end of a request is the last that is told of it.
        self.end_stage(StageStatus::Completed);
        self.host.emit(Event::Finished {
            reason,
            new_tokens: answer.tokens.len() as u32,
            reused_tokens: answer.reused_tokens,
            junk_tokens,
            final_text: answer.final_text.clone(),
            analysis_text: answer.turn.reasoning().unwrap_or_default(),
            tool_calls: answer.tool_calls(),
            messages: answer.messages(),
            prefill_tokens_per_second: rate(self.prompt_tokens - self.reused_tokens as usize, self.prefill_seconds),
            decode_tokens_per_second: rate(answer.tokens.len().saturating_sub(1), decode_seconds),
            time_to_first_token_ms: self.first_token_ms,
        });
        answer
    }

    /// What `error` is for whoever asked: the end of the stage that is under way.
    pub fn failed(&self, error: EngineError) -> StageError {
        let is_cancelled = matches!(error, EngineError::Cancelled);
        self.end_stage(if is_cancelled { StageStatus::Cancelled } else { StageStatus::Failed });
        StageError { stage: self.stage, error }
    }

    fn begin_stage(&mut self, stage: Stage) {
        (self.stage, self.stage_begun) = (stage, Instant::now());
        self.host.emit(Event::Stage { stage, status: StageStatus::Started, elapsed_ms: None });
    }

    fn end_stage(&self, status: StageStatus) {
        let elapsed_ms = Some(milliseconds_since(self.stage_begun));
        self.host.emit(Event::Stage { stage: self.stage, status, elapsed_ms });
    }

    fn report_state(&self, model: &impl Backend) {
        self.host.emit(Event::Kv {
            used_tokens: model.position(self.sequence),
            capacity_tokens: model.kv_capacity(),
            bytes: model.kv_bytes(),
        });
        self.host.emit(Event::Experts(model.cache_counters()));
        self.host.emit(Event::Work(model.work_counters()));
    }
}

/// Probability of a token at temperature 1; `None` when it was drawn from beyond the candidates.
fn probability(prediction: &Prediction, token: u32) -> Option<f32> {
    let candidate = prediction.candidates.iter().find(|candidate| candidate.token == token)?;
    Some((candidate.logit - prediction.log_sum_exp).exp())
}

fn top_tokens(tokenizer: &Tokenizer, prediction: &Prediction) -> Vec<TopToken> {
    let top = prediction.candidates.iter().take(TOP_TOKENS).map(|candidate| TopToken {
        id: candidate.token,
        text: token_text(tokenizer, candidate.token),
        probability: (candidate.logit - prediction.log_sum_exp).exp(),
    });
    top.collect()
}

fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.special_name(id) {
        Some(name) => name.to_owned(),
        None => tokenizer
            .token_bytes(id)
            .map_or_else(|_| format!("[{id}]"), |bytes| String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn rate(count: usize, seconds: f64) -> Option<f64> {
    (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
}
