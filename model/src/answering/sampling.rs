//! Choosing the next token. The choice is exact: when the 64 candidates that the GPU hands out do not settle it, the
//! whole row of logits is read.

use crate::ops::sample::Candidate;
use gptoss_protocol::{LogitChanges, OptionId, Sampling};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::logits::{Changes, Known, best_first};
use super::restriction::{AllowedTokens, Restriction};
use crate::error::EngineError;
use crate::prediction::Prediction;

/// At lower temperatures the most likely token is certain to F64, and logits over the temperature would be infinite:
/// nothing is drawn.
const LEAST_TEMPERATURE: f32 = 1e-20;

/// Of all logits so many of the best are put in order at first. What is drawn is nearly always one of them.
const ORDERED_AT_FIRST: usize = 256;

/// Draws tokens as [`Sampling`] says; the same seed gives the same draws.
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    changes: Changes,
    restriction: Option<Box<dyn Restriction>>,
    /// What may come in the draw that is under way.
    allowed: Option<AllowedTokens>,
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
        let random = SplitMix64::seed_from_u64(sampling.seed);
        Ok(Self { sampling, random, changes: Changes::default(), restriction: None, allowed: None })
    }

    /// The same with changed logits.
    #[must_use]
    pub fn with_changes(self, changes: LogitChanges) -> Self {
        Self { changes: Changes::new(changes), ..self }
    }

    /// The same, held to what `restriction` allows.
    #[must_use]
    pub fn with_restriction(self, restriction: Option<Box<dyn Restriction>>) -> Self {
        Self { restriction, ..self }
    }

    /// This token was drawn. `is_text`: it is part of a text, not of a message's header.
    pub fn accept(&mut self, token: u32, is_text: bool) {
        if let Some(restriction) = &mut self.restriction {
            restriction.accept(token);
        }
        if is_text {
            self.changes.count(token);
        }
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
    ///
    /// # Errors
    /// What is allowed cannot be told.
    pub fn draw(&mut self, prediction: &Prediction) -> Result<Draw, EngineError> {
        self.allowed = self.restriction.as_mut().map(|restriction| restriction.allowed()).transpose()?;
        if !self.changes.is_none() || (self.allowed.is_some() && !self.is_greedy()) {
            return Ok(self.draw_changed(prediction));
        }
        if self.is_greedy() {
            return Ok(self.best_allowed(prediction).map_or(Draw::NeedsAll { uniform: 0.0 }, Draw::Token));
        }
        let uniform = unit(&mut self.random);
        Ok(self.draw_plain(prediction, uniform))
    }

    /// The most likely token that may come, if it is among the candidates. Nothing needs to be weighed for it.
    fn best_allowed(&self, prediction: &Prediction) -> Option<u32> {
        let Some(allowed) = &self.allowed else { return Some(prediction.token) };
        prediction.candidates.iter().map(|candidate| candidate.token).find(|token| allowed.allows(*token))
    }

    fn draw_plain(&self, prediction: &Prediction, uniform: f64) -> Draw {
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

    /// Draws where some tokens may not come, or logits are changed. What all tokens that may come weigh together is then known
    /// within bounds only; where both bounds lead to the same token, that is the one.
    fn draw_changed(&mut self, prediction: &Prediction) -> Draw {
        let uniform = if self.is_greedy() { 0.0 } else { unit(&mut self.random) };
        let scale = f64::from(self.inverse_temperature());
        match self.changes.known(self.allowed.as_ref(), prediction, scale) {
            Some(known) => self.settle(&known, uniform).map_or(Draw::NeedsAll { uniform }, Draw::Token),
            None => Draw::NeedsAll { uniform },
        }
    }

    /// The token that comes next, if the best ones settle it.
    fn settle(&self, known: &Known, uniform: f64) -> Option<u32> {
        let Known { candidates, log_total, rest } = known;
        if self.is_greedy() {
            return candidates.first().map(|best| best.token);
        }
        let top_k = self.sampling.top_k as usize;
        let most = if top_k > 0 { top_k.min(candidates.len()) } else { candidates.len() };
        let kept = self.likely_enough(&candidates[..most]);
        let top_p = f64::from(self.sampling.top_p);
        let is_complete = rest.1 == 0.0 || (top_k > 0 && most == top_k) || kept < most;
        if is_complete {
            let best = f64::from(candidates[0].logit) * f64::from(self.inverse_temperature());
            let weights = self.weights(&candidates[..kept], best);
            let total = weights.iter().sum();
            return Some(candidates[pick(&weights, total, top_p, uniform).unwrap_or(kept - 1)].token);
        }
        if top_k > 0 || self.sampling.min_p > 0.0 {
            return None;
        }
        let weights = self.weights(candidates, *log_total);
        let known: f64 = weights.iter().sum();
        let least = pick(&weights, known + rest.0, top_p, uniform)?;
        let most = pick(&weights, known + rest.1, top_p, uniform)?;
        (least == most).then(|| candidates[least].token)
    }

    /// Draws from all logits with the number of an unsettled draw.
    ///
    /// # Errors
    /// No token may come.
    pub fn draw_from_all(&self, logits: &[f32], uniform: f64) -> Result<u32, EngineError> {
        let all = logits.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit });
        let mut all: Vec<Candidate> =
            all.filter_map(|candidate| self.changes.changed(self.allowed.as_ref(), candidate)).collect();
        if all.is_empty() {
            return Err(EngineError::Shape { reason: "no token of the vocabulary may come next".into() });
        }
        if all.len() > ORDERED_AT_FIRST {
            all.select_nth_unstable_by(ORDERED_AT_FIRST - 1, best_first);
            let (first, others) = all.split_at_mut(ORDERED_AT_FIRST);
            first.sort_unstable_by(best_first);
            let log_total = f64::from(first[0].logit) * f64::from(self.inverse_temperature());
            let rest: f64 = self.weights(others, log_total).iter().sum();
            let known = Known { candidates: first.to_vec(), log_total, rest: (rest, rest) };
            if let Some(token) = self.settle(&known, uniform) {
                return Ok(token);
            }
        }
        all.sort_unstable_by(best_first);
        if self.sampling.top_k > 0 {
            all.truncate(self.sampling.top_k as usize);
        }
        all.truncate(self.likely_enough(&all));
        let weights = self.weights(&all, f64::from(all[0].logit) * f64::from(self.inverse_temperature()));
        let total = weights.iter().sum();
        let index = pick(&weights, total, f64::from(self.sampling.top_p), uniform).unwrap_or(all.len() - 1);
        Ok(all[index].token)
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
            let token = match sampler.draw(&prediction).expect("nothing restricts it") {
                Draw::Token(token) => token,
                Draw::NeedsAll { uniform } => {
                    unsettled += 1;
                    sampler.draw_from_all(logits, uniform).expect("finite")
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
            assert_eq!(greedy.draw(&prediction(&LOGITS, 6, 1.0)).expect("free"), Draw::Token(1), "{temperature}");
        }
        for seed in 0..20 {
            for top_k in [0, 3] {
                let sampling = Sampling { temperature: 1e-20, top_k, seed, ..Sampling::default() };
                let mut coldest = Sampler::new(sampling).expect("valid");
                let prediction = prediction(&LOGITS, 6, f64::from(coldest.inverse_temperature()));
                let token = match coldest.draw(&prediction).expect("free") {
                    Draw::Token(token) => token,
                    Draw::NeedsAll { uniform } => coldest.draw_from_all(&LOGITS, uniform).expect("finite"),
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

    /// Allows some tokens, whatever came before.
    struct Only(Vec<u32>);

    impl Restriction for Only {
        fn accept(&mut self, _token: u32) {}

        fn allowed(&mut self) -> Result<AllowedTokens, EngineError> {
            let bits = self.0.iter().fold(0, |bits, token| bits | 1 << token);
            Ok(AllowedTokens::from_words(vec![bits]))
        }
    }

    const ALLOWED: [usize; 4] = [0, 2, 4, 5];

    fn frequencies_of(mut sampler: Sampler, logits: &[f32], keep: usize) -> (Vec<f64>, usize) {
        let prediction = prediction(logits, keep, f64::from(sampler.inverse_temperature()));
        let mut counts = vec![0.0; logits.len()];
        let (draws, mut unsettled) = (40_000, 0);
        for _ in 0..draws {
            let token = match sampler.draw(&prediction).expect("something is allowed") {
                Draw::Token(token) => token,
                Draw::NeedsAll { uniform } => {
                    unsettled += 1;
                    sampler.draw_from_all(logits, uniform).expect("something is allowed")
                }
            };
            counts[token as usize] += 1.0 / f64::from(draws);
        }
        (counts, unsettled)
    }

    #[test]
    fn what_is_not_allowed_is_not_drawn_and_the_others_keep_their_shares() {
        let only = |sampling| {
            let restriction = Only(ALLOWED.map(|token| token as u32).to_vec());
            Sampler::new(sampling).expect("valid").with_restriction(Some(Box::new(restriction)))
        };
        let plain = Sampling { temperature: 1.3, seed: 11, ..Sampling::default() };
        let want = softmax(&LOGITS, f64::from(1.3_f32), &ALLOWED);
        for keep in [6, 4, 1] {
            let (drawn, unsettled) = frequencies_of(only(plain), &LOGITS, keep);
            assert_close(&drawn, &want);
            assert!(keep < 6 || unsettled < 100, "{unsettled} of 40000 draws were near a border");
            assert!(keep > 1 || unsettled == 40_000, "the one candidate is not allowed");
        }
        // Top-k, min-p and top-p count what is allowed: tokens 4, 0 and 2, whose logits are 0.5, 0 and -1.
        let top_k = Sampling { temperature: 1.0, top_k: 2, seed: 5, ..Sampling::default() };
        assert_close(&frequencies_of(only(top_k), &LOGITS, 6).0, &softmax(&LOGITS, 1.0, &[0, 4]));
        let min_p = Sampling { temperature: 1.0, min_p: 0.5, seed: 7, ..Sampling::default() };
        assert_close(&frequencies_of(only(min_p), &LOGITS, 3).0, &softmax(&LOGITS, 1.0, &[0, 4]));
        let top_p = Sampling { temperature: 1.0, top_p: 0.6, seed: 7, ..Sampling::default() };
        assert_close(&frequencies_of(only(top_p), &LOGITS, 6).0, &softmax(&LOGITS, 1.0, &[0, 4]));
        // Greedy: the best of what is allowed.
        let (greedy, _) = frequencies_of(only(Sampling::default()), &LOGITS, 2);
        assert_eq!(greedy.iter().position(|share| *share > 0.5), Some(4));
        let mut nothing = Sampler::new(plain).expect("valid").with_restriction(Some(Box::new(Only(Vec::new()))));
        let Draw::NeedsAll { uniform } = nothing.draw(&prediction(&LOGITS, 6, 1.0)).expect("known") else { panic!() };
        assert!(matches!(nothing.draw_from_all(&LOGITS, uniform), Err(EngineError::Shape { .. })));
    }

    #[test]
    fn biases_and_penalties_change_the_shares_as_they_say() {
        let sampling = Sampling { temperature: 1.0, seed: 3, ..Sampling::default() };
        let changes = LogitChanges { bias: vec![(1, -1.0), (5, 4.0)], presence_penalty: 0.5, frequency_penalty: 0.25 };
        for keep in [6, 3, 1] {
            let mut sampler = Sampler::new(sampling).expect("valid").with_changes(changes.clone());
            // Two of token 3 and one of token 4 are texts, and one of token 0 is no text.
            for (token, is_text) in [(3, true), (4, true), (3, true), (0, false)] {
                sampler.accept(token, is_text);
            }
            let changed = [0.0, 2.0 - 1.0, -1.0, 1.5 - 0.5 - 2.0 * 0.25, 0.5 - 0.5 - 0.25, -3.0 + 4.0];
            let (drawn, _) = frequencies_of(sampler, &LOGITS, keep);
            assert_close(&drawn, &softmax(&changed, 1.0, &[0, 1, 2, 3, 4, 5]));
        }
        // A token that was lowered below what the candidates leave open does not win by being the only one known.
        let lowered = LogitChanges { bias: vec![(1, -9.0)], ..LogitChanges::default() };
        let mut greedy = Sampler::new(Sampling::default()).expect("valid").with_changes(lowered);
        let Draw::NeedsAll { uniform } = greedy.draw(&prediction(&LOGITS, 1, 1.0)).expect("free") else { panic!() };
        assert_eq!(greedy.draw_from_all(&LOGITS, uniform).expect("finite"), 3);
    }

    /// Of many logits only the best are put in order; that gives what ordering all of them does.
    #[test]
    fn draws_from_many_logits_do_not_depend_on_how_many_are_put_in_order() {
        let logits: Vec<f32> = (0..5000).map(|i| ((i * 7919 % 4999) as f32) * 0.0007).collect();
        for (temperature, top_k, top_p, min_p) in
            [(1.0, 0, 1.0, 0.0), (1.0, 900, 1.0, 0.0), (0.7, 0, 0.9, 0.0), (1.0, 0, 1.0, 0.3)]
        {
            let sampling = Sampling { temperature, top_k, top_p, min_p, seed: 1 };
            let sampler = Sampler::new(sampling).expect("valid");
            for step in 0..40 {
                let uniform = f64::from(step) / 40.0;
                let mut all: Vec<Candidate> =
                    logits.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
                all.sort_by(best_first);
                all.truncate(if top_k > 0 { top_k as usize } else { all.len() });
                all.truncate(sampler.likely_enough(&all));
                let weights = sampler.weights(&all, f64::from(all[0].logit));
                let index = pick(&weights, weights.iter().sum(), f64::from(top_p), uniform).unwrap_or(all.len() - 1);
                assert_eq!(
                    sampler.draw_from_all(&logits, uniform).expect("finite"),
                    all[index].token,
                    "{sampling:?} {uniform}"
                );
            }
        }
    }
}
