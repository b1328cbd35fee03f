//! What changes a draw beside the sampling parameters: tokens that may not come, biases, penalties.

use std::collections::HashMap;

use gptoss_protocol::LogitChanges;

use super::restriction::AllowedTokens;
use crate::ops::sample::Candidate;
use crate::prediction::Prediction;

/// Biases and penalties, as far as an answer has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    asked: LogitChanges,
    bias: HashMap<u32, f32>,
    /// How often each token is in the texts of this answer.
    counts: HashMap<u32, u32>,
}

/// What is known of a changed draw.
pub(super) struct Known {
    /// The best tokens with their changed logits, best first: nothing else ranks among them.
    pub candidates: Vec<Candidate>,
    /// ln of what the weights below are measured in.
    pub log_total: f64,
    /// What all other tokens together weigh: at least, and at most.
    pub rest: (f64, f64),
}

impl Changes {
    pub fn new(asked: LogitChanges) -> Self {
        Self { bias: asked.bias.iter().copied().collect(), asked, counts: HashMap::new() }
    }

    pub fn is_none(&self) -> bool {
        self.asked.is_none()
    }

    /// A token of a text came.
    pub fn count(&mut self, token: u32) {
        if self.asked.presence_penalty != 0.0 || self.asked.frequency_penalty != 0.0 {
            *self.counts.entry(token).or_insert(0) += 1;
        }
    }

    /// What is added to the logit of `token`.
    fn offset(&self, token: u32) -> f32 {
        let bias = self.bias.get(&token).copied().unwrap_or(0.0);
        let LogitChanges { presence_penalty, frequency_penalty, .. } = self.asked;
        match self.counts.get(&token) {
            Some(&count) => bias - presence_penalty - frequency_penalty * count as f32,
            None => bias,
        }
    }

    /// `logit` of `token` with what is added to it; `None` if the token may not come.
    pub fn changed(&self, allowed: Option<&AllowedTokens>, Candidate { token, logit }: Candidate) -> Option<Candidate> {
        let may_come = allowed.is_none_or(|allowed| allowed.allows(token));
        may_come.then(|| Candidate { token, logit: logit + self.offset(token) })
    }

    /// What the candidates tell. `None`: nothing, since a token that is not among them may now be the best.
    pub fn known(&self, allowed: Option<&AllowedTokens>, prediction: &Prediction, scale: f64) -> Option<Known> {
        let candidates = &prediction.candidates;
        let is_candidate = |token: u32| candidates.iter().any(|candidate| candidate.token == token);
        let is_raised = |token: &u32| self.offset(*token) > 0.0 && !is_candidate(*token);
        if self.bias.keys().chain(self.counts.keys()).any(is_raised) {
            return None;
        }
        let least = candidates.last()?.logit;
        let log_total = f64::from(prediction.log_sum_exp_tempered);
        let weight = |logit: f32| (f64::from(logit) * scale - log_total).exp();
        let all: f64 = candidates.iter().map(|candidate| weight(candidate.logit)).sum();
        // The sum over all tokens is an F32: so much may be wrong with every weight.
        let doubt = (log_total.abs() + 1.0) * 4.0 * f64::from(f32::EPSILON);
        let mut rest = (1.0 - all).max(0.0) + doubt;
        let mut known = Vec::with_capacity(candidates.len());
        for &candidate in candidates {
            let Some(changed) = self.changed(allowed, candidate) else { continue };
            // One that was lowered to what the others may have does not rank before them for certain.
            if changed.logit > least || changed.logit == candidate.logit {
                known.push(changed);
            } else {
                rest += weight(changed.logit);
            }
        }
        known.sort_by(best_first);
        let is_sound = !known.is_empty() && rest.is_finite() && doubt < 0.1;
        is_sound.then_some(Known { candidates: known, log_total, rest: (0.0, rest) })
    }
}

/// Orders candidates as predictions have them: the most likely first, of equals the lower token.
pub(super) fn best_first(one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
    other.logit.total_cmp(&one.logit).then(one.token.cmp(&other.token))
}
