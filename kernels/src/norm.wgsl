// RMSNorm, split in two. Whoever writes a row of the residual stream x writes x[i] · weight[i], too, in the buffer of normalised
// activations, and behind the rows of all tokens the sums of x² over runs of its columns. Whoever reads the row multiplies
// its products by 1 / sqrt(Σ x² / columns + epsilon).

fn inverse_root(squares: f32, columns: u32, epsilon: f32) -> f32 {
    // A mean that is not finite is passed on: its inverse would make zeros of a row that holds an infinity.
    let mean = squares / f32(columns) + epsilon;
    return select(mean, inverseSqrt(mean), is_finite(mean));
}
