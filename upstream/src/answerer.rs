//! Prompts to token ids, and tokens to the events of an answer, as an engine of this process tells them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gptoss_model::{
    AnswerLimits, EngineError, Likelihood, Reading, Sampler, StageError, Utterance, check_tokens, encode_prompt,
    require_room_for_answer,
};
use gptoss_protocol::{Event, Failure, FailureKind, FinishReason, Prompt, Stage};
use gptoss_text::{Special, Tokenizer};
use tokio::time::timeout;

use crate::chunk::{Chunk, Finish, Said, Usage};
use crate::error::UpstreamError;
use crate::provider::{Completion, Provider, Tokens};
use crate::text_reader::TextReader;

/// An answer whose first token takes longer is said to be under way: until then, what goes wrong has a status of its own.
const UNDER_WAY_AFTER: Duration = Duration::from_secs(5);

/// After the last token of an answer the server's own count of tokens is waited for so long.
const USAGE_WITHIN: Duration = Duration::from_millis(500);

/// Servers differ by a token or two in when a context is full.
const CONTEXT_SLACK_TOKENS: u32 = 4;

/// What went wrong, and at which stage.
pub type Failed = (Stage, Failure);

/// Answers prompts with the completions of a provider.
pub struct Answerer<P> {
    tokenizer: Arc<Tokenizer>,
    provider: Arc<P>,
    context_tokens: u32,
}

/// How the tokens of an answer end.
struct End {
    reason: FinishReason,
    /// The server goes on, unless it is told not to.
    is_cut: bool,
}

/// An answer that is being heard.
struct Hearing<'a> {
    tokenizer: &'a Tokenizer,
    tell: &'a (dyn Fn(Event) + Send + Sync),
    said: Utterance,
    text: TextReader,
    /// The server tells text: how many tokens it has, the server alone knows.
    is_text: bool,
    usage: Option<Usage>,
    /// Most tokens that were asked for.
    max_tokens: u32,
    /// The server said how long its context is: then it has no other reason to end an answer early.
    knows_context: bool,
}

impl<P: Provider> Answerer<P> {
    /// The model of `provider` has this vocabulary, and a context of at most so many tokens.
    pub fn new(tokenizer: Tokenizer, provider: Arc<P>, context_tokens: u32) -> Self {
        Self { tokenizer: Arc::new(tokenizer), provider, context_tokens }
    }

    /// How many tokens a prompt has.
    ///
    /// # Errors
    /// The program ends.
    pub async fn count(&self, prompt: &Prompt) -> Result<u32, Failed> {
        let tokens = self.encode(prompt).await.map_err(|failure| (Stage::PromptEncode, failure))?;
        Ok(tokens.len() as u32)
    }

    /// The tokens of a prompt. A long one takes a while, in which others are served.
    async fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        let (tokenizer, prompt) = (Arc::clone(&self.tokenizer), prompt.clone());
        let encoding = tokio::task::spawn_blocking(move || encode_prompt(&tokenizer, &prompt));
        encoding.await.map_err(|error| Failure {
            kind: FailureKind::Internal,
            message: format!("the prompt was not encoded: {error}"),
            advice: String::new(),
            parameter: None,
        })
    }

    /// Answers a prompt, and tells what a node would. Dropping the future ends the answer where it is computed.
    ///
    /// # Errors
    /// The prompt asks for what no server can be held to, or leaves no room; what the provider fails with. What was told is then
    /// no whole answer.
    pub async fn answer(&self, prompt: &Prompt, tell: &(dyn Fn(Event) + Send + Sync)) -> Result<(), Failed> {
        let told = self.told_context().await;
        let context_tokens = told.map_or(self.context_tokens, |told| told.min(self.context_tokens));
        let tokens = self.read(prompt).await.map_err(|failure| (Stage::PromptEncode, failure))?;
        tell(Event::PromptEncoded { tokens: tokens.len() as u32, context_tokens });
        let fits = require_room_for_answer(tokens.len() as u32, context_tokens, self.context_tokens);
        fits.map_err(|error| (Stage::Prefill, failure_of(Stage::Prefill, error)))?;
        let limits = AnswerLimits::of(prompt);
        let wanted = self.completion(prompt, tokens, context_tokens);
        let mut hearing = Hearing {
            tokenizer: &self.tokenizer,
            tell,
            said: Utterance::new(&self.tokenizer, wanted.prompt.clone(), limits),
            text: TextReader::default(),
            is_text: false,
            usage: None,
            max_tokens: wanted.max_tokens,
            knows_context: told.is_some(),
        };
        if hearing.said.is_full() {
            hearing.finish(FinishReason::MaxTokens);
            return Ok(());
        }
        let tokens = self.begin(&wanted, &hearing).await;
        let tokens = tokens.map_err(|error| (Stage::Prefill, error.failure()))?;
        hearing.said.prompt_was_read();
        hearing.hear(tokens).await.map_err(|error| (Stage::Decode, error.failure()))
    }

    /// Tokens that prompt and answer may have together, where the provider says so.
    async fn told_context(&self) -> Option<u32> {
        let models = self.provider.list_models().await.unwrap_or_default();
        models.iter().filter_map(|model| model.context_tokens).min()
    }

    /// The tokens of a prompt that a server can be held to.
    async fn read(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        if prompt.shape.is_some() {
            let reason = "an engine elsewhere knows no grammars over whole turns".into();
            return Err(failure_of(Stage::PromptEncode, EngineError::Shape { reason }));
        }
        if prompt.logits.presence_penalty != 0.0 || prompt.logits.frequency_penalty != 0.0 {
            return Err(Failure {
                kind: FailureKind::Request,
                message: "presence_penalty and frequency_penalty are not served with an engine elsewhere, which would count the \
                          tokens of Harmony's headers, too"
                    .into(),
                advice: "Leave them out.".into(),
                parameter: None,
            });
        }
        let tokens = self.encode(prompt).await?;
        let checked = Sampler::new(prompt.sampling)
            .and_then(|_| check_tokens(&self.tokenizer, prompt.logits.bias.iter().map(|(token, _)| token)))
            .and_then(|()| check_tokens(&self.tokenizer, &tokens));
        checked.map_err(|error| failure_of(Stage::PromptEncode, error))?;
        Ok(tokens)
    }

    fn completion(&self, prompt: &Prompt, tokens: Vec<u32>, context_tokens: u32) -> Completion {
        let room = context_tokens - tokens.len() as u32;
        let name = |special: Special| special.name().to_owned();
        Completion {
            prompt: tokens,
            max_tokens: prompt.max_new_tokens.min(room),
            sampling: prompt.sampling,
            stop_tokens: self.tokenizer.stop_ids().into_iter().chain(prompt.ids.stop.iter().copied()).collect(),
            special_names: Special::ALL.into_iter().map(name).collect(),
            logit_bias: prompt.logits.bias.clone(),
        }
    }

    /// Waits for the first token. A client that waits with it is told that the answer is under way.
    async fn begin(&self, wanted: &Completion, hearing: &Hearing<'_>) -> Result<Tokens, UpstreamError> {
        let mut opening = pin!(self.provider.complete_stream(wanted));
        if let Ok(opened) = timeout(UNDER_WAY_AFTER, &mut opening).await {
            return opened;
        }
        (hearing.tell)(Event::Prefill {
            done_tokens: 0,
            total_tokens: wanted.prompt.len() as u32,
            reused_tokens: 0,
            elapsed_ms: hearing.said.elapsed_ms(),
        });
        opening.await
    }
}

impl Hearing<'_> {
    /// Takes pieces until one of them ends the answer.
    async fn hear(&mut self, mut tokens: Tokens) -> Result<(), UpstreamError> {
        loop {
            // It is an error to end before a piece has said why.
            let Some(chunk) = tokens.next().await? else { return Err(tokens.nonsense("no end".into())) };
            let end = self.take(chunk).map_err(|what| tokens.nonsense(what))?;
            if let Some(End { reason, is_cut }) = end {
                if !is_cut {
                    self.wait_for_usage(&mut tokens).await;
                }
                drop(tokens);
                self.finish(reason);
                return Ok(());
            }
        }
    }

    /// Takes a piece. Gives the end of the answer, if that is what it is.
    fn take(&mut self, chunk: Chunk) -> Result<Option<End>, String> {
        self.usage = chunk.usage.or(self.usage);
        let tokens = match chunk.said {
            Said::Tokens(tokens) => tokens,
            Said::Text(text) => {
                self.is_text |= !text.is_empty();
                self.text.push(self.tokenizer, &text)
            }
        };
        if let Some(end) = self.say_all(tokens)? {
            return Ok(Some(end));
        }
        let Some(finish) = chunk.finish else { return Ok(None) };
        let rest = self.text.finish(self.tokenizer);
        if let Some(end) = self.say_all(rest)? {
            return Ok(Some(end));
        }
        match finish {
            Finish::Stop(token) => self.say_all(vec![self.stop_token(token)]),
            Finish::Length => self.length().map(Some),
            Finish::Other(reason) => Err(format!("an end for the reason {reason:?}")),
        }
    }

    fn say_all(&mut self, tokens: Vec<u32>) -> Result<Option<End>, String> {
        for token in tokens {
            let told = self.said.say(self.tokenizer, token, Likelihood::unknown());
            let told =
                told.map_err(|error| format!("{error}; the model there has another vocabulary than the file here"))?;
            (self.tell)(Event::Token(told));
            if let Some(reason) = self.said.end_after(self.tokenizer, token) {
                // A server that tells text knows no ids to end at but its model's own.
                let is_own = self.tokenizer.is_stop(token) || !self.is_text;
                return Ok(Some(End { reason, is_cut: reason == FinishReason::StopSequence || !is_own }));
            }
            if !self.is_text && self.said.generated().len() as u32 >= self.max_tokens {
                return Ok(Some(End { reason: self.limit(), is_cut: false }));
            }
        }
        Ok(None)
    }

    /// Which limit an answer of as many tokens as were asked for came to.
    fn limit(&self) -> FinishReason {
        let is_cut_by_context = self.max_tokens < self.said.limits().max_new_tokens;
        if is_cut_by_context { FinishReason::ContextFull } else { FinishReason::MaxTokens }
    }

    /// The token that ended an answer whose server keeps it for itself. One that does not say which it was means the one that
    /// ends what was being written.
    fn stop_token(&self, told: Option<u32>) -> u32 {
        let is_stop = |token: &u32| self.tokenizer.is_stop(*token) || self.said.limits().stop_tokens.contains(token);
        told.filter(is_stop).unwrap_or_else(|| {
            let is_call = self.said.limits().reading == Reading::Harmony && self.said.calls_tool();
            self.tokenizer.special_id(if is_call { Special::Call } else { Special::Return })
        })
    }

    /// The server says that the answer is as long as it may be.
    fn length(&self) -> Result<End, String> {
        let tokens = self.said.generated().len() as u32;
        let counted = if self.is_text { self.usage.and_then(|usage| usage.completion_tokens) } else { Some(tokens) };
        let (max, limit) = (self.max_tokens, self.limit());
        let slack = if limit == FinishReason::ContextFull { CONTEXT_SLACK_TOKENS } else { 0 };
        match counted.filter(|counted| *counted < max.saturating_sub(slack)) {
            None => Ok(End { reason: limit, is_cut: false }),
            Some(_) if !self.knows_context => Ok(End { reason: FinishReason::ContextFull, is_cut: false }),
            Some(counted) => Err(format!("an end after {counted} of {max} tokens, as if those were all")),
        }
    }

    /// Servers count tokens after the last of them. The answer is whole without that.
    async fn wait_for_usage(&mut self, tokens: &mut Tokens) {
        let counting = async {
            while self.usage.is_none() {
                let Ok(Some(chunk)) = tokens.next().await else { return };
                self.usage = chunk.usage;
            }
        };
        // Whoever does not count within the time does not count.
        let _ = timeout(USAGE_WITHIN, counting).await;
    }

    fn finish(&mut self, reason: FinishReason) {
        let usage = self.usage.unwrap_or_default();
        let cached_tokens = usage.cached_tokens.map(|cached| cached.min(self.said.prompt().len() as u32));
        let (_, mut finished) = self.said.finish(reason, cached_tokens.unwrap_or(0));
        if let Event::Finished { new_tokens, reused_tokens, .. } = &mut finished {
            // What the server does not tell is not known.
            *reused_tokens = cached_tokens;
            if self.is_text {
                *new_tokens = usage.completion_tokens.unwrap_or(*new_tokens);
            }
        }
        (self.tell)(finished);
    }
}

fn failure_of(stage: Stage, error: EngineError) -> Failure {
    StageError { stage, error }.failure()
}
