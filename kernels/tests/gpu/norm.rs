//! RMSNorm in two halves: those that write the residual stream, then one that reads it, are the reference's norm. Sums
//! of F32 in F32, one inverse square root (2 ulp by WGSL), three products.

use gptoss_gguf::WeightType;
use gptoss_kernels::matmul::Target;
use gptoss_kernels::norm::{Normed, combined_squares};
use gptoss_kernels::{Call, Gpu, GpuBuffer, GpuOptions, Step, experts, matmul, matmul_residual};
use gptoss_model::ops;
use gptoss_model::ops::router::Route;

use crate::support::bench::{Bench, batch};
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::normed::EPSILON;
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};
use crate::support::weights::Uploader;

const TOLERANCE: Tolerance = Tolerance::new(0.0, 1e-6);
const LAYER: u32 = 3;

/// Who writes the residual stream.
#[derive(Clone, Copy, Debug)]
enum Writer {
    /// The sum of experts; before the first layer there are none.
    Combine,
    /// The attention's output matrix.
    Product,
}

#[derive(Debug)]
struct Row {
    columns: usize,
    tokens: usize,
    /// First and count of the tokens whose logits are wanted: 0 of them is an ordinary norm.
    head: (usize, usize),
    deviation: f64,
}

const fn row(columns: usize, tokens: usize, head: (usize, usize), deviation: f64) -> Row {
    Row { columns, tokens, head, deviation }
}

const TABLE: [Row; 8] = [
    row(2880, 1, (0, 0), 1.0),
    row(2880, 3, (0, 0), 30.0),
    row(2880, 64, (63, 1), 1.0),
    row(32, 8, (0, 0), 1.0),
    row(96, 9, (5, 3), 1.0),
    row(160, 1, (0, 1), 1.0),
    // So small that epsilon decides, …
    row(288, 3, (0, 0), 1e-4),
    // … and as large as late layers get.
    row(288, 3, (0, 0), 3e3),
];

/// Columns that are looked at: a matrix that picks them.
fn picked(columns: usize) -> Vec<usize> {
    (0..columns).step_by((columns / 32).max(1)).chain([columns - 1]).collect()
}

async fn check(gpu: &Gpu, writer: Writer, row: &Row, seed: u64) -> Result<Difference, String> {
    let &Row { columns, tokens, head: (head_first, head_tokens), deviation } = row;
    let mut random = Random::new(seed);
    let x = random.normals(tokens * columns, deviation);
    let norm: Vec<f32> = random.normals(columns, 0.3).iter().map(|w| 1.0 + w).collect();
    let picked = picked(columns);
    let one_hot = picked.iter().flat_map(|&at| (0..columns).map(move |column| if column == at { 1.0f32 } else { 0.0 }));
    let bytes: Vec<u8> = one_hot.flat_map(f32::to_le_bytes).collect();
    let uploader = Uploader::new(gpu, &[WeightType::F32]);
    let picks = uploader.matrix(WeightType::F32, picked.len(), columns, &bytes)?;
    // Adds nothing.
    let zeros = uploader.matrix(WeightType::F32, columns, 32, &vec![0; columns * 32 * 4])?;

    let step = Step { head_first: head_first as u32, head_tokens: head_tokens as u32, ..batch(tokens) };
    let bench = Bench::new(gpu, step);
    let squares = match writer {
        Writer::Combine => combined_squares(columns as u32),
        Writer::Product => matmul_residual::squares(&zeros, gpu.rows_per_group()),
    };
    let normed = Normed { squares_first: (tokens * columns) as u32, squares, epsilon: EPSILON };
    let residual = gpu.storage_from("residual", &x);
    let activations = bench.output((tokens * (columns + squares as usize)).next_multiple_of(4));
    let (first, count) = if head_tokens == 0 { (0, tokens) } else { row.head };
    let y = bench.output(count * picked.len());
    let vectors = gpu.storage_from("bias, norm", &[vec![0.0; columns], norm.clone()].concat());
    let norm_buffer = gpu.storage_from("norm", &norm);
    let nothing = gpu.storage_from("nothing", &vec![0.0f32; tokens * 32]);
    let routes = gpu.storage_from("routes", &[Route { expert: 0, weight: 1.0 }]);
    let (step, status) = (&bench.step_buffer, &bench.status_buffer);

    let mut calls: Vec<Call<&GpuBuffer>> = match writer {
        Writer::Combine => {
            let (hidden, layer) = (columns as u32, LAYER);
            let shape = experts::Shape { layer, hidden, ff: 32, experts: 1, experts_per_token: 0, normed };
            let buffers = experts::Buffers {
                step,
                x: &activations,
                biases: &nothing,
                h: &nothing,
                y: &nothing,
                residual: &residual,
                norm: &norm_buffer,
                routes: &routes,
                page_table: &nothing,
                status,
            };
            vec![experts::combine(&buffers, shape)]
        }
        Writer::Product => {
            let buffers = matmul_residual::Buffers {
                step,
                x: &nothing,
                vectors: &vectors,
                residual: &residual,
                normed: &activations,
                status,
            };
            matmul_residual::calls(&zeros.by_ref(), &buffers, LAYER, normed.squares_first, gpu.rows_per_group())
        }
    };
    let buffers = matmul::Buffers { step, x: &activations, bias: None, y: &y, status };
    let target = Target { y_first: 0, y_stride: picked.len() as u32, layer: LAYER, head: head_tokens != 0, normed };
    calls.extend(picks.by_ref().shards.iter().map(|shard| matmul::call(shard, &buffers, target)));
    bench.run_calls(&calls);

    let want = ops::rms_norm::reference(&x[first * columns..][..count * columns], &norm, f64::from(EPSILON));
    let want: Vec<f32> = want.chunks_exact(columns).flat_map(|row| picked.iter().map(|&at| row[at])).collect();
    if bench.read::<f32>(&residual).await? != x {
        return Err("the residual stream changed, though nothing was added".to_owned());
    }
    compare("y", &bench.read(&y).await?, &want, TOLERANCE)
}

gpu_test! {
    async fn both_halves_together_are_the_reference() {
        let mut report = Report::new("norm");
        for lanes in seam::GEOMETRIES {
            for max_binding_bytes in [None, Some(96 * 1024)] {
                let options = GpuOptions { lanes_per_row: Some(lanes), max_binding_bytes, ..GpuOptions::default() };
                let gpu = seam::open(&options).await;
                for (seed, row) in (1..).zip(&TABLE) {
                    for writer in [Writer::Combine, Writer::Product] {
                        let outcome = check(&gpu, writer, row, seed).await;
                        report.row(&format!("{writer:?}, {row:?}, {lanes} lanes to a row, seed {seed}"), outcome);
                    }
                }
            }
        }
        report.finish();
    }
}
