//! RMSNorm: `y = x · weight / sqrt(mean(x²) + epsilon)`, over the columns of each token.

/// The specification. `x` [tokens, weight.len()]; a row that holds a NaN or an infinity has no finite result.
pub fn reference(x: &[f32], weight: &[f32], epsilon: f64) -> Vec<f32> {
    x.chunks_exact(weight.len())
        .flat_map(|row| {
            let mean_square = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / row.len() as f64;
            let mean = mean_square + epsilon;
            let scale = if mean.is_finite() { 1.0 / mean.sqrt() } else { f64::NAN };
            row.iter().zip(weight).map(move |(&v, &w)| (f64::from(v) * scale * f64::from(w)) as f32)
        })
        .collect()
}
