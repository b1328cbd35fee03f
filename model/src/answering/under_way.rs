//! One answer under way: what it wants of the next batch, and what it makes of what came of the last one.

use std::rc::Rc;

use gptoss_protocol::{Event, FinishReason, Stage, StageStatus, TopToken};
use gptoss_text::Tokenizer;
use web_time::Instant;

use super::answer::{Answer, AnswerLimits};
use super::conversation::require_room_for_answer;
use super::sampling::{Draw, Sampler};
use super::utterance::{Likelihood, Utterance};
use crate::backend::{Asked, Backend, rows_of};
use crate::error::{EngineError, StageError};
use crate::host::{Host, check_cancelled, milliseconds_since};
use crate::prediction::Prediction;
use crate::sequences::{Row, SequenceId, Wanted};

/// Number of the most likely tokens that go with each token of the stream, where nobody says how many.
const USUAL_TOP_TOKENS: u32 = 5;

/// An answer from its prompt to its last token, one batch at a time.
///
/// It knows all its tokens; those that its sequence does not hold yet are what it wants run. A sequence that was rewound, or
/// replaced by an empty one, is therefore caught up without the answer noticing.
pub(super) struct UnderWay<'h> {
    pub host: Rc<dyn Host + 'h>,
    pub sequence: SequenceId,
    said: Utterance,
    sampler: Sampler,
    stage: Stage,
    stage_begun: Instant,
    /// Tokens of the prompt that were in the KV cache already.
    reused_tokens: u32,
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
        let mut answer = Self {
            said: Utterance::new(tokenizer, tokens, limits),
            host,
            sequence,
            sampler,
            stage: Stage::Prefill,
            stage_begun: Instant::now(),
            reused_tokens: 0,
        };
        answer.begin_stage(Stage::Prefill);
        match answer.rewind(model) {
            Ok(()) => Ok(answer),
            Err(error) => Err(answer.failed(error)),
        }
    }

    fn rewind(&mut self, model: &mut impl Backend) -> Result<(), EngineError> {
        check_cancelled(self.host.as_ref())?;
        let tokens = self.said.tokens();
        require_room_for_answer(tokens.len() as u32, model.kv_capacity(), model.config().context_tokens)?;
        let held = model.tokens(self.sequence);
        let common = held.iter().zip(tokens).take_while(|(held, wanted)| held == wanted).count();
        // The last token is always run: its logits are wanted.
        let keep = if self.said.limits().reuse_prefix { common.min(tokens.len().saturating_sub(1)) } else { 0 };
        self.reused_tokens = model.rewind(self.sequence, keep as u32);
        model.require_room(self.sequence, self.said.tokens().len() - self.reused_tokens as usize)
    }

    /// Rows for the next batch, at most `most`: tokens that the sequence does not hold. None while what comes next depends on a
    /// batch that is under way.
    pub fn rows(&self, model: &impl Backend, most: usize) -> Vec<Row> {
        let next = model.sequences().cache.len(self.sequence) as usize;
        let tokens = self.said.tokens();
        let end = tokens.len().min(next + most);
        let mut rows = rows_of(self.sequence, &tokens[next..end], Wanted::Nothing);
        if end == tokens.len()
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
                total_tokens: self.said.prompt().len() as u32,
                reused_tokens: self.reused_tokens,
                elapsed_ms: self.said.elapsed_ms(),
            });
        }
    }

    /// What came of its last token is lost: the token is computed again.
    pub fn run_last_again(&self, model: &mut impl Backend) {
        let tokens = self.said.tokens().len();
        if model.position(self.sequence) as usize == tokens {
            model.rewind(self.sequence, tokens as u32 - 1);
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
        if self.said.is_full() {
            return Ok(Some(self.finished(FinishReason::MaxTokens)));
        }
        let (token, logit) = match self.sampler.draw(prediction)? {
            Draw::Token(token) => (token, logit_of(prediction, token)),
            Draw::NeedsAll { uniform } => {
                // Its own host: STOP of another answer of the batch is no reason to end this one.
                let host = Rc::clone(&self.host);
                let logits = model.last_logits(self.sequence, host.as_ref()).await?;
                let token = self.sampler.draw_from_all(&logits, uniform)?;
                (token, logits.get(token as usize).copied())
            }
        };
        self.say(tokenizer, (token, logit), prediction)?;
        let ended = self.end_after(model, tokenizer, token);
        Ok(ended.map(|reason| self.finished(reason)))
    }

    /// The prompt is read; the first token is drawn next.
    fn prefilled(&mut self, model: &mut impl Backend) {
        // The next prompt goes on here: reasoning is no part of it.
        model.mark_turn(self.sequence);
        self.end_stage(StageStatus::Completed);
        self.said.prompt_was_read();
        self.report_state(model);
        self.begin_stage(Stage::Decode);
    }

    fn say(
        &mut self,
        tokenizer: &Tokenizer,
        (token, logit): (u32, Option<f32>),
        prediction: &Prediction,
    ) -> Result<(), EngineError> {
        let known = Likelihood {
            // At temperature 1.
            probability: logit.map(|logit| (logit - prediction.log_sum_exp).exp()),
            entropy_nats: prediction.entropy_nats,
            top: top_tokens(tokenizer, prediction, self.said.limits().top_tokens.unwrap_or(USUAL_TOP_TOKENS)),
        };
        let told = self.said.say(tokenizer, token, known)?;
        self.sampler.accept(token, self.said.says_text() && !tokenizer.is_special(token));
        self.host.emit(Event::Token(told));
        Ok(())
    }

    /// Why nothing comes after `token`, if nothing does.
    fn end_after(&self, model: &impl Backend, tokenizer: &Tokenizer, token: u32) -> Option<FinishReason> {
        let is_full = model.kv_capacity() < self.said.tokens().len() as u32;
        self.said.end_after(tokenizer, token).or(is_full.then_some(FinishReason::ContextFull))
    }

    fn finished(&mut self, reason: FinishReason) -> Answer {
        let (answer, told) = self.said.finish(reason, self.reused_tokens);
        // The end of a request is the last that is told of it.
        self.end_stage(StageStatus::Completed);
        self.host.emit(told);
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

/// The logit of a token, if it is one of the candidates.
fn logit_of(prediction: &Prediction, token: u32) -> Option<f32> {
    prediction.candidates.iter().find(|candidate| candidate.token == token).map(|candidate| candidate.logit)
}

fn top_tokens(tokenizer: &Tokenizer, prediction: &Prediction, most: u32) -> Vec<TopToken> {
    let top = prediction.candidates.iter().take(most as usize).map(|candidate| TopToken {
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
