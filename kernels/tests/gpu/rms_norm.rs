//! RMSNorm: sums of F32 in F32 over at most 45 values a lane and 64 lanes, one inverse square root (2 ulp by WGSL).

use gptoss_kernels::rms_norm::{self, Buffers, Params};
use gptoss_kernels::{Gpu, GpuOptions, Step};
use gptoss_model::ops;

use crate::support::bench::{Bench, batch};
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const TOLERANCE: Tolerance = Tolerance::new(0.0, 1e-6);

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

const TABLE: [Row; 9] = [
    row(2880, 1, (0, 0), 1.0),
    row(2880, 3, (0, 0), 30.0),
    row(2880, 64, (63, 1), 1.0),
    row(33, 8, (0, 0), 1.0),
    row(63, 9, (5, 3), 1.0),
    row(65, 1, (0, 1), 1.0),
    row(1, 2, (0, 0), 1.0),
    // So small that epsilon decides, …
    row(257, 3, (0, 0), 1e-4),
    // … and as large as late layers get.
    row(257, 3, (0, 0), 3e3),
];

async fn check(gpu: &Gpu, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let x = random.normals(row.tokens * row.columns, row.deviation);
    let weight: Vec<f32> = random.normals(row.columns, 0.3).iter().map(|w| 1.0 + w).collect();
    let (head_first, head_tokens) = row.head;
    let step = Step { head_first: head_first as u32, head_tokens: head_tokens as u32, ..batch(row.tokens, 100) };
    let bench = Bench::new(gpu, step);
    let (x_buffer, weight_buffer) = (gpu.storage_from("x", &x), gpu.storage_from("weight", &weight));
    let (first, count) = if head_tokens == 0 { (0, row.tokens) } else { row.head };
    let y = bench.output(count * row.columns);
    let buffers =
        Buffers { step: &bench.step_buffer, x: &x_buffer, weight: &weight_buffer, y: &y, status: &bench.status_buffer };
    let params = Params { columns: row.columns as u32, layer: 3, head: u32::from(head_tokens != 0), epsilon: 1e-5 };
    bench.run_calls(&[rms_norm::call(&buffers, params)]);
    let want = ops::rms_norm::reference(&x[first * row.columns..][..count * row.columns], &weight, 1e-5);
    compare("y", &bench.read(&y).await?, &want, TOLERANCE)
}

gpu_test! {
    async fn rms_norm_is_the_reference() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("rms_norm");
        for (seed, row) in (1..).zip(&TABLE) {
            report.row(&format!("{row:?}, seed {seed}"), check(&gpu, row, seed).await);
        }
        report.finish();
    }
}
