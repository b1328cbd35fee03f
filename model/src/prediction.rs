//! What is known about the next token, from its logits: in one go, or part by part, for threads that share the work.

use crate::error::EngineError;
use crate::non_finite::NonFinite;
use crate::ops::sample::{CANDIDATES, Candidate};

/// What is known about the next token.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The most likely token; the lowest id of equals.
    pub token: u32,
    /// Logit of that token.
    pub logit: f32,
    /// ln Σ exp(logit) over the vocabulary, at temperature 1.
    pub log_sum_exp: f32,
    /// ln Σ exp(logit · inverse temperature) over the vocabulary.
    pub log_sum_exp_tempered: f32,
    /// Entropy of the next token's distribution at temperature 1, in nats.
    pub entropy_nats: f32,
    /// The most likely tokens, best first; empty unless asked for.
    pub candidates: Vec<Candidate>,
}

impl Prediction {
    /// Makes a prediction from a row of logits in host memory; `position` is that of the token before. Quantities, ties
    /// and the refusal of numbers that are not finite are the same as on the GPU.
    ///
    /// # Errors
    /// A logit is not finite.
    pub fn from_logits(
        logits: &[f32],
        inverse_temperature: f32,
        candidates: bool,
        position: u32,
    ) -> Result<Self, EngineError> {
        LogitsPart::of(logits, 0, inverse_temperature, candidates).prediction(position)
    }
}

/// What a part of a row of logits contributes to its prediction. All parts of a row, joined in the order of tokens, give
/// the prediction.
#[derive(Clone, Debug)]
pub struct LogitsPart {
    inverse_temperature: f32,
    wants_candidates: bool,
    /// Number of logits that are not finite. If there are any, the sums mean nothing.
    not_finite: u32,
    /// The largest logits, largest first: [`CANDIDATES`] if candidates are wanted, else one.
    best: Vec<Candidate>,
    /// Σ exp(l − m), where m is the largest logit.
    sum: f64,
    /// Σ (l − m) · exp(l − m).
    weighted: f64,
    /// Σ exp((l − m) · inverse temperature).
    tempered: f64,
}

impl LogitsPart {
    /// Takes logits, of which there is at least one, of `first_token` and those after it.
    pub fn of(logits: &[f32], first_token: u32, inverse_temperature: f32, wants_candidates: bool) -> Self {
        let best = best(logits, first_token, if wants_candidates { CANDIDATES } else { 1 });
        let mut part = Self {
            inverse_temperature,
            wants_candidates,
            not_finite: logits.iter().filter(|logit| !logit.is_finite()).count() as u32,
            best,
            sum: 0.0,
            weighted: 0.0,
            tempered: 0.0,
        };
        if part.not_finite > 0 {
            return part;
        }
        let top = part.best[0].logit;
        for &logit in logits {
            let below = f64::from(logit - top);
            let weight = below.exp();
            part.sum += weight;
            part.weighted += weight * below;
            if inverse_temperature != 1.0 {
                part.tempered += (below * f64::from(inverse_temperature)).exp();
            }
        }
        if inverse_temperature == 1.0 {
            part.tempered = part.sum;
        }
        part
    }

    /// Joins it with the part after it, of the same row and asked for the same.
    #[must_use]
    pub fn and(mut self, mut next: Self) -> Self {
        self.not_finite += next.not_finite;
        if self.not_finite > 0 {
            return self;
        }
        let top = self.best[0].logit.max(next.best[0].logit);
        self.measure_from(top);
        next.measure_from(top);
        self.sum += next.sum;
        self.weighted += next.weighted;
        self.tempered += next.tempered;
        let count = if self.wants_candidates { CANDIDATES } else { 1 };
        for candidate in next.best {
            insert(&mut self.best, count, candidate);
        }
        self
    }

    /// Changes the sums to what they are with another m, which is not below the largest logit.
    fn measure_from(&mut self, top: f32) {
        let below = f64::from(self.best[0].logit - top);
        let factor = below.exp();
        self.weighted = factor * (self.weighted + below * self.sum);
        self.sum *= factor;
        self.tempered *= (below * f64::from(self.inverse_temperature)).exp();
    }

    /// The prediction of a whole row; `position` is that of the token before.
    ///
    /// # Errors
    /// A logit was not finite.
    pub fn prediction(self, position: u32) -> Result<Prediction, EngineError> {
        if self.not_finite > 0 {
            return Err(EngineError::NonFinite(NonFinite::Logits { count: self.not_finite, position }));
        }
        let top = self.best[0];
        let top_logit = f64::from(top.logit);
        let inverse_temperature = f64::from(self.inverse_temperature);
        Ok(Prediction {
            token: top.token,
            logit: top.logit,
            log_sum_exp: (top_logit + self.sum.ln()) as f32,
            log_sum_exp_tempered: (top_logit * inverse_temperature + self.tempered.ln()) as f32,
            entropy_nats: (self.sum.ln() - self.weighted / self.sum) as f32,
            candidates: if self.wants_candidates { self.best } else { Vec::new() },
        })
    }
}

/// The `count` largest logits, largest first; of equal ones the lower token comes first.
fn best(logits: &[f32], first_token: u32, count: usize) -> Vec<Candidate> {
    let mut kept = Vec::with_capacity(count + 1);
    for (token, &logit) in (first_token..).zip(logits) {
        insert(&mut kept, count, Candidate { token, logit });
    }
    kept
}

/// Inserts a candidate whose token is above those of all others, and keeps the `count` best.
fn insert(kept: &mut Vec<Candidate>, count: usize, candidate: Candidate) {
    if kept.len() == count && candidate.logit <= kept[count - 1].logit {
        return;
    }
    let at = kept.partition_point(|other| other.logit >= candidate.logit);
    kept.insert(at, candidate);
    kept.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_of_equals_the_lower_token() {
        let logits = [1.0, 3.0, -2.0, 3.0, 2.0, 1.0];
        let tokens = |count| best(&logits, 0, count).iter().map(|candidate| candidate.token).collect::<Vec<_>>();
        assert_eq!(tokens(1), [1]);
        assert_eq!(tokens(4), [1, 3, 4, 0]);
        assert_eq!(tokens(9), [1, 3, 4, 0, 5, 2]);
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
    /// However a row is cut, its parts give what the whole row gives; equal logits lie on both sides of cuts.
    #[test]
    fn parts_of_a_row_give_its_prediction() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919 % 211) as f32 - 100.0) * 0.2).collect();
        for (inverse_temperature, candidates) in [(1.0, true), (0.6, true), (1.0, false), (2.5, false)] {
            let whole = Prediction::from_logits(&logits, inverse_temperature, candidates, 3).expect("finite");
            for part_len in [1, 7, 211, 999] {
                let parts = logits.chunks(part_len).enumerate().map(|(index, part)| {
                    LogitsPart::of(part, (index * part_len) as u32, inverse_temperature, candidates)
                });
                let joined = parts.reduce(LogitsPart::and).expect("parts").prediction(3).expect("finite");
                assert_eq!((joined.token, joined.logit), (whole.token, whole.logit));
                assert_eq!(joined.candidates, whole.candidates);
                for (got, want) in [
                    (joined.log_sum_exp, whole.log_sum_exp),
                    (joined.log_sum_exp_tempered, whole.log_sum_exp_tempered),
                    (joined.entropy_nats, whole.entropy_nats),
                ] {
                    assert!((got - want).abs() <= 1e-6 * want.abs(), "{got}, expected {want}");
                }
            }
        }
    }

    #[test]
    fn logits_that_are_not_finite_are_counted_over_all_parts() {
        let rows: [&[f32]; 3] = [&[1.0, f32::NAN, 2.0, f32::INFINITY], &[3.0, 4.0], &[f32::NEG_INFINITY, 0.0]];
        let parts = rows.map(|part| LogitsPart::of(part, 0, 1.0, true));
        let refused = parts.into_iter().reduce(LogitsPart::and).expect("parts").prediction(9);
        let found = NonFinite::Logits { count: 3, position: 9 };
        assert!(matches!(refused, Err(EngineError::NonFinite(got)) if got == found));
    }
}
