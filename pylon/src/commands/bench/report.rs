//! What a benchmark came to, for programs and for people.

use std::fmt;

use gptoss_protocol::units::{bytes, bytes_per_second};
use serde::Serialize;

use crate::stats::Percentiles;

/// All measurements. What was not measured is `null`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub model: String,
    pub file: String,
    pub file_bytes: u64,
    pub backend: String,
    /// Threads of the CPU backend.
    pub threads: Option<usize>,
    pub prompt_tokens: u32,
    pub new_tokens: u32,
    pub repeat: u32,
    /// Time from the path to a model that can run.
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
    /// Speed of the memory, measured in this run: of main memory for this many threads, in turns with decoding, or of the GPU's
    /// memory while it copies, reading and writing taken together.
    pub memory_bytes_per_second: Option<f64>,
    /// The share of that speed that decoding uses, on the CPU the median of the turns. Above 1 the weights come from the processor's
    /// caches.
    pub memory_share: Option<f64>,
    /// Statistics of experts on a GPU.
    pub experts: Option<Experts>,
    /// Times of the operations on a GPU that can measure them.
    pub operations: Option<Operations>,
    /// Decoding in several sequences at once; empty unless asked for.
    pub sequences: Vec<SideBySide>,
    /// Decoding while somebody looks inside, and while nobody does.
    pub watched: Option<Watched>,
    pub compare: Option<Comparison>,
}

/// Experts on the GPU, and what the warm runs did with them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Experts {
    pub slots_per_layer: u32,
    pub experts_per_layer: u32,
    /// Size of all slots of all layers.
    pub slots_bytes: u64,
    /// Chosen experts that were resident; each counts once per layer and batch.
    pub hits: u64,
    /// Chosen experts that were not resident, counted in the same way.
    pub misses: u64,
    /// Bytes read from the file.
    pub read_bytes: u64,
}

/// Times of the operations on the GPU, each launch by itself. Together they take longer than a batch does, because
/// launches of a batch may overlap.
#[derive(Clone, Debug, Serialize)]
pub struct Operations {
    /// Operations of the prompt.
    pub prefill: Vec<Operation>,
    /// Operations of one token after it.
    pub decode: Vec<Operation>,
}

/// All launches of an operation.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub name: &'static str,
    pub launches: u32,
    pub microseconds: f64,
}

/// Decoding in several sequences at once, every batch having a row of each: the median of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SideBySide {
    pub sequences: u32,
    /// Of all sequences together.
    pub tokens_per_second: f64,
}

/// Decoding in turn while nobody looks inside, and while routes, norms and one head's attention are read back. Medians of the
/// rounds, in tokens per second.
#[derive(Clone, Debug, Serialize)]
pub struct Watched {
    pub rounds: u32,
    pub unwatched: f64,
    pub watched: f64,
    /// The watched rate divided by the other.
    pub share: f64,
    /// The same of each of the three alone.
    pub parts: Vec<WatchedPart>,
}

/// Decoding while one thing is read back.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WatchedPart {
    pub what: &'static str,
    pub watched: f64,
    pub share: f64,
}

/// Prefill and decode of one run, or of several.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Time from the prompt to the first new token.
    pub time_to_first_token_ms: f64,
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// Times from one new token to the next.
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
    /// Rates of the whole prompt, from an empty context.
    pub prefill: Pair,
    /// Rates of the new tokens, from an empty context.
    pub decode: Pair,
}

/// Our rate and theirs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    pub ours: f64,
    pub theirs: f64,
    /// Ours divided by theirs: above 1 this engine is faster.
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
                let turns = if self.threads.is_some() { " (in turns)" } else { "" };
                writeln!(f, "; memory delivers {memory}, of which decoding takes {:.0} %{turns}", share * 100.0)?;
            }
            _ => writeln!(f, "; memory bandwidth not measured")?,
        }
        if let Some(Experts { slots_per_layer, experts_per_layer, slots_bytes, hits, misses, read_bytes }) =
            self.experts
        {
            writeln!(
                f,
                "experts: room for {slots_per_layer} of {experts_per_layer} in each layer ({}); warm, {hits} were there and {misses} were not, {} read",
                bytes(slots_bytes),
                bytes(read_bytes)
            )?;
        }
        if let Some(Operations { prefill, decode }) = &self.operations {
            for (what, operations) in [("one token", decode), ("the prompt", prefill)] {
                writeln!(f, "\non the GPU, each launch by itself: {what}")?;
                let all: f64 = operations.iter().map(|operation| operation.microseconds).sum();
                for Operation { name, launches, microseconds } in operations {
                    let share = 100.0 * microseconds / all.max(f64::MIN_POSITIVE);
                    writeln!(f, "{name:>18} {launches:>6} launches {microseconds:>12.1} µs {share:>5.1} %")?;
                }
            }
        }
        for SideBySide { sequences, tokens_per_second } in &self.sequences {
            let each = tokens_per_second / f64::from(*sequences);
            writeln!(
                f,
                "{sequences:>11} sequences at once: decode {tokens_per_second:.2} tokens/s together, {each:.2} each"
            )?;
        }
        if let Some(Watched { rounds, unwatched, watched, share, parts }) = &self.watched {
            writeln!(
                f,
                "\nin turn, {rounds} rounds: decode {watched:.2} tokens/s while routes, norms and a head are watched, {unwatched:.2} while \
                 nothing is: {share:.3}×"
            )?;
            for WatchedPart { what, watched, share } in parts {
                writeln!(f, "{what:>11} alone: {watched:.2} tokens/s, {share:.3}×")?;
            }
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
