//! Matrix products over the pool: which rows, which tokens, which kernel.

use std::sync::Mutex;

use gptoss_gguf::{CodeOrder, WeightType};

use crate::activations::{Activations, BLOCK, Rows};
use crate::float;
use crate::int8::{self, CodedRow};
use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::SharedMut;

/// Rows of weights in a task when there are enough tokens for panels.
pub(crate) const TILE_ROWS: usize = 16;
/// Tokens from which interleaving sixteen rows pays.
const PANEL_TOKENS: usize = 4;
/// Weights in a task otherwise, in bytes: enough to stream, and little enough to share out evenly.
const TASK_BYTES: usize = 64 << 10;
/// How many tasks each thread gets at least, if there are enough rows.
const TASKS_PER_THREAD: usize = 3;

/// Whole rows of a matrix in the file's own format.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub format: WeightType,
    pub bytes: &'a [u8],
    pub rows: usize,
    pub columns: usize,
    /// Order of the codes in MXFP4 blocks. In another order than ggml's they are multiplied with activations in that
    /// order.
    pub codes: CodeOrder,
}

impl<'a> Matrix<'a> {
    pub fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows
    }

    fn slice(&self, first: usize, rows: usize) -> Matrix<'a> {
        let row_bytes = self.row_bytes();
        Matrix { bytes: &self.bytes[first * row_bytes..][..rows * row_bytes], rows, ..*self }
    }
}

/// Threads, and how they compute.
pub(crate) struct Compute {
    pub pool: Pool,
    pub isa: Isa,
    pub activations: Activations,
    /// One for each thread, which alone locks it.
    scratch: Vec<Mutex<Scratch>>,
}

/// Memory that a thread uses in its tasks.
#[derive(Default)]
pub(crate) struct Scratch {
    float: float::Panel,
    int8: int8::Panel,
    /// Results of a task, [tokens, rows]; the second set is for gate and up.
    pub results: [Vec<f32>; 2],
    /// Scores of attention.
    pub scores: Vec<f32>,
}

/// One matrix of a product: `y[t, y_first + r] = W[r] · x[t] + bias[r]`.
pub(crate) struct Part<'a> {
    pub matrix: Matrix<'a>,
    pub bias: Option<&'a [f32]>,
    pub y_first: usize,
}

impl Compute {
    pub fn new(pool: Pool, isa: Isa, activations: Activations) -> Self {
        let scratch = (0..pool.threads()).map(|_| Mutex::default()).collect();
        Self { pool, isa, activations, scratch }
    }

    /// Splits into the pool and what the tasks of a loop share.
    pub fn split(&mut self) -> (&mut Pool, Kernels<'_>) {
        let Self { pool, isa, activations, scratch } = self;
        (pool, Kernels { isa: *isa, activations: *activations, scratch })
    }

    /// Products of all rows of `x` with all parts, written to `y` [tokens, y_stride], or added to it.
    pub fn matmul(&mut self, x: &Rows, parts: &[Part<'_>], y: &mut [f32], y_stride: usize, add: bool) {
        let tokens: Vec<u32> = (0..x.count() as u32).collect();
        let total_rows: usize = parts.iter().map(|part| part.matrix.rows).sum();
        let threads = self.pool.threads();
        let mut tasks = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let rows = rows_per_task(&part.matrix, total_rows, tokens.len(), threads);
            tasks.extend((0..part.matrix.rows).step_by(rows).map(|first| (index, first, rows)));
        }
        let y = SharedMut::new(y);
        let (pool, kernels) = self.split();
        pool.for_each(tasks.len(), &|task, worker| {
            let (index, first, rows) = tasks[task];
            let part = &parts[index];
            let rows = rows.min(part.matrix.rows - first);
            let scratch = &mut *kernels.scratch(worker);
            kernels.product(scratch, 0, part.matrix.slice(first, rows), x, &tokens);
            for (t, results) in scratch.results[0].chunks_exact(rows).enumerate() {
                // SAFETY: rows of a part belong to one task, and parts do not overlap in `y`.
                #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
                let y = unsafe { y.slice(t * y_stride + part.y_first + first, rows) };
                if add {
                    y.iter_mut().zip(results).for_each(|(y, result)| *y += result);
                } else {
                    y.copy_from_slice(results);
                }
                if let Some(bias) = part.bias {
                    y.iter_mut().zip(&bias[first..first + rows]).for_each(|(y, bias)| *y += bias);
                }
            }
        });
    }
}

/// The read-only part of [`Compute`], shared by the tasks of a loop.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<'a> {
    pub isa: Isa,
    activations: Activations,
    scratch: &'a [Mutex<Scratch>],
}

impl Kernels<'_> {
    /// The scratch of a thread, for one task.
    pub fn scratch(&self, worker: usize) -> std::sync::MutexGuard<'_, Scratch> {
        // A task that panicked has ended the loop; what it left is overwritten.
        self.scratch[worker].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Computes `scratch.results[set]` [tokens, rows]: products of the rows of `matrix` and the rows of `x` that
    /// `tokens` lists.
    pub fn product(&self, scratch: &mut Scratch, set: usize, matrix: Matrix<'_>, x: &Rows, tokens: &[u32]) {
        let rows = matrix.rows;
        scratch.results[set].resize(tokens.len() * rows, 0.0);
        let by_panel = tokens.len() >= PANEL_TOKENS && rows <= TILE_ROWS;
        let coded = self.activations == Activations::Int8 && int8::takes(matrix.format);
        let panels_pay = int8::Panel::pays_on(self.isa);
        if coded && (panels_pay || !by_panel || int8::in_registers(matrix.format)) {
            if by_panel && panels_pay {
                scratch.int8.pack(self.isa, matrix.format, matrix.bytes, matrix.columns / BLOCK);
                let Scratch { int8, results, .. } = scratch;
                in_groups(tokens, rows, &mut results[set], |group, out| {
                    let mut x_rows = [CodedRow::of(x, 0); float::TOKENS];
                    for (x_row, &token) in x_rows.iter_mut().zip(group) {
                        *x_row = CodedRow::of(x, token as usize);
                    }
                    int8.times(self.isa, &x_rows[..group.len()], out);
                });
                return;
            }
            for (&token, results) in tokens.iter().zip(scratch.results[set].chunks_exact_mut(rows)) {
                int8::dot_rows(self.isa, matrix.format, matrix.bytes, CodedRow::of(x, token as usize), results);
            }
        } else if by_panel {
            scratch.float.pack(matrix.format, matrix.bytes, rows, matrix.columns);
            let Scratch { float, results, .. } = scratch;
            in_groups(tokens, rows, &mut results[set], |group, out| {
                let mut x_rows = [x.row(0); float::TOKENS];
                for (x_row, &token) in x_rows.iter_mut().zip(group) {
                    *x_row = x.row(token as usize);
                }
                float.times(self.isa, &x_rows[..group.len()], out);
            });
        } else {
            for (&token, results) in tokens.iter().zip(scratch.results[set].chunks_exact_mut(rows)) {
                for (result, row) in results.iter_mut().zip(matrix.bytes.chunks_exact(matrix.row_bytes())) {
                    *result = float::dot_row(self.isa, matrix.format, row, x.row(token as usize));
                }
            }
        }
    }

    /// Like [`Kernels::product`], for at most `rows` rows of a matrix from `first` on.
    pub fn product_of(
        &self,
        scratch: &mut Scratch,
        set: usize,
        matrix: &Matrix<'_>,
        rows: std::ops::Range<usize>,
        x: &Rows,
        tokens: &[u32],
    ) {
        self.product(scratch, set, matrix.slice(rows.start, rows.len()), x, tokens);
    }
}

/// Calls `times` for groups of as many tokens as a panel takes, and keeps the first `rows` of its results.
fn in_groups(tokens: &[u32], rows: usize, results: &mut [f32], mut times: impl FnMut(&[u32], &mut [[f32; TILE_ROWS]])) {
    let mut out = [[0.0; TILE_ROWS]; float::TOKENS];
    for (group, results) in tokens.chunks(float::TOKENS).zip(results.chunks_mut(float::TOKENS * rows)) {
        let out = &mut out[..group.len()];
        times(group, out);
        for (results, out) in results.chunks_exact_mut(rows).zip(out) {
            results.copy_from_slice(&out[..rows]);
        }
    }
}

/// How many rows of `matrix` one task takes, if the loop has `total_rows` in all.
pub(crate) fn rows_per_task(matrix: &Matrix<'_>, total_rows: usize, tokens: usize, threads: usize) -> usize {
    if tokens >= PANEL_TOKENS {
        return TILE_ROWS;
    }
    let share = total_rows.div_ceil(threads * TASKS_PER_THREAD);
    // The number is a multiple of four, because the kernels take four rows at once.
    (TASK_BYTES / matrix.row_bytes()).next_multiple_of(4).max(4).min(share.next_multiple_of(TILE_ROWS))
}
