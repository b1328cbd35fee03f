//! Counters as text, in Prometheus' format (version 0.0.4): a metric has one head, and below it a line for each model.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use gptoss_protocol::{KvBlocks, PlacesInUse};

use super::{Histogram, Metrics, ServerMetrics};
use crate::upstreams::UpstreamState;

/// Type of the text, for its header.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is told of a model.
pub(crate) struct ModelNumbers<'a> {
    pub id: &'a str,
    pub device: &'a str,
    pub metrics: Arc<Metrics>,
    pub open_requests: usize,
    pub waiting_requests: usize,
    pub tunnel_sessions: usize,
    pub context_tokens: u32,
    pub kv_bytes: u64,
}

/// One model's number of a metric.
type OfModel = fn(&ModelNumbers<'_>) -> f64;

const COUNTERS: [(&str, &str, OfModel); 3] = [
    ("pylon_prompt_tokens_total", "Tokens of prompts, cached ones included.", |of| load(&of.metrics.prompt_tokens)),
    ("pylon_cached_tokens_total", "Tokens of prompts that the KV cache held.", |of| load(&of.metrics.cached_tokens)),
    ("pylon_generated_tokens_total", "Tokens that the model produced.", |of| load(&of.metrics.new_tokens)),
];

const GAUGES: [(&str, &str, OfModel); 7] = [
    ("pylon_answering_requests", "Requests that are being answered.", |of| load(&of.metrics.answering)),
    ("pylon_open_requests", "Requests that are being answered or wait.", |of| of.open_requests as f64),
    ("pylon_waiting_requests", "Requests that wait for their turn.", |of| of.waiting_requests as f64),
    ("pylon_tunnel_sessions", "Sessions of the tunnel.", |of| of.tunnel_sessions as f64),
    ("pylon_kv_used_tokens", "Tokens in the KV cache of sequences that are being answered.", |of| {
        load(&of.metrics.kv_used_tokens)
    }),
    ("pylon_kv_capacity_tokens", "Tokens that one sequence has room for.", |of| f64::from(of.context_tokens)),
    ("pylon_kv_cache_bytes", "Size of the KV cache of all sequences.", |of| of.kv_bytes as f64),
];

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

impl ServerMetrics {
    /// All of it as text, with these models.
    pub fn to_text(&self, models: &[ModelNumbers<'_>]) -> String {
        let mut text = String::new();
        let help = "Requests by endpoint, status and model; status 0 is no answer, model \"\" is none.";
        head(&mut text, "pylon_requests_total", help, "counter");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((endpoint, status, model), count) in requests.iter() {
            let labels = labels(&[("endpoint", endpoint), ("status", &status.to_string()), ("model", model)]);
            line(&mut text, "pylon_requests_total", &labels, *count as f64);
        }
        drop(requests);
        for (kind, rows) in [("counter", &COUNTERS[..]), ("gauge", &GAUGES[..])] {
            for (name, help, value) in rows {
                head(&mut text, name, help, kind);
                models.iter().for_each(|of| line(&mut text, name, &labels(&[("model", of.id)]), value(of)));
            }
        }
        write_kv_blocks(&mut text, models);
        head(&mut text, "pylon_model_info", "The model, and what computes it.", "gauge");
        for of in models {
            line(&mut text, "pylon_model_info", &labels(&[("model", of.id), ("device", of.device)]), 1.0);
        }
        head(&mut text, "pylon_uptime_seconds", "Time since the server began.", "gauge");
        line(&mut text, "pylon_uptime_seconds", "", self.uptime().as_secs_f64());
        let (name, help) =
            ("pylon_time_to_first_token_seconds", "Time from the request to its first token, waits included.");
        head(&mut text, name, help, "histogram");
        models.iter().for_each(|of| of.metrics.first_token.write(&mut text, name, of.id));
        let (name, help) = ("pylon_time_per_token_seconds", "Time between two tokens of an answer.");
        head(&mut text, name, help, "histogram");
        models.iter().for_each(|of| of.metrics.token.write(&mut text, name, of.id));
        text
    }
}

/// Blocks and sequences of the KV caches, of models that have one here.
fn write_kv_blocks(text: &mut String, models: &[ModelNumbers<'_>]) {
    let known: Vec<(&str, KvBlocks)> = models.iter().filter_map(|of| Some((of.id, of.metrics.kv_blocks()?))).collect();
    let states = |of: PlacesInUse| [("busy", of.busy), ("idle", of.idle), ("free", of.free)];
    let kinds = |of: KvBlocks| [("full", of.full), ("sliding", of.sliding)];
    head(text, "pylon_kv_capacity_blocks", "Blocks of the KV cache, by how far their layers see.", "gauge");
    for (model, blocks) in &known {
        for (reach, places) in kinds(*blocks) {
            let labels = labels(&[("model", model), ("reach", reach)]);
            line(text, "pylon_kv_capacity_blocks", &labels, f64::from(places.places));
        }
    }
    let help = "Blocks of the KV cache: busy ones answers need, idle ones are there for whoever goes on.";
    head(text, "pylon_kv_blocks", help, "gauge");
    for (model, blocks) in &known {
        for (reach, places) in kinds(*blocks) {
            for (state, count) in states(places) {
                let labels = labels(&[("model", model), ("reach", reach), ("state", state)]);
                line(text, "pylon_kv_blocks", &labels, f64::from(count));
            }
        }
    }
    head(text, "pylon_kv_block_tokens", "Positions that a block has keys and values of.", "gauge");
    for (model, blocks) in &known {
        line(text, "pylon_kv_block_tokens", &labels(&[("model", model)]), f64::from(blocks.block_tokens));
    }
    head(text, "pylon_kv_sequences", "Sequences, which share the blocks, by what they are for.", "gauge");
    for (model, blocks) in &known {
        for (state, count) in states(blocks.sequences) {
            let labels = labels(&[("model", model), ("state", state)]);
            line(text, "pylon_kv_sequences", &labels, f64::from(count));
        }
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

impl<const N: usize> Histogram<N> {
    /// The lines of a model.
    fn write(&self, text: &mut String, name: &str, model: &str) {
        let mut sum = 0;
        let bucket = format!("{name}_bucket");
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            sum += count.load(Ordering::Relaxed);
            line(text, &bucket, &labels(&[("model", model), ("le", &bound.to_string())]), sum as f64);
        }
        sum += self.beyond.load(Ordering::Relaxed);
        line(text, &bucket, &labels(&[("model", model), ("le", "+Inf")]), sum as f64);
        let seconds = self.sum_microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        line(text, &format!("{name}_sum"), &labels(&[("model", model)]), seconds);
        line(text, &format!("{name}_count"), &labels(&[("model", model)]), sum as f64);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::new([0.1, 1.0]);
        for milliseconds in [50, 100, 900, 5000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = String::new();
        histogram.write(&mut text, "t", "m");
        let want = "t_bucket{model=\"m\",le=\"0.1\"} 2\nt_bucket{model=\"m\",le=\"1\"} 3\n\
                    t_bucket{model=\"m\",le=\"+Inf\"} 4\nt_sum{model=\"m\"} 6.05\nt_count{model=\"m\"} 4\n";
        assert_eq!(text, want);
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(labels(&[("model", "a\"b\\c\nd")]), r#"{model="a\"b\\c\nd"}"#);
    }

    #[test]
    fn a_metric_has_one_head_and_a_line_for_each_model() {
        let metrics = [Arc::new(Metrics::default()), Arc::new(Metrics::default())];
        let places = |busy, idle| PlacesInUse { places: 9, busy, idle, free: 9 - busy - idle };
        let (full, sliding, sequences) = (places(2, 3), places(1, 1), places(1, 0));
        metrics[1].set_kv_blocks(KvBlocks { block_tokens: 64, full, sliding, sequences });
        let models = ["a", "b"].iter().zip(&metrics).map(|(id, metrics)| ModelNumbers {
            id,
            device: "CPU",
            metrics: Arc::clone(metrics),
            open_requests: 3,
            waiting_requests: 1,
            tunnel_sessions: 0,
            context_tokens: 100,
            kv_bytes: 7,
        });
        let text = ServerMetrics::default().to_text(&models.collect::<Vec<_>>());
        for want in [
            "pylon_open_requests{model=\"a\"} 3\npylon_open_requests{model=\"b\"} 3\n",
            "pylon_kv_capacity_blocks{model=\"b\",reach=\"full\"} 9\n",
            "pylon_kv_blocks{model=\"b\",reach=\"sliding\",state=\"free\"} 7\n",
            "pylon_kv_sequences{model=\"b\",state=\"busy\"} 1\n",
        ] {
            assert!(text.contains(want), "{want} is not in\n{text}");
        }
        assert!(!text.contains("pylon_kv_blocks{model=\"a\""), "its cache is not known\n{text}");
        let mut heads: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let all = heads.len();
        heads.sort_unstable();
        heads.dedup();
        assert!(all > 15 && heads.len() == all, "a metric has two heads in\n{text}");
    }
}
