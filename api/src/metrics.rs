//! Counters of the server and of each model; [`text`] has them as Prometheus reads them.
//!
//! Times are taken on the thread that computes, so that a client that reads slowly does not make the model slow.

mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use gptoss_protocol::{Event, KvBlocks};

pub(crate) use self::text::{CONTENT_TYPE, ModelNumbers, write_upstreams};

/// Upper bounds of the histograms, in seconds: a GPU's token takes milliseconds, a long prompt on a CPU minutes.
const FIRST_TOKEN_BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
const TOKEN_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is counted of the server, whatever a request is for.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    begun: Instant,
    /// Requests by endpoint, status and model. Status 0 stands for those that got none, a model without a name for those that
    /// are for none.
    requests: Mutex<BTreeMap<(String, u16, String), u64>>,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self { begun: Instant::now(), requests: Mutex::default() }
    }
}

impl ServerMetrics {
    /// A request was answered, or the client went away before it was.
    pub fn answered(&self, endpoint: &str, status: Option<StatusCode>, model: &str) {
        let status = status.map_or(0, |status| status.as_u16());
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((endpoint.to_owned(), status, model.to_owned())).or_default() += 1;
    }

    /// Time since the server began.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// What is counted of one model while it is served.
#[derive(Debug)]
pub(crate) struct Metrics {
    answering: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    new_tokens: AtomicU64,
    kv_used_tokens: AtomicU64,
    /// How its KV cache is used; `None` where it has none here.
    kv_blocks: Mutex<Option<KvBlocks>>,
    first_token: Histogram<12>,
    token: Histogram<12>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answering: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            new_tokens: AtomicU64::new(0),
            kv_used_tokens: AtomicU64::new(0),
            kv_blocks: Mutex::default(),
            first_token: Histogram::new(FIRST_TOKEN_BOUNDS),
            token: Histogram::new(TOKEN_BOUNDS),
        }
    }
}

impl Metrics {
    /// Questions that are being answered, those that wait left out.
    pub fn answering(&self) -> u64 {
        self.answering.load(Ordering::Relaxed)
    }

    /// This is how the KV cache is used from now on.
    pub fn set_kv_blocks(&self, blocks: KvBlocks) {
        *self.kv_blocks.lock().unwrap_or_else(PoisonError::into_inner) = Some(blocks);
    }

    fn kv_blocks(&self) -> Option<KvBlocks> {
        *self.kv_blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Times, by bounds that they do not pass.
#[derive(Debug)]
struct Histogram<const N: usize> {
    bounds: [f64; N],
    /// Observations up to each bound and beyond the one before; the last ones are beyond all.
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum_microseconds: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: [f64; N]) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, counts, beyond: AtomicU64::new(0), sum_microseconds: AtomicU64::new(0) }
    }

    fn observe(&self, time: Duration) {
        let at = self.bounds.iter().position(|bound| time.as_secs_f64() <= *bound);
        at.map_or(&self.beyond, |at| &self.counts[at]).fetch_add(1, Ordering::Relaxed);
        self.sum_microseconds.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }
}

/// How far one request is, as the thread that computes sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    asked: Instant,
    last_token: Option<Instant>,
    is_answering: bool,
    /// Tokens of a prompt that was not read yet.
    unread_tokens: u32,
    cached_tokens: u32,
    kv_used_tokens: u32,
}

impl Progress {
    /// Nothing has come yet of a request that was asked at this time.
    pub fn new(asked: Instant) -> Self {
        Self { asked, last_token: None, is_answering: false, unread_tokens: 0, cached_tokens: 0, kv_used_tokens: 0 }
    }

    /// Counts an event of it.
    pub fn see(&mut self, event: &Event, metrics: &Metrics) {
        let add = |counter: &AtomicU64, count: u32| counter.fetch_add(u64::from(count), Ordering::Relaxed);
        // A prompt that is refused is known, and not read: only what comes of it says that it was.
        if matches!(event, Event::Prefill { .. } | Event::Token(_) | Event::Finished { .. }) {
            add(&metrics.prompt_tokens, std::mem::take(&mut self.unread_tokens));
        }
        match event {
            Event::PromptEncoded { tokens, .. } => {
                if !std::mem::replace(&mut self.is_answering, true) {
                    add(&metrics.answering, 1);
                }
                self.unread_tokens = *tokens;
            }
            Event::Prefill { reused_tokens, .. } | Event::Finished { reused_tokens: Some(reused_tokens), .. } => {
                add(&metrics.cached_tokens, reused_tokens.saturating_sub(self.cached_tokens));
                self.cached_tokens = self.cached_tokens.max(*reused_tokens);
            }
            Event::Token(_) => {
                add(&metrics.new_tokens, 1);
                let now = Instant::now();
                match self.last_token.replace(now) {
                    None => metrics.first_token.observe(now - self.asked),
                    Some(last) => metrics.token.observe(now - last),
                }
            }
            Event::Kv { used_tokens, .. } if self.is_answering => {
                add(&metrics.kv_used_tokens, *used_tokens);
                metrics.kv_used_tokens.fetch_sub(u64::from(self.kv_used_tokens), Ordering::Relaxed);
                self.kv_used_tokens = *used_tokens;
            }
            _ => {}
        }
    }

    /// Nothing of it comes any more.
    pub fn end(self, metrics: &Metrics) {
        metrics.kv_used_tokens.fetch_sub(u64::from(self.kv_used_tokens), Ordering::Relaxed);
        metrics.answering.fetch_sub(u64::from(self.is_answering), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_holds_is_given_back_when_it_ends() {
        let metrics = Metrics::default();
        let mut progress = Progress::new(Instant::now());
        progress.see(&Event::PromptEncoded { tokens: 90, context_tokens: 1000 }, &metrics);
        for reused_tokens in [80, 80] {
            let event = Event::Prefill { done_tokens: 85, total_tokens: 90, reused_tokens, elapsed_ms: 1.0 };
            progress.see(&event, &metrics);
        }
        for used_tokens in [90, 91] {
            progress.see(&Event::Kv { used_tokens, capacity_tokens: 1000, bytes: 1 }, &metrics);
        }
        let held = || (metrics.answering(), metrics.kv_used_tokens.load(Ordering::Relaxed));
        assert_eq!(held(), (1, 91));
        progress.end(&metrics);
        assert_eq!(held(), (0, 0));
        // One that is too long is refused after it became tokens.
        let mut refused = Progress::new(Instant::now());
        refused.see(&Event::PromptEncoded { tokens: 2000, context_tokens: 1000 }, &metrics);
        refused.end(&metrics);
        assert_eq!(held(), (0, 0));
        let tokens = [&metrics.prompt_tokens, &metrics.cached_tokens].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(tokens, [90, 80]);
    }
}
