//! From a row of logits: the most likely tokens, log-sum-exp, entropy.

use bytemuck::{Pod, Zeroable};

/// How many of the most likely tokens a prediction lists, best first.
pub const CANDIDATES: usize = 64;

/// A likely token. Mirrors `Candidate` in `sample.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Candidate {
    /// Token id.
    pub token: u32,
    /// Logit of the token.
    pub logit: f32,
}

/// The result of [`reference()`].
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The most likely tokens, best first.
    pub candidates: Vec<Candidate>,
    /// ln Σ exp(logit) over the vocabulary.
    pub log_sum_exp: f64,
    /// ln Σ exp(logit · inverse temperature) over the vocabulary.
    pub log_sum_exp_tempered: f64,
    /// Entropy of the softmax at temperature 1, in nats.
    pub entropy_nats: f64,
}

/// The specification: the `count` largest (ties: lower id first), ln Σ exp(l), ln Σ exp(l · inverse_temperature), and
/// the entropy of the softmax in nats.
pub fn reference(logits: &[f32], count: usize, inverse_temperature: f64) -> Summary {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    let maximum = f64::from(logits[order[0] as usize]);
    let log_sum_exp_of = |scale: f64| {
        maximum * scale + logits.iter().map(|&l| ((f64::from(l) - maximum) * scale).exp()).sum::<f64>().ln()
    };
    let log_sum_exp = log_sum_exp_of(1.0);
    Summary {
        candidates: order.iter().take(count).map(|&token| Candidate { token, logit: logits[token as usize] }).collect(),
        log_sum_exp,
        log_sum_exp_tempered: log_sum_exp_of(inverse_temperature),
        entropy_nats: logits.iter().map(|&l| f64::from(l) - log_sum_exp).map(|log_p| -log_p.exp() * log_p).sum(),
    }
}
