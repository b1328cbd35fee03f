//! What gives completions: the seam, and one server behind it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gptoss_protocol::Sampling;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::address::Address;
use crate::chunk::{Chunk, Finish, NoChunk, Said, Usage, message_of, shortened};
use crate::error::UpstreamError;
use crate::http::{Answer, Asked, Body};
use crate::pool::Lease;
use crate::sse::Events;
use crate::trust::Trust;

/// Time for a question that no model computes for.
const SMALL_QUESTION: Duration = Duration::from_secs(3);
/// Time for a server to say that it is well: one that is busy with a long prompt takes seconds, and SGLang's makes a token for it.
const HEALTH_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer to such a question, and of an error.
const SMALL_ANSWER_BYTES: usize = 1 << 20;
/// What ends a stream of events.
const DONE: &str = "[DONE]";

/// Fields that some servers need, and that others refuse to know (MAX, by name): those are asked without them. A server that
/// tells no ids, or ends at no ids, tells text, which is read as well.
const OPTIONAL: [&str; 8] = [
    "return_token_ids",
    "stop_token_ids",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "include_stop_str_in_output",
    "no_stop_trim",
    "preserved_tokens",
    "reasoning_split",
];

/// What gives completions.
pub trait Provider: Send + Sync + 'static {
    /// What it is known by.
    fn id(&self) -> &str;

    /// Whether requests can go there now; if not, why.
    fn is_ready(&self) -> impl Future<Output = Result<(), UpstreamError>> + Send;

    /// The models that it serves.
    fn list_models(&self) -> impl Future<Output = Result<Vec<ProvidedModel>, UpstreamError>> + Send;

    /// Begins to complete a prompt. Dropping what comes ends it there, too.
    fn complete_stream(&self, wanted: &Completion) -> impl Future<Output = Result<Tokens, UpstreamError>> + Send;

    /// Completes a prompt, and gives everything at once.
    fn complete(&self, wanted: &Completion) -> impl Future<Output = Result<Completed, UpstreamError>> + Send {
        async {
            let mut tokens = self.complete_stream(wanted).await?;
            let mut whole = Completed { said: Vec::new(), finish: Finish::Length, usage: None };
            while let Some(Chunk { said, finish, usage }) = tokens.next().await? {
                whole.said.push(said);
                whole.finish = finish.unwrap_or(whole.finish);
                whole.usage = usage.or(whole.usage);
            }
            Ok(whole)
        }
    }
}

/// A model that a server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProvidedModel {
    /// Its id there.
    pub id: String,
    /// Tokens that prompt and answer may have together, where the server says so.
    pub context_tokens: Option<u32>,
}

/// A prompt that is to be completed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub stop_tokens: Vec<u32>,
    /// Names of special tokens, which a server that tells text only is to leave in it.
    pub special_names: Vec<String>,
    /// What is added to logits, by token.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Completion {
    /// The same as servers read it, but for fields that this one does not know. Most ignore such fields.
    fn to_json(&self, model: &str, unknown: &BTreeSet<&str>) -> Value {
        let Sampling { temperature, top_k, top_p, min_p, seed } = self.sampling;
        // 0 is all for some, -1 for all of them.
        let top_k = if top_k == 0 { -1 } else { i64::from(top_k) };
        let mut body = json!({
            "model": model, "prompt": self.prompt, "max_tokens": self.max_tokens, "stream": true,
            "stream_options": {"include_usage": true},
            "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed as i64,
            "stop_token_ids": self.stop_tokens, "return_token_ids": true,
            // Where a server tells text only, all of it is wanted: of vLLM, SGLang, and llama-server.
            "skip_special_tokens": false, "spaces_between_special_tokens": false, "include_stop_str_in_output": true,
            "no_stop_trim": true, "preserved_tokens": self.special_names,
            // MAX keeps the ids of reasoning back without this.
            "reasoning_split": false,
        });
        if let Some(fields) = body.as_object_mut() {
            fields.retain(|name, _| !unknown.contains(name.as_str()));
        }
        if !self.logit_bias.is_empty() {
            body["logit_bias"] = self.logit_bias.iter().map(|(token, bias)| (token.to_string(), json!(bias))).collect();
        }
        body
    }
}

/// A whole completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// What it says, as it came.
    pub said: Vec<Said>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens as the server counts them.
    pub usage: Option<Usage>,
}

/// How patient a server is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for a connection.
    pub connect: Duration,
    /// Time without a byte of an answer, before its first token and between tokens.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), silence: Duration::from_secs(120) }
    }
}

/// A server that speaks `/v1/completions` with token ids.
#[derive(Debug)]
pub struct HttpProvider {
    address: Address,
    /// Its address as text.
    id: String,
    trust: Option<Trust>,
    key: Option<String>,
    limits: Limits,
    /// The model that it was heard to serve.
    model: Mutex<Option<String>>,
    /// Those of [`OPTIONAL`] that it was heard not to know.
    unknown: Mutex<BTreeSet<&'static str>>,
}

impl HttpProvider {
    /// A server, with the key that it wants, if it wants one. An address with `https` is reached with `trust` alone.
    pub fn new(address: Address, trust: Option<Trust>, key: Option<String>, limits: Limits) -> Self {
        Self {
            id: address.to_string(),
            address,
            trust,
            key,
            limits,
            model: Mutex::default(),
            unknown: Mutex::default(),
        }
    }

    fn asked<'a>(&'a self, path: &'a str, body: Option<String>) -> Asked<'a> {
        Asked { address: &self.address, trust: self.trust.as_ref(), key: self.key.as_deref(), path, body }
    }

    fn unreachable(&self, reason: String) -> UpstreamError {
        UpstreamError::Unreachable { upstream: self.id.clone(), reason }
    }

    fn nonsense(&self, what: impl Into<String>) -> UpstreamError {
        UpstreamError::Nonsense { upstream: self.id.clone(), what: what.into() }
    }

    /// Status and body of something small.
    async fn get(&self, path: &str, within: Duration) -> Result<(u16, Vec<u8>), UpstreamError> {
        let asking = async {
            let Answer { status, body } = self.asked(path, None).send(self.limits.connect).await?;
            Ok((status, body.first_bytes(SMALL_ANSWER_BYTES).await))
        };
        let silent = |_| UpstreamError::Silent { upstream: self.id.clone(), waited: within };
        timeout(within, asking).await.map_err(silent)?.map_err(|reason| self.unreachable(reason))
    }

    /// An answer that is none of success.
    fn refused(&self, status: u16, body: &[u8]) -> UpstreamError {
        let text = String::from_utf8_lossy(body);
        let message =
            serde_json::from_slice::<Value>(body).map_or_else(|_| text.into_owned(), |error| message_of(&error));
        let (upstream, message) = (self.id.clone(), shortened(message.trim()));
        match status {
            400 | 413 | 422 => UpstreamError::Refused { upstream, message },
            _ => UpstreamError::Status { upstream, status, message },
        }
    }

    fn unknown(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refusal names a field that can be left out, and was not.
    fn learns_from(&self, refusal: &[u8]) -> bool {
        let refusal = String::from_utf8_lossy(refusal);
        let mut unknown = self.unknown();
        let before = unknown.len();
        unknown.extend(OPTIONAL.into_iter().filter(|field| refusal.contains(field)));
        unknown.len() > before
    }

    fn known_model(&self) -> Option<String> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn model(&self) -> Result<String, UpstreamError> {
        match self.known_model() {
            Some(model) => Ok(model),
            None => {
                self.list_models().await?;
                self.known_model().ok_or_else(|| self.nonsense("no model"))
            }
        }
    }
}

impl Provider for HttpProvider {
    fn id(&self) -> &str {
        &self.id
    }

    /// Says what its `/health` does; a server that has none is taken for well, as long as it lists its models.
    async fn is_ready(&self) -> Result<(), UpstreamError> {
        match self.get("/health", HEALTH_WITHIN).await? {
            (200..=299 | 404 | 405, _) => Ok(()),
            (status, body) => Err(self.refused(status, &body)),
        }
    }

    async fn list_models(&self) -> Result<Vec<ProvidedModel>, UpstreamError> {
        let (status, body) = self.get("/v1/models", SMALL_QUESTION).await?;
        if status != 200 {
            return Err(self.refused(status, &body));
        }
        let list: ModelList =
            serde_json::from_slice(&body).map_err(|error| self.nonsense(format!("no list of models: {error}")))?;
        let models: Vec<ProvidedModel> = list.data.into_iter().map(ProvidedModel::from).collect();
        let first = models.first().ok_or_else(|| self.nonsense("an empty list of models"))?;
        *self.model.lock().unwrap_or_else(PoisonError::into_inner) = Some(first.id.clone());
        Ok(models)
    }

    async fn complete_stream(&self, wanted: &Completion) -> Result<Tokens, UpstreamError> {
        let model = self.model().await?;
        loop {
            let body = wanted.to_json(&model, &self.unknown()).to_string();
            let silent = |_| UpstreamError::Silent { upstream: self.id.clone(), waited: self.limits.silence };
            let sending = self.asked("/v1/completions", Some(body)).send(self.limits.connect);
            let answer = timeout(self.limits.silence, sending).await.map_err(silent)?;
            let Answer { status, body } = answer.map_err(|reason| self.unreachable(reason))?;
            if status == 200 {
                return Ok(Tokens::new(self.id.clone(), body, self.limits.silence));
            }
            let body = timeout(SMALL_QUESTION, body.first_bytes(SMALL_ANSWER_BYTES)).await.unwrap_or_default();
            if !(matches!(status, 400 | 422) && self.learns_from(&body)) {
                return Err(self.refused(status, &body));
            }
        }
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
    /// vLLM's and SGLang's word.
    max_model_len: Option<u32>,
    /// Our own.
    context_length: Option<u32>,
    /// llama-server's.
    meta: Option<ListedMeta>,
}

#[derive(Deserialize)]
struct ListedMeta {
    n_ctx: Option<u32>,
}

impl From<ListedModel> for ProvidedModel {
    fn from(model: ListedModel) -> Self {
        let of_meta = model.meta.and_then(|meta| meta.n_ctx);
        Self { id: model.id, context_tokens: model.max_model_len.or(model.context_length).or(of_meta) }
    }
}

/// A completion as it comes. Dropping it closes its connection.
pub struct Tokens {
    upstream: String,
    body: Body,
    silence: Duration,
    events: Events,
    ready: VecDeque<String>,
    /// A piece that was looked at already.
    ahead: Option<Chunk>,
    has_finished: bool,
    has_ended: bool,
    lease: Option<Lease>,
}

impl Tokens {
    fn new(upstream: String, body: Body, silence: Duration) -> Self {
        Self {
            upstream,
            body,
            silence,
            events: Events::default(),
            ready: VecDeque::new(),
            ahead: None,
            has_finished: false,
            has_ended: false,
            lease: None,
        }
    }

    /// The server that it comes from.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Waits for the first piece, which stays the next one.
    pub(crate) async fn begin(&mut self) -> Result<(), UpstreamError> {
        self.ahead = self.read().await?;
        Ok(())
    }

    /// The same, while which its server counts it.
    pub(crate) fn with_lease(self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// The next piece; `None` at the end, which has come only if a piece said why.
    ///
    /// # Errors
    /// The stream broke off, was silent, or holds what is no completion.
    pub async fn next(&mut self) -> Result<Option<Chunk>, UpstreamError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let next = self.read().await;
        if let (Err(error), Some(lease)) = (&next, &mut self.lease) {
            lease.failed(error);
        }
        next
    }

    /// What came of it is no answer, for a reason that its reader found.
    pub(crate) fn nonsense(&mut self, what: String) -> UpstreamError {
        let error = UpstreamError::Nonsense { upstream: self.upstream.clone(), what };
        if let Some(lease) = &mut self.lease {
            lease.failed(&error);
        }
        error
    }

    async fn read(&mut self) -> Result<Option<Chunk>, UpstreamError> {
        loop {
            let Some(data) = self.event().await? else {
                return match self.has_finished {
                    true => Ok(None),
                    false => Err(UpstreamError::BrokeOff { upstream: self.upstream.clone() }),
                };
            };
            if data == DONE {
                self.has_ended = true;
                continue;
            }
            let upstream = || self.upstream.clone();
            let chunk = Chunk::read(&data).map_err(|none| match none {
                NoChunk::Refusal(message) => UpstreamError::Refused { upstream: upstream(), message },
                NoChunk::Nonsense(what) => UpstreamError::Nonsense { upstream: upstream(), what },
            })?;
            self.has_finished |= chunk.finish.is_some();
            return Ok(Some(chunk));
        }
    }

    /// The data of the next event; `None` at the end of the stream.
    async fn event(&mut self) -> Result<Option<String>, UpstreamError> {
        loop {
            if self.has_ended {
                return Ok(None);
            }
            if let Some(data) = self.ready.pop_front() {
                return Ok(Some(data));
            }
            let silent = |_| UpstreamError::Silent { upstream: self.upstream.clone(), waited: self.silence };
            match timeout(self.silence, self.body.next()).await.map_err(silent)? {
                Ok(Some(bytes)) => {
                    let nonsense = |error: crate::sse::NoEvent| UpstreamError::Nonsense {
                        upstream: self.upstream.clone(),
                        what: error.0.into(),
                    };
                    self.ready.extend(self.events.push(&bytes).map_err(nonsense)?);
                }
                Ok(None) => {
                    self.has_ended = true;
                    return Ok(self.events.finish());
                }
                Err(_) => return Err(UpstreamError::BrokeOff { upstream: self.upstream.clone() }),
            }
        }
    }
}
