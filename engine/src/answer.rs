//! From a question to an answer: Harmony prompt, prefill, decode, and the typed stream of what the model says.

use std::rc::Rc;

use gptoss_kernels::GpuOptions;
use gptoss_source::Source;
use gptoss_telemetry::{self as telemetry, Event, FinishReason, LoadOptions, Prompt, Stage, TokenInfo, TopToken};
use gptoss_text::harmony::{self, Conversation, DeveloperMessage, Message, Parser, Renderer, SystemMessage, Turn};
use gptoss_text::{Special, Tokenizer};
use web_time::Instant;

use crate::error::{EngineError, StageError};
use crate::host::{Host, check_cancelled, in_stage, milliseconds_since};
use crate::load::{load, open_gpu, preflight, tokenizer};
use crate::model::{Model, Prediction};
use crate::sampling::{Draw, Sampler};

/// Most likely tokens that go with each token of the stream.
const TOP_TOKENS: usize = 5;

/// A loaded model and its tokenizer: ready to answer.
pub struct Engine {
    pub model: Model,
    pub tokenizer: Tokenizer,
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub reason: FinishReason,
    /// The generated tokens, the one that ended the answer included.
    pub tokens: Vec<u32>,
    /// What was said, by channel.
    pub turn: Turn,
}

impl Answer {
    /// Text of the final channel.
    pub fn final_text(&self) -> String {
        self.turn.answers().collect()
    }
}

impl Engine {
    /// Opens a GPU, reads the model from `source` and puts it on the GPU.
    pub async fn load(
        source: Rc<dyn Source>,
        gpu: &GpuOptions,
        options: &LoadOptions,
        host: &dyn Host,
    ) -> Result<Self, StageError> {
        let begin = Instant::now();
        let gpu = open_gpu(gpu, host).await?;
        let preflight = preflight(&gpu, source.as_ref(), options, host).await?;
        let tokenizer = in_stage(host, Stage::Tokenizer, async { tokenizer(&preflight.header.gguf) }).await?;
        let model = load(gpu, source, preflight, host).await?;
        host.emit(Event::Experts(model.cache_counters()));
        host.emit(Event::Work(model.work_counters()));
        host.emit(Event::Ready { load_ms: milliseconds_since(begin) });
        Ok(Self { model, tokenizer })
    }

    /// Renders a prompt as Harmony tokens, ending where the assistant begins.
    pub fn encode(&self, prompt: &Prompt) -> Vec<u32> {
        let system = SystemMessage {
            current_date: prompt.date.clone(),
            effort: Some(match prompt.effort {
                telemetry::Effort::Low => harmony::Effort::Low,
                telemetry::Effort::Medium => harmony::Effort::Medium,
                telemetry::Effort::High => harmony::Effort::High,
            }),
            ..SystemMessage::default()
        };
        let developer = DeveloperMessage { instructions: prompt.instructions.clone(), functions: Vec::new() };
        let messages = vec![Message::System(system), Message::Developer(developer), Message::User(prompt.user.clone())];
        Renderer::default().tokens(&self.tokenizer, &Conversation { messages })
    }

    /// Answers one prompt from an empty context.
    pub async fn answer(&mut self, prompt: &Prompt, host: &dyn Host) -> Result<Answer, StageError> {
        let (tokens, sampler) = in_stage(host, Stage::PromptEncode, async {
            let sampler = Sampler::new(prompt.sampling)?;
            let tokens = self.encode(prompt);
            host.emit(Event::PromptEncoded {
                tokens: tokens.len() as u32,
                context_tokens: self.model.plan().kv_capacity,
            });
            Ok((tokens, sampler))
        })
        .await?;
        self.answer_tokens(&tokens, sampler, prompt.max_new_tokens, host).await
    }

    /// Continues token ids that end where the assistant begins.
    pub async fn answer_tokens(
        &mut self,
        prompt: &[u32],
        mut sampler: Sampler,
        max_new_tokens: u32,
        host: &dyn Host,
    ) -> Result<Answer, StageError> {
        self.model.reset();
        let inverse_temperature = sampler.inverse_temperature();
        let capacity = self.model.plan().kv_capacity;
        let begin = Instant::now();
        let prediction = in_stage(host, Stage::Prefill, async {
            if prompt.len() >= capacity as usize {
                return Err(EngineError::PromptTooLong { tokens: prompt.len() as u32, capacity });
            }
            let total_tokens = prompt.len() as u32;
            self.model
                .prefill(prompt, inverse_temperature, true, host, |done_tokens| {
                    host.emit(Event::Prefill { done_tokens, total_tokens, elapsed_ms: milliseconds_since(begin) });
                })
                .await
        })
        .await?;
        let prefill_seconds = begin.elapsed().as_secs_f64();
        self.report_state(host);

        let timing = Timing { begin, prefill_tokens: prompt.len(), prefill_seconds };
        in_stage(host, Stage::Decode, self.decode(prediction, &mut sampler, max_new_tokens, timing, host)).await
    }

    async fn decode(
        &mut self,
        mut prediction: Prediction,
        sampler: &mut Sampler,
        max_new_tokens: u32,
        timing: Timing,
        host: &dyn Host,
    ) -> Result<Answer, EngineError> {
        let begin = Instant::now();
        let mut last = begin;
        let mut first_token_ms = None;
        let mut tokens = Vec::new();
        let mut parser = Parser::new(&self.tokenizer);
        let mut place = Place::default();
        let reason = loop {
            if tokens.len() as u32 >= max_new_tokens {
                break FinishReason::MaxTokens;
            }
            let token = self.draw(sampler, &prediction).await?;
            let heard = parser.push(&self.tokenizer, token).map_err(|_| self.unknown(token))?;
            tokens.push(token);
            first_token_ms.get_or_insert_with(|| milliseconds_since(timing.begin));
            let text = place.follow(heard);
            let elapsed_ms = milliseconds_since(std::mem::replace(&mut last, Instant::now()));
            let decoded = tokens.len() - 1;
            let decode_seconds = begin.elapsed().as_secs_f64();
            host.emit(Event::Token(TokenInfo {
                index: decoded as u32,
                id: token,
                text,
                channel: place.channel,
                recipient: place.recipient.clone(),
                probability: self.probability(&prediction, token),
                entropy_nats: prediction.entropy_nats,
                top: self.top_tokens(&prediction),
                elapsed_ms,
                decode_tokens_per_second: rate(decoded, decode_seconds),
            }));
            match self.tokenizer.special(token) {
                Some(Special::Return | Special::EndOfText) => break FinishReason::Return,
                Some(Special::Call) => break FinishReason::Call,
                _ => {}
            }
            if self.model.room() == 0 {
                break FinishReason::ContextFull;
            }
            check_cancelled(host)?;
            prediction = self.model.decode(token, sampler.inverse_temperature(), true, host).await?;
            self.report_state(host);
        };
        let decode_seconds = begin.elapsed().as_secs_f64();
        let (_, turn) = parser.finish();
        let answer = Answer { reason, tokens, turn };
        host.emit(Event::Finished {
            reason,
            new_tokens: answer.tokens.len() as u32,
            final_text: answer.final_text(),
            analysis_text: answer.turn.reasoning().unwrap_or_default(),
            tool_calls: answer
                .turn
                .tool_calls()
                .map(|call| telemetry::ToolCall { name: call.name, arguments: call.arguments })
                .collect(),
            prefill_tokens_per_second: rate(timing.prefill_tokens, timing.prefill_seconds),
            decode_tokens_per_second: rate(answer.tokens.len().saturating_sub(1), decode_seconds),
            time_to_first_token_ms: first_token_ms,
        });
        Ok(answer)
    }

    async fn draw(&mut self, sampler: &mut Sampler, prediction: &Prediction) -> Result<u32, EngineError> {
        match sampler.draw(prediction) {
            Draw::Token(token) => Ok(token),
            Draw::NeedsAll { uniform } => Ok(sampler.draw_from_all(&self.model.last_logits().await?, uniform)),
        }
    }

    fn unknown(&self, id: u32) -> EngineError {
        EngineError::Token { id, vocabulary: self.tokenizer.vocab_size() as u32 }
    }

    fn report_state(&self, host: &dyn Host) {
        let plan = self.model.plan();
        host.emit(Event::Kv {
            used_tokens: self.model.position(),
            capacity_tokens: plan.kv_capacity,
            bytes: plan.totals.kv_bytes,
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

/// When the answer began, and how the prefill went.
struct Timing {
    begin: Instant,
    prefill_tokens: usize,
    prefill_seconds: f64,
}

fn rate(count: usize, seconds: f64) -> Option<f64> {
    (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
}

/// Which channel the stream is on.
#[derive(Default)]
struct Place {
    channel: Option<telemetry::Channel>,
    recipient: Option<String>,
}

impl Place {
    /// Follows what a token made known; returns the text it completed.
    fn follow(&mut self, heard: Vec<harmony::Event>) -> String {
        let mut text = String::new();
        for event in heard {
            match event {
                harmony::Event::Header(header) => {
                    self.recipient = header.called_tool().map(str::to_owned);
                    self.channel = Some(match (&self.recipient, &header.channel) {
                        (Some(_), _) => telemetry::Channel::ToolCall,
                        (None, Some(harmony::Channel::Analysis)) => telemetry::Channel::Analysis,
                        (None, Some(harmony::Channel::Commentary)) => telemetry::Channel::Commentary,
                        // Text without a channel, or on one that is not known, is shown: nothing is lost.
                        (None, _) => telemetry::Channel::Final,
                    });
                }
                harmony::Event::Text(more) => text.push_str(&more),
                harmony::Event::MessageEnd(_) => *self = Self::default(),
                harmony::Event::Stop(_) | harmony::Event::Ignored(_) => {}
            }
        }
        text
    }
}
