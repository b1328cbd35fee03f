//! What a benchmark came to, for programs and for people.

use std::fmt;

use gptoss_telemetry::units::{bytes, bytes_per_second};
use serde::Serialize;

use crate::stats::Percentiles;

/// Everything that was measured. What was not is `null`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub model: String,
    pub file: String,
    pub file_bytes: u64,
    pub backend: String,
    /// Of the CPU backend.
    pub threads: Option<usize>,
    pub prompt_tokens: u32,
    pub new_tokens: u32,
    pub repeat: u32,
    /// From the path to a model that can run.
    pub open_ms: f64,
    /// The first run after that. The system may still hold the file from earlier use.
    pub cold: Run,
    /// The runs after it, taken together: medians, and percentiles over all their tokens.
    pub warm: Run,
    pub prefix_hit: PrefixHit,
    /// Weights that one decoded token reads, in the file's formats.
    pub weight_bytes_per_token: u64,
    /// `weight_bytes_per_token` times decoded tokens per second, warm.
    pub weight_bytes_per_second: f64,
    /// What this machine's memory delivers to that many threads, measured in this run.
    pub memory_bytes_per_second: Option<f64>,
    /// The share of it that decoding uses. Above 1 the weights come from the processor's caches.
    pub memory_share: Option<f64>,
    pub compare: Option<Comparison>,
}

/// Prefill and decode of one run, or of several.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// From the prompt to the first new token.
    pub time_to_first_token_ms: f64,
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// From one new token to the next.
    pub between_tokens_ms: Percentiles,
}

/// The same prompt again, with its beginning in the KV cache.
#[derive(Clone, Debug, Serialize)]
pub struct PrefixHit {
    pub reused_tokens: u32,
    pub time_to_first_token_ms: f64,
}

/// This engine and llama.cpp in turn. Rates are medians of the rounds, in tokens per second.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub program: &'static str,
    pub build: String,
    pub rounds: u32,
    pub threads: usize,
    /// Of the whole prompt, from an empty context.
    pub prefill: Pair,
    /// Of the new tokens, from an empty context.
    pub decode: Pair,
}

/// Ours and theirs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    pub ours: f64,
    pub theirs: f64,
    /// Above 1 this engine is faster.
    pub ratio: f64,
}

impl Pair {
    pub fn new(ours: f64, theirs: f64) -> Self {
        Self { ours, theirs, ratio: ours / theirs }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {} ({})", self.model, self.file, bytes(self.file_bytes))?;
        writeln!(f, "{}", self.backend)?;
        writeln!(
            f,
            "prompt {} tokens, {} new tokens; opened in {:.0} ms\n",
            self.prompt_tokens, self.new_tokens, self.open_ms
        )?;
        writeln!(
            f,
            "{:>11} {:>12} {:>11} {:>12} {:>8} {:>8} {:>8}",
            "", "prefill", "first token", "decode", "p50", "p90", "p99"
        )?;
        writeln!(
            f,
            "{:>11} {:>12} {:>11} {:>12} {:>8} {:>8} {:>8}",
            "", "tokens/s", "ms", "tokens/s", "ms", "ms", "ms"
        )?;
        for (name, run) in [("cold", &self.cold), ("warm", &self.warm)] {
            let Run { time_to_first_token_ms, prefill_tokens_per_second, decode_tokens_per_second, between_tokens_ms } =
                run;
            let Percentiles { p50, p90, p99, .. } = between_tokens_ms;
            writeln!(
                f,
                "{name:>11} {prefill_tokens_per_second:>12.1} {time_to_first_token_ms:>11.1} {decode_tokens_per_second:>12.2} {p50:>8.2} {p90:>8.2} {p99:>8.2}"
            )?;
        }
        let PrefixHit { reused_tokens, time_to_first_token_ms } = self.prefix_hit;
        writeln!(
            f,
            "{:>11} {:>12} {time_to_first_token_ms:>11.1}  ({reused_tokens} tokens from the KV cache)",
            "prefix hit", ""
        )?;
        writeln!(f)?;
        write!(
            f,
            "weights read per token {}, {}",
            bytes(self.weight_bytes_per_token),
            bytes_per_second(self.weight_bytes_per_second)
        )?;
        match (self.memory_bytes_per_second, self.memory_share) {
            (Some(memory), Some(share)) => {
                let memory = bytes_per_second(memory);
                writeln!(f, "; memory delivers {memory}, of which that is {:.0} %", share * 100.0)?;
            }
            _ => writeln!(f, "; memory bandwidth not measured")?,
        }
        if let Some(compare) = &self.compare {
            let Comparison { program, build, rounds, threads, prefill, decode } = compare;
            writeln!(f, "\nin turn with {program} {build}, {rounds} rounds, {threads} threads, from an empty context")?;
            for (name, Pair { ours, theirs, ratio }) in [("prefill", prefill), ("decode", decode)] {
                writeln!(f, "{name:>11} {ours:>12.2} against {theirs:.2} tokens/s: {ratio:.2}×")?;
            }
        }
        Ok(())
    }
}
