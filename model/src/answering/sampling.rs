//! Choosing the next token. The choice is exact: when the 64 candidates that the GPU hands out do not settle it, the
//! whole row of logits is read.

use crate::ops::sample::Candidate;
use gptoss_protocol::{OptionId, Sampling};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::error::EngineError;
use crate::prediction::Prediction;

/// At lower temperatures the most likely token is certain to F64, and logits over the temperature would be infinite:
/// nothing is drawn.
const LEAST_TEMPERATURE: f32 = 1e-20;

/// Draws tokens as [`Sampling`] says; the same seed gives the same draws.
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
}

/// What a draw came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// The candidates settle it: this token comes next.
    Token(u32),
    /// The candidates do not settle it: call [`Sampler::draw_from_all`] with all logits and this same number.
    NeedsAll {
        /// The random number of this draw, in [0, 1).
        uniform: f64,
    },
}

impl Sampler {
    /// Checks the parameters; the error names the one that is wrong.
    pub fn new(sampling: Sampling) -> Result<Self, EngineError> {
        for (option, allowed, got) in [
            (OptionId::Temperature, Sampling::TEMPERATURES, sampling.temperature),
            (OptionId::TopP, Sampling::TOP_PS, sampling.top_p),
            (OptionId::MinP, Sampling::MIN_PS, sampling.min_p),
        ] {
            if !allowed.holds(got) {
                return Err(EngineError::Option { option, expected: allowed.words, got: got.to_string() });
            }
        }
        Ok(Self { sampling, random: SplitMix64::seed_from_u64(sampling.seed) })
    }

    /// Whether the most likely token is always chosen, and no random number is used.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature < LEAST_TEMPERATURE || self.sampling.top_k == 1
    }

    /// 1 / temperature, by which the GPU scales logits; 1 when greedy.
    pub fn inverse_temperature(&self) -> f32 {
        if self.is_greedy() { 1.0 } else { self.sampling.temperature.recip() }
    }

    /// Draws from the candidates, if they settle it.
    pub fn draw(&mut self, prediction: &Prediction) -> Draw {
        if self.is_greedy() {
            return Draw::Token(prediction.token);
        }
        let uniform = unit(&mut self.random);
        let top_k = self.sampling.top_k as usize;
        if top_k > prediction.candidates.len() {
            return Draw::NeedsAll { uniform };
        }
        let most = if top_k > 0 { top_k } else { prediction.candidates.len() };
        let kept = self.likely_enough(&prediction.candidates[..most]);
        // Nothing beyond the kept ones can be drawn: top-k cut there, or they are too unlikely.
        let complete = top_k > 0 || kept < most;
        if !complete && self.sampling.min_p > 0.0 {
            // More tokens may pass; what they weigh together is not known.
            return Draw::NeedsAll { uniform };
        }
        // Where only the kept ones count, they are weighed beside the best of them: when it is cold, the sum over all in F32
        // is so coarse that weights beside it are infinite.
        let best = f64::from(prediction.candidates[0].logit) * f64::from(self.inverse_temperature());
        let log_total = if complete { best } else { f64::from(prediction.log_sum_exp_tempered) };
        let weights = self.weights(&prediction.candidates[..kept], log_total);
        // Probabilities among all tokens; with top-k only the kept ones count.
        let total = if complete { weights.iter().sum() } else { 1.0 };
        match pick(&weights, total, f64::from(self.sampling.top_p), uniform) {
            Some(index) => Draw::Token(prediction.candidates[index].token),
            None if complete => Draw::Token(prediction.candidates[kept - 1].token),
            None => Draw::NeedsAll { uniform },
        }
    }

    /// Draws from all logits with the number of an unsettled draw.
    pub fn draw_from_all(&self, logits: &[f32], uniform: f64) -> u32 {
        let mut all: Vec<Candidate> =
            logits.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
        all.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token)));
        if self.sampling.top_k > 0 {
            all.truncate(self.sampling.top_k as usize);
        }
        all.truncate(self.likely_enough(&all));
        let weights = self.weights(&all, f64::from(all[0].logit) * f64::from(self.inverse_temperature()));
        let total = weights.iter().sum();
        let index = pick(&weights, total, f64::from(self.sampling.top_p), uniform).unwrap_or(all.len() - 1);
        all[index].token
    }

    /// How many of the candidates, best first, pass min-p: at least one.
    fn likely_enough(&self, candidates: &[Candidate]) -> usize {
        let scale = f64::from(self.inverse_temperature());
        let best = f64::from(candidates[0].logit) * scale;
        let least = best + f64::from(self.sampling.min_p).ln();
        candidates.partition_point(|candidate| f64::from(candidate.logit) * scale >= least).max(1)
    }

    fn weights(&self, candidates: &[Candidate], log_total: f64) -> Vec<f64> {
        let scale = f64::from(self.inverse_temperature());
        candidates.iter().map(|candidate| (f64::from(candidate.logit) * scale - log_total).exp()).collect()
    }
}

/// The index at which the running sum passes `uniform` of the nucleus: the smallest set, best first, that reaches `top_p`
/// of `total`. `None` when the weights given end before it.
fn pick(weights: &[f64], total: f64, top_p: f64, uniform: f64) -> Option<usize> {
    let mut nucleus = 0.0;
    let mut count = 0;
    for weight in weights {
        if count > 0 && nucleus >= top_p * total {
            break;
        }
        nucleus += weight;
        count += 1;
    }
    let settled = nucleus >= top_p * total;
    // Where the nucleus is not complete its mass is not known, except that all of it is `total` at top_p = 1.
    let mass = match (settled, top_p >= 1.0) {
        (true, _) => nucleus,
        (false, true) => total,
        (false, false) => return None,
    };
    let mut sum = 0.0;
    weights[..count].iter().position(|weight| {
        sum += weight;
        sum > uniform * mass
    })
}

/// A random number in [0, 1), with 53 bits.
fn unit(random: &mut SplitMix64) -> f64 {
    (random.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(logits: &[f32], keep: usize, inverse_temperature: f64) -> Prediction {
        let summary = crate::ops::sample::reference(logits, keep, inverse_temperature);
        Prediction {
            token: summary.candidates[0].token,
            logit: summary.candidates[0].logit,
            log_sum_exp: summary.log_sum_exp as f32,
            log_sum_exp_tempered: summary.log_sum_exp_tempered as f32,
            entropy_nats: summary.entropy_nats as f32,
            candidates: summary.candidates,
        }
    }

    /// Frequencies of many draws, falling back to all logits where the candidates do not settle it.
    fn frequencies(sampling: Sampling, logits: &[f32], keep: usize) -> (Vec<f64>, usize) {
        let mut sampler = Sampler::new(sampling).expect("valid");
        let prediction = prediction(logits, keep, f64::from(sampler.inverse_temperature()));
        let mut counts = vec![0.0; logits.len()];
        let (draws, mut unsettled) = (40_000, 0);
        for _ in 0..draws {
            let token = match sampler.draw(&prediction) {
                Draw::Token(token) => token,
                Draw::NeedsAll { uniform } => {
                    unsettled += 1;
                    sampler.draw_from_all(logits, uniform)
                }
            };
            counts[token as usize] += 1.0 / f64::from(draws);
        }
        (counts, unsettled)
    }

    /// The first outputs for this seed, as published with the algorithm: answers that were recorded with a seed depend on them.
    #[test]
    fn a_seed_gives_the_same_draws_in_every_version() {
        let mut random = SplitMix64::seed_from_u64(1_234_567);
        let first = [6457827717110365317_u64, 3203168211198807973, 9817491932198370423];
        for output in first {
            assert_eq!(unit(&mut random), (output >> 11) as f64 / (1_u64 << 53) as f64);
        }
    }

    const LOGITS: [f32; 6] = [0.0, 2.0, -1.0, 1.5, 0.5, -3.0];

    fn softmax(logits: &[f32], temperature: f64, kept: &[usize]) -> Vec<f64> {
        let total: f64 = kept.iter().map(|&i| (f64::from(logits[i]) / temperature).exp()).sum();
        (0..logits.len())
            .map(|i| if kept.contains(&i) { (f64::from(logits[i]) / temperature).exp() / total } else { 0.0 })
            .collect()
    }

    fn assert_close(got: &[f64], want: &[f64]) {
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            // Four standard deviations of 40 000 draws are at most 0.01.
            assert!((got - want).abs() < 0.011, "token {index}: drawn {got}, expected {want}");
        }
    }

    #[test]
    fn plain_temperature_follows_the_softmax_even_beyond_the_candidates() {
        let sampling = Sampling { temperature: 1.3, seed: 11, ..Sampling::default() };
        let (drawn, unsettled) = frequencies(sampling, &LOGITS, 2);
        assert_close(&drawn, &softmax(&LOGITS, f64::from(1.3f32), &[0, 1, 2, 3, 4, 5]));
        assert!(unsettled > 1000, "two candidates cannot settle every draw");
    }

    #[test]
    fn top_k_keeps_the_k_best_only() {
        let sampling = Sampling { temperature: 0.7, top_k: 3, seed: 5, ..Sampling::default() };
        let (drawn, unsettled) = frequencies(sampling, &LOGITS, 4);
        assert_close(&drawn, &softmax(&LOGITS, f64::from(0.7f32), &[1, 3, 4]));
        assert_eq!(unsettled, 0);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_p() {
        // Softmax: 0.50, 0.30, 0.11, 0.07 …: 0.75 needs the best two.
        let sampling = Sampling { temperature: 1.0, top_p: 0.75, seed: 3, ..Sampling::default() };
        let (settled_by_candidates, unsettled) = frequencies(sampling, &LOGITS, 6);
        assert_close(&settled_by_candidates, &softmax(&LOGITS, 1.0, &[1, 3]));
        assert_eq!(unsettled, 0);
        let (from_all, unsettled) = frequencies(sampling, &LOGITS, 1);
        assert_close(&from_all, &softmax(&LOGITS, 1.0, &[1, 3]));
        assert!(unsettled > 0);
    }

    #[test]
    fn min_p_keeps_what_is_likely_enough_beside_the_best() {
        // At temperature 2 the probabilities are e^((logit − 2) / 2) of the best one's: 1, 0.78, 0.47, 0.37, 0.22, 0.08.
        let sampling = Sampling { temperature: 2.0, min_p: 0.4, seed: 9, ..Sampling::default() };
        let (drawn, unsettled) = frequencies(sampling, &LOGITS, 4);
        assert_close(&drawn, &softmax(&LOGITS, 2.0, &[1, 3, 4]));
        assert_eq!(unsettled, 0, "the fourth candidate is too unlikely: all after it are");
        let (drawn, unsettled) = frequencies(sampling, &LOGITS, 2);
        assert_close(&drawn, &softmax(&LOGITS, 2.0, &[1, 3, 4]));
        assert!(unsettled > 0, "two candidates leave open which others pass");
    }

    #[test]
    fn zero_temperature_is_greedy_and_bad_parameters_are_named() {
        for temperature in [0.0, f32::from_bits(1), 1e-38, 1e-21] {
            let mut greedy = Sampler::new(Sampling { temperature, ..Sampling::default() }).expect("valid");
            assert_eq!(greedy.inverse_temperature(), 1.0);
            assert_eq!(greedy.draw(&prediction(&LOGITS, 6, 1.0)), Draw::Token(1), "{temperature}");
        }
        for seed in 0..20 {
            for top_k in [0, 3] {
                let sampling = Sampling { temperature: 1e-20, top_k, seed, ..Sampling::default() };
                let mut coldest = Sampler::new(sampling).expect("valid");
                let prediction = prediction(&LOGITS, 6, f64::from(coldest.inverse_temperature()));
                let token = match coldest.draw(&prediction) {
                    Draw::Token(token) => token,
                    Draw::NeedsAll { uniform } => coldest.draw_from_all(&LOGITS, uniform),
                };
                assert_eq!(token, 1, "top_k {top_k}");
            }
        }
        for (sampling, option) in [
            (Sampling { temperature: f32::NAN, ..Sampling::default() }, OptionId::Temperature),
            (Sampling { temperature: -0.1, ..Sampling::default() }, OptionId::Temperature),
            (Sampling { top_p: 0.0, ..Sampling::default() }, OptionId::TopP),
            (Sampling { top_p: 1.5, ..Sampling::default() }, OptionId::TopP),
            (Sampling { min_p: 1.5, ..Sampling::default() }, OptionId::MinP),
            (Sampling { min_p: f32::NAN, ..Sampling::default() }, OptionId::MinP),
        ] {
            let error = Sampler::new(sampling).err().expect("refused");
            assert_eq!(error.parameter(), Some(option));
            assert!(error.to_string().contains(&option.name()), "{error}");
        }
    }
}
