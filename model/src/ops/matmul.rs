//! Matrix times activations: `y[t, r] = Σ_k W[r, k] · x[t, k] + bias[r]`.

/// The specification. `weights` [rows, columns] decoded, `x` [tokens, columns], `bias` `[rows]` or empty → [tokens,
/// rows].
pub fn reference(weights: &[f32], x: &[f32], bias: &[f32], columns: usize) -> Vec<f32> {
    x.chunks_exact(columns)
        .flat_map(|token| {
            weights.chunks_exact(columns).enumerate().map(move |(row, w)| {
                let sum: f64 = w.iter().zip(token).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                (sum + bias.get(row).map_or(0.0, |&b| f64::from(b))) as f32
            })
        })
        .collect()
}
