//! The router: logits over experts, the top k, their softmax.

use bytemuck::{Pod, Zeroable};

/// One choice of a token. Mirrors `Route` in the router and expert kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Route {
    /// Index of the expert in its layer.
    pub expert: u32,
    /// Share of the expert's result: softmax over the token's choices.
    pub weight: f32,
}

/// The specification, for one token: `x` `[columns]` → the `k` best experts, best first (ties: lower index), with
/// softmax over the k. An expert with a bias of −∞ or the least float is never chosen; if fewer than `k` others are
/// left, or a logit is not finite for another reason, all weights are NaN.
pub fn reference(x: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<Route> {
    let logits: Vec<f64> = weight
        .chunks_exact(x.len())
        .zip(bias)
        .map(|(w, &b)| f64::from(b) + w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>())
        .collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(k);
    let is_sound = |e: usize| logits[e].is_finite() || (logits[e] == f64::NEG_INFINITY && bias[e] == f32::NEG_INFINITY);
    if !(0..logits.len()).all(is_sound) || order.iter().any(|&e| logits[e] <= f64::from(f32::MIN)) {
        return order.iter().map(|&e| Route { expert: e as u32, weight: f32::NAN }).collect();
    }
    let total: f64 = order.iter().map(|&e| (logits[e] - logits[order[0]]).exp()).sum();
    order
        .iter()
        .map(|&e| Route { expert: e as u32, weight: ((logits[e] - logits[order[0]]).exp() / total) as f32 })
        .collect()
}
