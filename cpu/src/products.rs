//! What it is worth that weights are multiplied in the file's own format: times of one product of a matrix and a vector,
//! from blocks as they are, and by way of weights that are decoded to memory first.

use std::time::{Duration, Instant};

use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_model::EngineError;

use crate::activations::{Activations, Rows};
use crate::matmul::{Compute, Matrix, Part};
use crate::model::{CpuOptions, compute};
use crate::shared::SharedMut;

/// Rows that a task decodes.
const DECODED_ROWS: usize = 16;

/// Whole rows of a matrix, as they are in a file.
#[derive(Clone, Copy, Debug)]
pub struct ProductMatrix<'a> {
    /// Type of the weights; MXFP4 has its codes in ggml's order.
    pub format: WeightType,
    /// All rows, one after the other.
    pub bytes: &'a [u8],
    /// Weights in a row, whole blocks.
    pub columns: usize,
}

/// Times of one product each way: the median of some rounds, in which the ways take turns.
#[derive(Clone, Copy, Debug)]
pub struct ProductTimes {
    /// Blocks multiplied with activations of 8 bits.
    pub fused_int8: Duration,
    /// Blocks decoded in registers and multiplied with F32 activations.
    pub fused_f32: Duration,
    /// All blocks decoded to F32 in memory …
    pub decode: Duration,
    /// … and these multiplied with F32 activations.
    pub multiply: Duration,
    /// How far the results of the second way are from those of the last: the largest difference over the largest result.
    pub difference: f32,
}

/// Multiplies a matrix with a vector in all ways, `rounds` times after a first that does not count. Threads and
/// instruction set are those of `options`.
///
/// # Errors
/// Threads that cannot be started.
///
/// # Panics
/// If the bytes are no whole rows.
pub fn time_products(
    matrix: ProductMatrix<'_>,
    options: &CpuOptions,
    rounds: u32,
) -> Result<ProductTimes, EngineError> {
    let ProductMatrix { format, bytes, columns } = matrix;
    let row_bytes = columns / format.block_weights() as usize * format.block_bytes() as usize;
    assert!(row_bytes > 0 && bytes.len().is_multiple_of(row_bytes), "{} bytes of rows of {row_bytes}", bytes.len());
    let rows = bytes.len() / row_bytes;
    let fused = Matrix { format, bytes, rows, columns, codes: CodeOrder::default() };
    let mut compute = compute(options)?;
    let mut decoded = vec![0; 4 * rows * columns];
    let x = activations(columns, &compute);
    let (mut y, mut y_decoded) = (vec![0.0; rows], vec![0.0; rows]);
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..=rounds {
        let decode = timed(|| decode(&mut compute, fused, &mut decoded));
        let wide = Matrix { format: WeightType::F32, bytes: &decoded, ..fused };
        let multiply = timed(|| product(&mut compute, Activations::F32, wide, &x, &mut y_decoded));
        let fused_int8 = timed(|| product(&mut compute, Activations::Int8, fused, &x, &mut y));
        let fused_f32 = timed(|| product(&mut compute, Activations::F32, fused, &x, &mut y));
        times.iter_mut().zip([fused_int8, fused_f32, decode, multiply]).for_each(|(times, time)| times.push(time));
    }
    let largest = y_decoded.iter().fold(0.0f32, |largest, y| largest.max(y.abs()));
    let apart = y.iter().zip(&y_decoded).fold(0.0f32, |apart, (a, b)| apart.max((a - b).abs()));
    let [fused_int8, fused_f32, decode, multiply] = times.map(|times| median(&times[1..]));
    Ok(ProductTimes { fused_int8, fused_f32, decode, multiply, difference: apart / largest.max(f32::MIN_POSITIVE) })
}

/// A vector of numbers between −1 and 1 that are always the same, in all forms that kernels take.
fn activations(columns: usize, compute: &Compute) -> Rows {
    let mut x = Rows::default();
    x.resize(1, columns);
    for (index, value) in (1u32..).zip(&mut x.values) {
        *value = index.wrapping_mul(0x9e37_79b9) as i32 as f32 / i32::MAX as f32;
    }
    x.quantise(compute.isa, Activations::Int8);
    x
}

fn product(compute: &mut Compute, activations: Activations, matrix: Matrix<'_>, x: &Rows, y: &mut [f32]) {
    compute.activations = activations;
    let stride = y.len();
    compute.matmul(x, &[Part { matrix, bias: None, y_first: 0 }], y, stride, false);
}

/// Decodes all rows to little-endian F32.
fn decode(compute: &mut Compute, matrix: Matrix<'_>, out: &mut [u8]) {
    let (tasks, row_bytes, out_bytes) = (matrix.rows.div_ceil(DECODED_ROWS), matrix.row_bytes(), 4 * matrix.columns);
    let out = SharedMut::new(out);
    compute.pool.for_each(tasks, &|task, _| {
        let first = task * DECODED_ROWS;
        let rows = DECODED_ROWS.min(matrix.rows - first);
        let weights = matrix.format.decode(&matrix.bytes[first * row_bytes..][..rows * row_bytes]);
        // SAFETY: each task has rows of its own.
        #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
        let out = unsafe { out.slice(first * out_bytes, rows * out_bytes) };
        for (out, weight) in out.as_chunks_mut::<4>().0.iter_mut().zip(weights) {
            *out = weight.to_le_bytes();
        }
    });
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
