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

/// What one head looks at: softmax weights of the keys that it sees, from the first on, and that of its sink. They sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Position of the first key.
    pub first: usize,
    /// Weight of each key.
    pub weights: Vec<f32>,
    /// Weight of the sink.
    pub sink: f32,
}

/// The specification of the weights of query head `head` for one token at `position`; inputs as those of [`reference()`].
pub fn row_reference(
    query: &[f32],
    keys: &[f32],
    sinks: &[f32],
    position: usize,
    (head, shape): (usize, Shape),
) -> Row {
    let kv_head = head * shape.kv_heads / shape.query_heads;
    let query = &query[head * HEAD_DIM..][..HEAD_DIM];
    let first = (position + 1).saturating_sub(if shape.window == 0 { position + 1 } else { shape.window });
    let powers: Vec<f64> = (first..=position)
        .map(|at| {
            let key = &keys[(at * shape.kv_heads + kv_head) * HEAD_DIM..][..HEAD_DIM];
            let product: f64 = query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
            product / (HEAD_DIM as f64).sqrt()
        })
        .collect();
    let sink = f64::from(sinks[head]);
    let largest = powers.iter().copied().fold(sink, f64::max);
    let share = |power: f64| (power - largest).exp();
    let total = share(sink) + powers.iter().map(|&power| share(power)).sum::<f64>();
    let weights = powers.iter().map(|&power| (share(power) / total) as f32).collect();
    Row { first, weights, sink: (share(sink) / total) as f32 }
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
