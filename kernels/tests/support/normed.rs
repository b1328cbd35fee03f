//! Rows of the residual stream as those leave them that write them: times the weight of the norm that follows, with
//! sums of squares behind.

use gptoss_kernels::norm::{COMBINED_COLUMNS, Normed, combined_squares};

pub const EPSILON: f32 = 1e-5;

/// Sums of squares of runs of so many columns.
pub fn squares(x: &[f32], columns: usize, run: usize) -> Vec<f32> {
    let square = |value: &f32| f64::from(*value) * f64::from(*value);
    let runs = x.chunks_exact(columns).flat_map(|row| row.chunks(run));
    runs.map(|run| run.iter().map(square).sum::<f64>() as f32).collect()
}

/// Every row times `norm`.
pub fn weighted(x: &[f32], norm: &[f32]) -> Vec<f32> {
    x.iter().zip(norm.iter().cycle()).map(|(x, weight)| x * weight).collect()
}

/// The first half of the norm and the squares in one buffer, as the sum of experts leaves them, with zeros up to whole
/// vec4.
pub fn with_squares(x: &[f32], norm: &[f32]) -> Vec<f32> {
    let mut all = [weighted(x, norm), squares(x, norm.len(), COMBINED_COLUMNS as usize)].concat();
    all.resize(all.len().next_multiple_of(4), 0.0);
    all
}

/// Where the sums of [`with_squares`] are.
pub fn normed(tokens: usize, columns: usize) -> Normed {
    let squares_first = (tokens * columns) as u32;
    Normed { squares_first, squares: combined_squares(columns as u32), epsilon: EPSILON }
}
