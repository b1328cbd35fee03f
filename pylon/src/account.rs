//! What an answer took, counted from the engine's events.

use std::fmt;

use gptoss_protocol::{CacheCounters, Event, FinishReason, units};

use crate::stats::Percentiles;

/// Statistics of one answer.
#[derive(Clone, Debug, Default)]
pub struct Account {
    load_ms: Option<f64>,
    prompt_tokens: u32,
    /// Tokens that prefill ran (the others were in the cache) and how long it took.
    prefill: Option<(u32, f64)>,
    reused_tokens: u32,
    /// Milliseconds before each generated token, from the end of the prefill on.
    between_ms: Vec<f64>,
    kv: Option<(u32, u32, u64)>,
    experts: CacheCounters,
    finished: Option<FinishReason>,
    junk_tokens: u32,
}

impl Account {
    /// Takes note of an event.
    pub fn follow(&mut self, event: &Event) {
        match event {
            Event::Ready { load_ms } => self.load_ms = Some(*load_ms),
            Event::Prefill { done_tokens, total_tokens, reused_tokens, elapsed_ms } => {
                self.prompt_tokens = *total_tokens;
                self.reused_tokens = *reused_tokens;
                let new_tokens = done_tokens.saturating_sub(*reused_tokens);
                self.prefill = Some((new_tokens, *elapsed_ms));
            }
            Event::Token(token) => self.between_ms.push(token.elapsed_ms),
            Event::Kv { used_tokens, capacity_tokens, bytes } => {
                self.kv = Some((*used_tokens, *capacity_tokens, *bytes));
            }
            Event::Experts(counters) => self.experts = *counters,
            Event::Finished { reason, junk_tokens, .. } => {
                (self.finished, self.junk_tokens) = (Some(*reason), *junk_tokens);
            }
            _ => {}
        }
    }

    pub fn load_ms(&self) -> Option<f64> {
        self.load_ms
    }

    pub fn new_tokens(&self) -> u32 {
        self.between_ms.len() as u32
    }

    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finished
    }

    /// Number of tokens in a row that said nothing, if there are so many that this is no answer; otherwise 0.
    pub fn junk_tokens(&self) -> u32 {
        self.junk_tokens
    }

    pub fn time_to_first_token_ms(&self) -> Option<f64> {
        let (_, prefill_ms) = self.prefill?;
        self.between_ms.first().map(|first| prefill_ms + first)
    }

    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        self.prefill.filter(|(tokens, ms)| *tokens > 0 && *ms > 0.0).map(|(tokens, ms)| f64::from(tokens) * 1e3 / ms)
    }

    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        let steps = self.between_ms.get(1..).filter(|steps| !steps.is_empty())?;
        let total_ms: f64 = steps.iter().sum();
        (total_ms > 0.0).then(|| steps.len() as f64 * 1e3 / total_ms)
    }
}

/// `12.3 tokens/s`, or `-` for what was not measured.
fn rate(tokens_per_second: Option<f64>) -> String {
    tokens_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1} tokens/s"))
}

impl fmt::Display for Account {
    /// Writes a few lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(load_ms) = self.load_ms {
            writeln!(f, "load     {load_ms:.0} ms")?;
        }
        write!(f, "prompt   {} tokens", self.prompt_tokens)?;
        if self.reused_tokens > 0 {
            write!(f, ", {} of them from the KV cache", self.reused_tokens)?;
        }
        write!(f, "; prefill {}", rate(self.prefill_tokens_per_second()))?;
        if let Some(ms) = self.time_to_first_token_ms() {
            write!(f, "; first token after {ms:.0} ms")?;
        }
        write!(f, "\nanswer   {} tokens; decode {}", self.new_tokens(), rate(self.decode_tokens_per_second()))?;
        if let Some(between) = Percentiles::of(self.between_ms.get(1..).unwrap_or_default()) {
            let Percentiles { p50, p90, p99, .. } = between;
            write!(f, "; between tokens p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms")?;
        }
        if let Some((used, capacity, bytes)) = self.kv {
            write!(f, "\nKV cache {used} of {capacity} tokens, {}", units::bytes(bytes))?;
        }
        let CacheCounters { hits, misses, evictions, loaded_bytes, .. } = self.experts;
        if hits + misses > 0 {
            let loaded = units::bytes(loaded_bytes);
            write!(f, "\nexperts  {hits} hits, {misses} misses, {evictions} evictions, {loaded} loaded")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(elapsed_ms: f64) -> Event {
        Event::Token(gptoss_protocol::TokenInfo {
            index: 0,
            id: 0,
            text: String::new(),
            channel: None,
            recipient: None,
            probability: None,
            entropy_nats: 0.0,
            top: Vec::new(),
            elapsed_ms,
            decode_tokens_per_second: None,
        })
    }

    #[test]
    fn rates_come_from_what_was_run_and_not_from_the_cache() {
        let mut account = Account::default();
        assert_eq!((account.prefill_tokens_per_second(), account.decode_tokens_per_second()), (None, None));
        let prefill =
            |reused_tokens| Event::Prefill { done_tokens: 100, total_tokens: 100, reused_tokens, elapsed_ms: 500.0 };
        account.follow(&prefill(0));
        for elapsed_ms in [1.0, 10.0, 30.0] {
            account.follow(&token(elapsed_ms));
        }
        assert_eq!(account.prefill_tokens_per_second(), Some(200.0));
        assert_eq!(account.decode_tokens_per_second(), Some(50.0), "two steps in 40 ms; the first token is prefill's");
        assert_eq!(account.time_to_first_token_ms(), Some(501.0));
        account.follow(&prefill(90));
        assert_eq!(account.prefill_tokens_per_second(), Some(20.0));
        assert!(account.to_string().contains("90 of them from the KV cache"), "{account}");
    }
}
