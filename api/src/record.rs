//! What is told of each request: one record, when the last byte of its answer is gone, or the client is.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use serde_json::json;

use crate::metrics::ServerMetrics;
use crate::prompt::new_id;
use crate::said::Usage;

/// Names a request, in the request and in its answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The same in an answer, where Anthropic's clients look for it.
pub(crate) const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Longest id of a client's that is taken over.
const MOST_ID_BYTES: usize = 128;

/// The outcome of one request. It has neither prompts nor answers nor keys.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Id that the client gave, or one that was made for it.
    pub id: String,
    /// Method as sent.
    pub method: Method,
    /// Path as sent, without the query.
    pub path: String,
    /// Status of the answer; `None` if the client went away before there was one.
    pub status: Option<StatusCode>,
    /// Time from the request's headers to the end of the answer.
    pub elapsed: Duration,
    /// Id of the model that the request was for, where it was for one.
    pub model: Option<String>,
    /// Tokens, where the model was asked.
    pub tokens: Option<RequestTokens>,
    /// Whether the answer was handed over to its end.
    pub is_whole: bool,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTokens {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the prompt that the KV cache held already, where that is known.
    pub cached: Option<u32>,
    /// Tokens of the answer.
    pub new: u32,
}

impl RequestRecord {
    fn milliseconds(&self) -> f64 {
        // Microseconds are more than anybody reads.
        (self.elapsed.as_secs_f64() * 1e6).round() / 1e3
    }

    /// The record as a JSON object, with the same facts as the line of text.
    pub fn to_json(&self) -> serde_json::Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        json!({
            "event": "request",
            "time_unix_ms": now.as_millis() as u64,
            "id": self.id,
            "method": self.method.as_str(),
            "path": self.path,
            "status": self.status.map(|status| status.as_u16()),
            "ms": self.milliseconds(),
            "model": self.model,
            "prompt_tokens": self.tokens.map(|tokens| tokens.prompt),
            "cached_tokens": self.tokens.and_then(|tokens| tokens.cached),
            "new_tokens": self.tokens.map(|tokens| tokens.new),
            "aborted": !self.is_whole,
        })
    }
}

impl fmt::Display for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.method, self.path)?;
        match self.status {
            Some(status) => write!(f, "{}", status.as_u16())?,
            None => f.write_str("unanswered")?,
        }
        write!(f, " {:.1} ms", self.milliseconds())?;
        if let Some(model) = &self.model {
            write!(f, " model {model}")?;
        }
        if let Some(RequestTokens { prompt, cached, new }) = self.tokens {
            write!(f, " tokens: {prompt} in, ")?;
            if let Some(cached) = cached {
                write!(f, "{cached} cached, ")?;
            }
            write!(f, "{new} out;")?;
        }
        write!(f, " id {}", self.id)?;
        if self.is_whole { Ok(()) } else { f.write_str(" aborted") }
    }
}

/// Receiver of records.
pub type RequestLog = Arc<dyn Fn(&RequestRecord) + Send + Sync>;

/// A record that is written when it is dropped: by whoever computes the answer, and whoever sends it.
pub(crate) struct PendingRecord {
    begun: Instant,
    state: Mutex<State>,
    log: Option<RequestLog>,
    metrics: Arc<ServerMetrics>,
}

struct State {
    record: RequestRecord,
    /// The route that answers: a path with names in place of ids.
    endpoint: String,
}

tokio::task_local! {
    /// The record of the request that the present task answers.
    pub(crate) static RECORD: Arc<PendingRecord>;
}

/// The record of the request that the present task answers, if it answers one.
pub(crate) fn current() -> Option<Arc<PendingRecord>> {
    RECORD.try_with(Arc::clone).ok()
}

impl PendingRecord {
    /// Starts the record of a request that has just arrived.
    pub fn new(
        method: Method,
        path: String,
        headers: &HeaderMap,
        log: Option<RequestLog>,
        metrics: Arc<ServerMetrics>,
    ) -> Arc<Self> {
        let id = given_id(headers).map_or_else(|| new_id("req"), str::to_owned);
        let elapsed = Duration::ZERO;
        let (status, model, tokens) = (None, None, None);
        let record = RequestRecord { id, method, path, status, elapsed, model, tokens, is_whole: false };
        let state = Mutex::new(State { record, endpoint: "none".into() });
        Arc::new(Self { begun: Instant::now(), state, log, metrics })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request's id.
    pub fn id(&self) -> String {
        self.state().record.id.clone()
    }

    /// This route answers.
    pub fn routed(&self, endpoint: &str) {
        self.state().endpoint = endpoint.into();
    }

    /// It is for this model.
    pub fn asked(&self, model: &str) {
        self.state().record.model = Some(model.into());
    }

    /// There is an answer.
    pub fn answered(&self, status: StatusCode) {
        self.state().record.status = Some(status);
    }

    /// The model was asked, and this is what it took so far.
    pub fn used(&self, usage: Usage) {
        let tokens = RequestTokens { prompt: usage.prompt_tokens, cached: usage.cached_tokens, new: usage.new_tokens };
        self.state().record.tokens = Some(tokens);
    }

    /// The answer was handed over to its end.
    pub fn set_whole(&self) {
        self.state().record.is_whole = true;
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        let elapsed = self.begun.elapsed();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.record.elapsed = elapsed;
        let model = state.record.model.as_deref().unwrap_or_default();
        self.metrics.answered(&state.endpoint, state.record.status, model);
        if let Some(log) = &self.log {
            log(&state.record);
        }
    }
}

/// The client's id, if it has one that can stand in logs and headers as it is.
fn given_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (!id.is_empty() && id.len() <= MOST_ID_BYTES && id.bytes().all(is_plain)).then_some(id)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn an_id_that_is_sane_is_taken_over() {
        let given = |id: &str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).expect("a value"))]);
            given_id(&headers).map(str::to_owned)
        };
        for id in ["a", "3f2b-11:x_y.z", &"a".repeat(128)] {
            assert_eq!(given(id).as_deref(), Some(id));
        }
        for id in ["", "two words", "a\"b", "a,b", &"a".repeat(129), "<script>"] {
            assert_eq!(given(id), None, "{id}");
        }
    }

    #[test]
    fn a_line_says_what_happened_and_an_object_says_the_same() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&lines);
        let log: RequestLog = Arc::new(move |record: &RequestRecord| {
            told.lock().expect("no panic").push((record.to_string(), record.to_json()));
        });
        let metrics = Arc::new(ServerMetrics::default());
        let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static("mine"))]);
        let pending = PendingRecord::new(Method::POST, "/v1/x".into(), &headers, Some(log), Arc::clone(&metrics));
        let usage = Usage { prompt_tokens: 90, cached_tokens: Some(80), new_tokens: 30, reasoning_tokens: 0 };
        pending.used(usage);
        pending.routed("/v1/{x}");
        pending.asked("m");
        pending.answered(StatusCode::OK);
        drop(pending);
        let (line, object) = lines.lock().expect("no panic").pop().expect("one record");
        assert!(line.starts_with("POST /v1/x 200 0."), "{line}");
        assert!(line.ends_with(" ms model m tokens: 90 in, 80 cached, 30 out; id mine aborted"), "{line}");
        let field = |name: &str| object[name].clone();
        assert_eq!([field("prompt_tokens"), field("cached_tokens"), field("new_tokens")], [90, 80, 30]);
        assert_eq!((field("id"), field("aborted"), field("status")), (json!("mine"), json!(true), json!(200)));
        assert_eq!(field("model"), json!("m"));
        let text = metrics.to_text(&[]);
        assert!(text.contains("pylon_requests_total{endpoint=\"/v1/{x}\",status=\"200\",model=\"m\"} 1\n"), "{text}");
    }
}
