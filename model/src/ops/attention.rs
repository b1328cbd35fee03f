//! Causal attention with sinks and an optional sliding window, over the KV cache.

use super::rope::HEAD_DIM;

/// Shape of a scalar attention: keys and values of positions `0..keys.len() / (kv_heads · 64)`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of query heads, a multiple of `kv_heads`.
    pub query_heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Keys that a query sees, itself included; 0 is full attention.
    pub window: usize,
}

/// The specification: one token at `position`. `query` [query_heads, 64], `keys`, `values` [positions, kv_heads, 64],
/// `sinks` `[query_heads]` → [query_heads, 64]; a head whose sink or one of whose scores is not finite gives NaN.
pub fn reference(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    sinks: &[f32],
    position: usize,
    shape: Shape,
) -> Vec<f32> {
    let row = shape.kv_heads * HEAD_DIM;
    let first = if shape.window == 0 { 0 } else { (position + 1).saturating_sub(shape.window) };
    let mut out = Vec::with_capacity(query.len());
    for (head, q) in query.chunks_exact(HEAD_DIM).enumerate() {
        let kv = head / (shape.query_heads / shape.kv_heads) * HEAD_DIM;
        let scores: Vec<f64> = (first..=position)
            .map(|j| {
                let key = &keys[j * row + kv..][..HEAD_DIM];
                q.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>() / (HEAD_DIM as f64).sqrt()
            })
            .collect();
        let sink = f64::from(sinks[head]);
        if !sink.is_finite() || scores.iter().any(|score| !score.is_finite()) {
            out.extend([f32::NAN; HEAD_DIM]);
            continue;
        }
        let maximum = scores.iter().copied().fold(sink, f64::max);
        let total = (sink - maximum).exp() + scores.iter().map(|s| (s - maximum).exp()).sum::<f64>();
        out.extend((0..HEAD_DIM).map(|d| {
            let sum: f64 = scores
                .iter()
                .zip(first..)
                .map(|(s, j)| (s - maximum).exp() * f64::from(values[j * row + kv + d]))
                .sum();
            (sum / total) as f32
        }));
    }
    out
}
