//! Checks of repacking, and of matrix products with their norms.

use std::rc::Rc;

use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_model::ops;

use super::{SelfCheck, Want};
use crate::gpu::GpuBuffer;
use crate::matmul::{self, Target};
use crate::matmul_residual;
use crate::norm::{COMBINED_COLUMNS, Normed, combined_squares};
use crate::repack::{self, Destination, RepackKernels};
use crate::step::Step;
use crate::weights::{BINDING_ALIGNMENT, Matrix, PlaneLayout, Shard};

/// Number of rows: more than a workgroup computes with one lane per row.
const ROWS: usize = 67;
/// Number of columns: nine blocks of 32, so that eight lanes have one each, and one lane has another.
const COLUMNS: u64 = 288;
/// ε of norms, so large that it matters.
pub(super) const EPSILON: f32 = 0.125;

/// The smallest number of whole blocks of a format with at least `columns` weights, in weights.
pub(super) fn whole_blocks(format: WeightType, columns: u64) -> usize {
    columns.next_multiple_of(format.block_weights()) as usize
}

impl SelfCheck<'_> {
    /// Checks repacking bit for bit, in every format. Rows are spread out like an expert's gate and up rows, and do not
    /// begin at the start of the buffer.
    pub fn repack(&mut self, repack: &RepackKernels) {
        let orders = |format| {
            let other = (format == WeightType::Mxfp4).then_some(CodeOrder::Neighbours);
            [CodeOrder::Halves].into_iter().chain(other).map(move |order| (format, order))
        };
        for (format, order) in repack.formats().flat_map(orders) {
            let (rows, columns) = (5, whole_blocks(format, COLUMNS - 32));
            let mut bytes = self.random.weights(format, rows, columns);
            let layout = PlaneLayout::new(format, 2 * rows as u64, columns as u64);
            let buffer = self.keep(self.gpu.storage("self-check", BINDING_ALIGNMENT + layout.total_bytes()));
            let place = Destination {
                planes_offset_bytes: BINDING_ALIGNMENT,
                first_row: 1,
                row_step: 2,
                codes: order,
                ..whole(&buffer, layout)
            };
            self.upload(repack, &bytes, &place);
            order.to_halves(&mut bytes);
            // Even rows are never written.
            let row_bytes = layout.file_row_bytes() as usize;
            let spread: Vec<u8> =
                bytes.chunks_exact(row_bytes).flat_map(|row| [&vec![0; row_bytes][..], row].concat()).collect();
            let (codes, scales) = repack::reference(&spread, &layout);
            let name = format!("repack {}", format.name());
            let codes = Want::Exact(bytemuck::pod_collect_to_vec(&codes));
            self.expect_at(&name, "codes", &buffer, BINDING_ALIGNMENT, codes);
            let scales_at = BINDING_ALIGNMENT + layout.scales_offset_bytes();
            self.expect_at(&name, "scales", &buffer, scales_at, Want::Exact(scales));
        }
    }

    /// Checks products of repacked weights with a norm, by the pipelines for one and for many tokens.
    pub fn matmul(&mut self, format: WeightType, repack: &RepackKernels) {
        let columns = whole_blocks(format, COLUMNS);
        let (matrix, bytes) = self.matrix(format, columns, repack);
        let tokens = self.step.tokens as usize;
        let x = self.random.normals(tokens * columns, 1.0);
        let norm = self.random.normals(columns, 1.0);
        let bias = self.random.normals(ROWS, 1.0);
        let normed = self.normed(tokens, columns);
        let activations = ops::rms_norm::reference(&x, &norm, f64::from(EPSILON));
        let products = ops::matmul::reference(&format.decode(&bytes), &activations, &bias, columns);
        let last = products[(tokens - 1) * ROWS..].iter().zip(&bias).map(|(product, bias)| product - bias).collect();
        let x = self.storage(&with_squares(&x, &norm));
        let (bias, one, many) = (self.storage(&bias), self.output(ROWS), self.output(tokens * ROWS));
        for (name, y, head, want) in [("one token", one, true, last), ("many tokens", many, false, products)] {
            let buffers: matmul::Buffers<&GpuBuffer> = matmul::Buffers {
                step: &self.step_buffer,
                x: &x,
                bias: (!head).then_some(&*bias),
                y: &y,
                status: &self.running,
            };
            let target = Target { y_first: 0, y_stride: ROWS as u32, layer: 0, head, normed };
            let launch = self.bind(&matmul::call(&matrix.by_ref().shards[0], &buffers, target));
            self.record(self.step, vec![launch]);
            self.expect(&format!("matmul {}, {name}", format.name()), "y", &y, Want::Close(want));
        }
    }

    /// Checks products that are added to the residual stream, with the first half of the next norm, by both pipelines.
    pub fn matmul_residual(&mut self, format: WeightType, repack: &RepackKernels) {
        let columns = whole_blocks(format, COLUMNS);
        let (matrix, bytes) = self.matrix(format, columns, repack);
        let tokens = self.step.tokens as usize;
        let x = self.random.normals(tokens * columns, 1.0);
        let vectors = self.random.normals(2 * ROWS, 1.0);
        let before = self.random.normals(tokens * ROWS, 1.0);
        let (bias, norm) = vectors.split_at(ROWS);
        let products = ops::matmul::reference(&format.decode(&bytes), &x, bias, columns);
        let after: Vec<f32> = products.iter().zip(&before).map(|(product, before)| product + before).collect();
        let rows_per_group = self.gpu.rows_per_group();
        let squares = matmul_residual::squares(&matrix, rows_per_group) as usize;
        let (x, vectors_buffer) = (self.storage(&x), self.storage(&vectors));
        for (name, tokens) in [("one token", 1), ("many tokens", tokens)] {
            let step = Step { tokens: tokens as u32, ..self.step };
            let step_buffer = self.batch(step);
            let residual = self.storage(&before[..tokens * ROWS]);
            let normed = self.output(tokens * (ROWS + squares));
            let buffers: matmul_residual::Buffers<&GpuBuffer> = matmul_residual::Buffers {
                step: &step_buffer,
                x: &x,
                vectors: &vectors_buffer,
                residual: &residual,
                normed: &normed,
                status: &self.running,
            };
            let squares_first = (tokens * ROWS) as u32;
            let calls = matmul_residual::calls(&matrix.by_ref(), &buffers, 0, squares_first, rows_per_group);
            let launches = calls.iter().map(|call| self.bind(call)).collect();
            self.record(step, launches);
            let name = format!("matmul_residual {}, {name}", format.name());
            let after = &after[..tokens * ROWS];
            self.expect(&name, "residual", &residual, Want::Close(after.to_vec()));
            let (values, sums) = halves_of_norm(after, norm, rows_per_group as usize);
            self.expect(&name, "normed", &normed, Want::Close(values));
            self.expect_at(&name, "squares", &normed, u64::from(squares_first) * 4, Want::Close(sums));
        }
    }

    /// Makes random weights, [`ROWS`] rows of `columns`: on the GPU, and as in a file.
    fn matrix(&mut self, format: WeightType, columns: usize, repack: &RepackKernels) -> (Matrix, Vec<u8>) {
        let bytes = self.random.weights(format, ROWS, columns);
        let layout = PlaneLayout::new(format, ROWS as u64, columns as u64);
        let buffer = self.keep(self.gpu.storage("self-check", layout.total_bytes()));
        self.upload(repack, &bytes, &whole(&buffer, layout));
        let shards = vec![Shard { buffer, layout, first_row: 0 }];
        (Matrix { shards, rows: ROWS as u64, columns: columns as u64, format }, bytes)
    }

    /// Where the kernel finds the sums of squares of `tokens` tokens in the layout of [`with_squares`].
    pub(super) fn normed(&self, tokens: usize, columns: usize) -> Normed {
        Normed { squares_first: (tokens * columns) as u32, squares: combined_squares(columns as u32), epsilon: EPSILON }
    }

    /// Brings rows of a file to their place, as the loader does.
    pub(super) fn upload(&mut self, repack: &RepackKernels, bytes: &[u8], destination: &Destination<'_>) {
        let Destination { buffer, planes, planes_offset_bytes, first_row, row_step, codes: _ } = *destination;
        let row_bytes = planes.file_row_bytes() as usize;
        if planes.format.is_quantised() {
            let raw = self.keep(self.gpu.storage("self-check", repack::staging_bytes(bytes.len() as u64)));
            self.gpu.write(&raw, 0, bytes);
            let rows = (bytes.len() / row_bytes) as u64;
            let params = self.keep(self.gpu.uniform("repack", &repack::Params::new(rows, destination)));
            repack.record(self.gpu, &mut self.encoder, [&params, &raw], rows, destination);
            return;
        }
        for (row, bytes) in (first_row..).step_by(row_step as usize).zip(bytes.chunks_exact(row_bytes)) {
            self.gpu.write(buffer, planes_offset_bytes + row * row_bytes as u64, bytes);
        }
    }
}

/// All rows of a buffer that has no others.
fn whole(buffer: &Rc<GpuBuffer>, planes: PlaneLayout) -> Destination<'_> {
    Destination { buffer, planes_offset_bytes: 0, planes, first_row: 0, row_step: 1, codes: CodeOrder::Halves }
}

/// The first half of a norm: rows of a residual stream times the norm's weight, and sums of squares of runs of `run`
/// columns.
pub(super) fn halves_of_norm(x: &[f32], norm: &[f32], run: usize) -> (Vec<f32>, Vec<f32>) {
    let square = |value: &f32| f64::from(*value) * f64::from(*value);
    let sums = x.chunks_exact(norm.len()).flat_map(|row| row.chunks(run));
    let sums = sums.map(|columns| columns.iter().map(square).sum::<f64>() as f32).collect();
    (x.iter().zip(norm.iter().cycle()).map(|(x, weight)| x * weight).collect(), sums)
}

/// Both in one buffer, as [`crate::experts::combine`] leaves them, with zeros up to whole vec4.
pub(super) fn with_squares(x: &[f32], norm: &[f32]) -> Vec<f32> {
    let (values, sums) = halves_of_norm(x, norm, COMBINED_COLUMNS as usize);
    let mut all = [values, sums].concat();
    all.resize(all.len().next_multiple_of(4), 0.0);
    all
}
