//! The seam between answering and arithmetic: what a loaded model can do, wherever it runs.

use crate::ops::sample::{CANDIDATES, Candidate};
use gptoss_telemetry::{CacheCounters, OptionId, WorkCounters};

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::host::Host;
use crate::non_finite::NonFinite;

/// A model with its KV cache: on the GPU ([`crate::Model`]), or on the CPU (crate `gptoss-cpu`).
///
/// One conversation at a time; positions grow until [`Backend::rewind`].
#[allow(async_fn_in_trait)] // futures here never leave their thread: the browser's GPU objects cannot
pub trait Backend {
    fn config(&self) -> &ModelConfig;

    /// What computes, in words: device, instruction set or API, precision of activations and cache.
    fn description(&self) -> String;

    /// Tokens that the KV cache can hold.
    fn kv_capacity(&self) -> u32;

    fn kv_bytes(&self) -> u64;

    /// Tokens in the KV cache.
    fn position(&self) -> u32;

    /// Tokens that still fit.
    fn room(&self) -> u32 {
        self.kv_capacity() - self.position()
    }

    /// Refuses tokens that do not fit, and none at all.
    fn require_room(&self, tokens: usize) -> Result<(), EngineError> {
        if tokens == 0 {
            return Err(EngineError::Option {
                option: OptionId::Prompt,
                expected: "at least one token",
                got: "none".into(),
            });
        }
        if tokens > self.room() as usize {
            let tokens = self.position() + tokens as u32;
            return Err(EngineError::PromptTooLong {
                tokens,
                capacity: self.kv_capacity(),
                longest: self.config().context_tokens,
            });
        }
        Ok(())
    }

    /// Forgets everything from `position` on. Sliding layers keep a ring of recent positions only: when what the next
    /// token needs was overwritten, everything is forgotten. Returns the position reached.
    fn rewind(&mut self, position: u32) -> u32;

    /// Appends `tokens` and predicts the token after them. `progress` hears how many of them are done.
    async fn prefill(
        &mut self,
        tokens: &[u32],
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
        progress: impl FnMut(u32),
    ) -> Result<Prediction, EngineError>;

    /// Appends one token and predicts the next.
    async fn decode(
        &mut self,
        token: u32,
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
    ) -> Result<Prediction, EngineError>;

    /// All logits of `tokens`, [tokens, vocabulary], from position 0.
    async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError>;

    /// The logits of the last prediction, [vocabulary]: when sampling needs more than the candidates.
    async fn last_logits(&mut self, host: &dyn Host) -> Result<Vec<f32>, EngineError>;

    fn cache_counters(&self) -> CacheCounters;

    fn work_counters(&self) -> WorkCounters;
}

/// Whether the cache of a sliding layer, a ring of `capacity` positions that was written up to `written`, still holds the
/// `window` keys that the token at `position` needs, itself included.
pub fn ring_holds(position: u32, window: u32, capacity: u32, written: u32) -> bool {
    let oldest_needed = (position + 1).saturating_sub(window);
    let oldest_held = written.saturating_sub(capacity);
    oldest_needed >= oldest_held
}

/// What is known about the next token.
#[derive(Clone, Debug)]
pub struct Prediction {
    pub token: u32,
    pub logit: f32,
    /// ln Σ exp(logit) over the vocabulary, at temperature 1 and at the sampling temperature.
    pub log_sum_exp: f32,
    pub log_sum_exp_tempered: f32,
    /// Entropy of the next token's distribution at temperature 1, in nats.
    pub entropy_nats: f32,
    /// Most likely first; empty unless asked for.
    pub candidates: Vec<Candidate>,
}

impl Prediction {
    /// From a row of logits in host memory; `position` is that of the token that gave it. The same quantities, ties and
    /// refusal of numbers that are not finite as on the GPU.
    pub fn from_logits(
        logits: &[f32],
        inverse_temperature: f32,
        candidates: bool,
        position: u32,
    ) -> Result<Self, EngineError> {
        if let Some(found) = NonFinite::in_logits(logits, position) {
            return Err(EngineError::NonFinite(found));
        }
        let best = best(logits, if candidates { CANDIDATES } else { 1 });
        let top = best[0];
        let (mut sum, mut weighted, mut sum_tempered) = (0.0f64, 0.0f64, 0.0f64);
        for &logit in logits {
            let below = f64::from(logit - top.logit);
            let weight = below.exp();
            sum += weight;
            weighted += weight * below;
            if inverse_temperature != 1.0 {
                sum_tempered += (below * f64::from(inverse_temperature)).exp();
            }
        }
        let top_logit = f64::from(top.logit);
        let tempered = if inverse_temperature == 1.0 { sum } else { sum_tempered };
        Ok(Self {
            token: top.token,
            logit: top.logit,
            log_sum_exp: (top_logit + sum.ln()) as f32,
            log_sum_exp_tempered: (top_logit * f64::from(inverse_temperature) + tempered.ln()) as f32,
            entropy_nats: (sum.ln() - weighted / sum) as f32,
            candidates: if candidates { best } else { Vec::new() },
        })
    }
}

/// The `count` largest logits, largest first; of equal ones the lower token first.
fn best(logits: &[f32], count: usize) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(count + 1);
    for (token, &logit) in (0..).zip(logits) {
        if kept.len() == count && logit <= kept[count - 1].logit {
            continue;
        }
        let at = kept.partition_point(|candidate| candidate.logit >= logit);
        kept.insert(at, Candidate { token, logit });
        kept.truncate(count);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_of_equals_the_lower_token() {
        let logits = [1.0, 3.0, -2.0, 3.0, 2.0, 1.0];
        let tokens = |count| best(&logits, count).iter().map(|candidate| candidate.token).collect::<Vec<_>>();
        assert_eq!(tokens(1), [1]);
        assert_eq!(tokens(4), [1, 3, 4, 0]);
        assert_eq!(tokens(9), [1, 3, 4, 0, 5, 2]);
    }

    #[test]
    fn a_ring_holds_what_was_not_overwritten() {
        // Capacity 12: positions 8..20 are there after 20 were written.
        assert!(ring_holds(20, 4, 12, 20));
        assert!(ring_holds(11, 4, 12, 20), "needs 8 to 11");
        assert!(!ring_holds(10, 4, 12, 20), "needs 7");
        assert!(ring_holds(3, 4, 12, 12), "nothing was overwritten yet");
        assert!(!ring_holds(0, 4, 12, 13), "position 0 was overwritten by 12");
    }

    #[test]
    fn a_prediction_holds_the_distribution_s_numbers() {
        let logits = [0.5f32, 2.5, -1.0];
        let prediction = Prediction::from_logits(&logits, 2.0, true, 7).expect("finite");
        let sum = |scale: f64| logits.iter().map(|&logit| (f64::from(logit) * scale).exp()).sum::<f64>();
        let entropy: f64 = -logits
            .iter()
            .map(|&logit| f64::from(logit).exp() / sum(1.0))
            .map(|probability| probability * probability.ln())
            .sum::<f64>();
        assert_eq!((prediction.token, prediction.logit), (1, 2.5));
        assert!((f64::from(prediction.log_sum_exp) - sum(1.0).ln()).abs() < 1e-6);
        assert!((f64::from(prediction.log_sum_exp_tempered) - sum(2.0).ln()).abs() < 1e-6);
        assert!((f64::from(prediction.entropy_nats) - entropy).abs() < 1e-6);
        let refused = Prediction::from_logits(&[0.0, f32::NAN], 1.0, false, 7);
        let found = NonFinite::Logits { count: 1, position: 7 };
        assert!(matches!(refused, Err(EngineError::NonFinite(got)) if got == found));
    }
}
