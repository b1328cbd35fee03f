//! Counters of the server, in Prometheus' text format (version 0.0.4).
//!
//! Times are taken on the thread that computes, so that a client that reads slowly does not make the model slow.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use gptoss_protocol::Event;

use crate::upstreams::UpstreamState;

/// Type of the text, for its header.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histograms, in seconds: a GPU's token takes milliseconds, a long prompt on a CPU minutes.
const FIRST_TOKEN_BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
const TOKEN_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is counted while the server runs.
#[derive(Debug)]
pub(crate) struct Metrics {
    begun: Instant,
    /// Requests by endpoint and status; 0 stands for those that got none.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    answering: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    new_tokens: AtomicU64,
    kv_used_tokens: AtomicU64,
    first_token: Histogram<12>,
    token: Histogram<12>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            requests: Mutex::default(),
            answering: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            new_tokens: AtomicU64::new(0),
            kv_used_tokens: AtomicU64::new(0),
            first_token: Histogram::new(FIRST_TOKEN_BOUNDS),
            token: Histogram::new(TOKEN_BOUNDS),
        }
    }
}

/// A number that whoever asks for the text knows at that moment.
pub(crate) struct Gauge<'a> {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'a [(&'static str, &'a str)],
    pub value: f64,
}

impl Metrics {
    /// A request was answered, or the client went away before it was.
    pub fn answered(&self, endpoint: &str, status: Option<StatusCode>) {
        let status = status.map_or(0, |status| status.as_u16());
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((endpoint.to_owned(), status)).or_default() += 1;
    }

    /// Questions that are being answered, those that wait left out.
    pub fn answering(&self) -> u64 {
        self.answering.load(Ordering::Relaxed)
    }

    /// Time since the server began.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// All of it as text, with these numbers beside.
    pub fn to_text(&self, gauges: &[Gauge<'_>]) -> String {
        let mut text = String::new();
        head(&mut text, "pylon_requests_total", "Requests by endpoint and status; 0 is no answer.", "counter");
        for ((endpoint, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = labels(&[("endpoint", endpoint), ("status", &status.to_string())]);
            line(&mut text, "pylon_requests_total", &labels, *count as f64);
        }
        for (name, help, count) in [
            ("pylon_prompt_tokens_total", "Tokens of prompts, cached ones included.", &self.prompt_tokens),
            ("pylon_cached_tokens_total", "Tokens of prompts that the KV cache held.", &self.cached_tokens),
            ("pylon_generated_tokens_total", "Tokens that the model produced.", &self.new_tokens),
        ] {
            head(&mut text, name, help, "counter");
            line(&mut text, name, "", count.load(Ordering::Relaxed) as f64);
        }
        let own = [
            Gauge {
                name: "pylon_answering_requests",
                help: "Requests that are being answered.",
                labels: &[],
                value: self.answering() as f64,
            },
            Gauge {
                name: "pylon_kv_used_tokens",
                help: "Tokens in the KV cache of sequences that are being answered.",
                labels: &[],
                value: self.kv_used_tokens.load(Ordering::Relaxed) as f64,
            },
            Gauge {
                name: "pylon_uptime_seconds",
                help: "Time since the server began.",
                labels: &[],
                value: self.uptime().as_secs_f64(),
            },
        ];
        for gauge in own.iter().chain(gauges) {
            head(&mut text, gauge.name, gauge.help, "gauge");
            line(&mut text, gauge.name, &labels(gauge.labels), gauge.value);
        }
        let help = "Time from the request to its first token, the wait for its turn included.";
        self.first_token.write(&mut text, "pylon_time_to_first_token_seconds", help);
        self.token.write(&mut text, "pylon_time_per_token_seconds", "Time between two tokens of an answer.");
        text
    }
}

/// One upstream's number of a metric.
type OfUpstream = fn(&UpstreamState) -> u64;

/// The engines elsewhere, each with a label for its address.
pub(crate) fn write_upstreams(text: &mut String, states: &[UpstreamState]) {
    let rows: [(&str, &str, &str, OfUpstream); 4] = [
        ("pylon_upstream_ready", "Whether requests go to the upstream.", "gauge", |state| u64::from(state.is_ready)),
        ("pylon_upstream_in_flight", "Requests that the upstream is answering.", "gauge", |state| state.in_flight),
        ("pylon_upstream_requests_total", "Requests that were sent to the upstream.", "counter", |state| {
            state.requests
        }),
        ("pylon_upstream_errors_total", "Requests that the upstream failed.", "counter", |state| state.errors),
    ];
    for (name, help, kind, value) in rows {
        head(text, name, help, kind);
        for state in states {
            line(text, name, &labels(&[("upstream", &state.id)]), value(state) as f64);
        }
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

    fn write(&self, text: &mut String, name: &str, help: &str) {
        head(text, name, help, "histogram");
        let mut sum = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            sum += count.load(Ordering::Relaxed);
            line(text, &format!("{name}_bucket"), &labels(&[("le", &bound.to_string())]), sum as f64);
        }
        sum += self.beyond.load(Ordering::Relaxed);
        line(text, &format!("{name}_bucket"), &labels(&[("le", "+Inf")]), sum as f64);
        let seconds = self.sum_microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        line(text, &format!("{name}_sum"), "", seconds);
        line(text, &format!("{name}_count"), "", sum as f64);
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "{name}{labels} {value}");
}

fn labels(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// How far one request is, as the thread that computes sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    asked: Instant,
    last_token: Option<Instant>,
    is_answering: bool,
    cached_tokens: u32,
    kv_used_tokens: u32,
}

impl Progress {
    /// Nothing has come yet of a request that was asked at this time.
    pub fn new(asked: Instant) -> Self {
        Self { asked, last_token: None, is_answering: false, cached_tokens: 0, kv_used_tokens: 0 }
    }

    /// Counts an event of it.
    pub fn see(&mut self, event: &Event, metrics: &Metrics) {
        let add = |counter: &AtomicU64, count: u32| counter.fetch_add(u64::from(count), Ordering::Relaxed);
        match event {
            Event::PromptEncoded { tokens, .. } => {
                if !std::mem::replace(&mut self.is_answering, true) {
                    add(&metrics.answering, 1);
                }
                add(&metrics.prompt_tokens, *tokens);
            }
            Event::Prefill { reused_tokens, .. } | Event::Finished { reused_tokens, .. } => {
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
    fn buckets_add_up() {
        let histogram = Histogram::new([0.1, 1.0]);
        for milliseconds in [50, 100, 900, 5000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = String::new();
        histogram.write(&mut text, "t", "Times.");
        let want = "# HELP t Times.\n# TYPE t histogram\nt_bucket{le=\"0.1\"} 2\nt_bucket{le=\"1\"} 3\n\
                    t_bucket{le=\"+Inf\"} 4\nt_sum 6.05\nt_count 4\n";
        assert_eq!(text, want);
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(labels(&[("model", "a\"b\\c\nd")]), r#"{model="a\"b\\c\nd"}"#);
    }

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
        let tokens = [&metrics.prompt_tokens, &metrics.cached_tokens].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(tokens, [90, 80]);
    }
}
