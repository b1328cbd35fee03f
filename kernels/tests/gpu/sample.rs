//! What sampling needs from rows of logits: candidates are exact; log-sum-exp and entropy come from F32 sums over
//! n / 256 values a lane.

use bytemuck::Zeroable;
use gptoss_kernels::sample::{self, Buffers};
use gptoss_kernels::{Gpu, GpuOptions, Row as Token, Sampled, Step};
use gptoss_model::ops;
use gptoss_model::ops::sample::{CANDIDATES, Candidate};

use crate::support::bench::{Bench, batch};
use crate::support::compare::{Difference, Tolerance, compare, equal};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const TOLERANCE: Tolerance = Tolerance::new(5e-6, 1e-6);

#[derive(Clone, Copy, Debug)]
enum Logits {
    Random,
    /// Rounded to halves: most values occur many times, also at the 64th place.
    Ties,
    AllEqual,
    /// Two far above the others.
    Peaked,
    /// All near +300, where `exp` overflows without the shift.
    Shifted,
    /// All negative, with zeros of both signs among them.
    Zeros,
}

#[derive(Debug)]
struct Row {
    vocabulary: usize,
    logits: Logits,
    /// First and count of the tokens whose logits are wanted.
    head: (usize, usize),
    /// Inverse temperature of the first wanted token; the others have different ones.
    inverse_temperature: f32,
}

const fn row(vocabulary: usize, logits: Logits, head: (usize, usize), inverse_temperature: f32) -> Row {
    Row { vocabulary, logits, head, inverse_temperature }
}

impl Row {
    /// Inverse temperatures of all wanted tokens.
    fn inverse_temperatures(&self) -> Vec<f32> {
        (0..self.head.1).map(|token| self.inverse_temperature * (1.0 + token as f32 / 4.0)).collect()
    }
}

const TABLE: [Row; 15] = [
    row(17, Logits::Random, (0, 1), 1.0),
    row(1, Logits::Random, (0, 1), 1.0),
    row(63, Logits::Ties, (8, 1), 1.0),
    row(64, Logits::Ties, (0, 3), 2.0),
    row(65, Logits::AllEqual, (0, 1), 1.0),
    row(65, Logits::Random, (2, 0), 1.0),
    row(256, Logits::Zeros, (1, 2), 0.5),
    row(1280, Logits::Random, (0, 1), 1.0),
    row(1280, Logits::Ties, (3, 2), 1.25),
    row(1280, Logits::AllEqual, (0, 1), 1.0),
    row(1280, Logits::Peaked, (0, 1), 4.0),
    row(1280, Logits::Shifted, (0, 1), 0.7),
    row(5003, Logits::Ties, (2, 9), 1.0),
    row(5003, Logits::Random, (0, 1), 1e-3),
    row(201_088, Logits::Random, (0, 1), 1.25),
];

fn logits(random: &mut Random, kind: Logits, count: usize) -> Vec<f32> {
    let mut values = random.normals(count, 3.0);
    match kind {
        Logits::Random => {}
        Logits::Ties => values.iter_mut().for_each(|v| *v = (*v * 2.0).round() / 2.0),
        Logits::AllEqual => values.fill(-1.5),
        Logits::Peaked => (values[7], values[count - 1]) = (31.0, 30.5),
        Logits::Shifted => values.iter_mut().for_each(|v| *v += 300.0),
        Logits::Zeros => values.iter_mut().enumerate().for_each(|(i, v)| {
            *v = match i % 5 {
                0 => -0.0,
                1 => 0.0,
                _ => -v.abs(),
            }
        }),
    }
    values
}

/// Runs the kernel for all wanted tokens and one more.
async fn run(gpu: &Gpu, row: &Row, all: &[f32]) -> Result<Vec<Sampled>, String> {
    let (head_first, head_tokens) = row.head;
    let step =
        Step { head_first: head_first as u32, head_tokens: head_tokens as u32, ..batch(head_first + head_tokens + 1) };
    let bench = Bench::new(gpu, step);
    let token = |inverse_temperature| Token { position: 0, table: 0, inverse_temperature, padding: 0 };
    // Tokens whose logits are not wanted have another temperature; using it would show in the result.
    let mut rows = vec![token(100.0); step.tokens as usize];
    for (row, inverse_temperature) in rows[head_first..].iter_mut().zip(row.inverse_temperatures()) {
        *row = token(inverse_temperature);
    }
    let (logits, rows) = (gpu.storage_from("logits", all), gpu.storage_from("rows", &rows));
    let sampled = gpu.storage("sampled", (head_tokens as u64 + 1) * Sampled::SIZE_BYTES);
    let buffers = Buffers { step: &bench.step_buffer, logits: &logits, rows: &rows, sampled: &sampled };
    bench.run_calls(&[sample::call(&buffers, row.vocabulary as u32)]);
    bench.read(&sampled).await
}

async fn check(gpu: &Gpu, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    // One row more than is wanted.
    let all: Vec<f32> = (0..=row.head.1).flat_map(|_| logits(&mut random, row.logits, row.vocabulary)).collect();
    let sampled = run(gpu, row, &all).await?;
    equal("what nobody wanted", &sampled[row.head.1..], &[Sampled::zeroed()])?;
    let mut worst = Difference::default();
    let wanted = all.chunks_exact(row.vocabulary).zip(row.inverse_temperatures());
    for ((logits, inverse_temperature), got) in wanted.zip(&sampled) {
        worst = worst.max(check_row(logits, inverse_temperature, got)?);
    }
    Ok(worst)
}

fn check_row(logits: &[f32], inverse_temperature: f32, got: &Sampled) -> Result<Difference, String> {
    let want = ops::sample::reference(logits, CANDIDATES, f64::from(inverse_temperature));
    let count = logits.len().min(CANDIDATES);
    let exact = |candidates: &[Candidate]| -> Vec<(u32, u32)> {
        candidates.iter().map(|c| (c.token, c.logit.to_bits())).collect()
    };
    equal("candidates (token, logit bits)", &exact(&got.candidates[..count]), &exact(&want.candidates))?;
    let none = vec![(0, 0); CANDIDATES - count];
    equal("candidates that there are none of", &exact(&got.candidates[count..]), &none)?;
    let best = Candidate { token: got.top_token, logit: got.top_logit };
    equal("the best (token, logit bits)", &exact(&[best]), &exact(&want.candidates[..1]))?;
    equal("logits that are not finite, padding", &[got.non_finite, got.padding[0], got.padding[1]], &[0; 3])?;
    let sums = [got.log_sum_exp, got.log_sum_exp_tempered, got.entropy_nats];
    let wanted = [want.log_sum_exp as f32, want.log_sum_exp_tempered as f32, want.entropy_nats as f32];
    compare("log-sum-exp, tempered log-sum-exp, entropy", &sums, &wanted, TOLERANCE)
}

gpu_test! {
    async fn sampling_statistics_are_the_reference() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("sample");
        for (seed, row) in (600..).zip(&TABLE) {
            report.row(&format!("{row:?}, seed {seed}"), check(&gpu, row, seed).await);
        }
        report.finish();
    }
}

gpu_test! {
    async fn logits_that_are_not_finite_are_counted() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let row = row(1280, Logits::Random, (0, 2), 1.0);
        let mut values = logits(&mut Random::new(9), row.logits, 2 * row.vocabulary);
        for (at, value) in [(0, f32::NAN), (255, f32::INFINITY), (256, f32::NEG_INFINITY), (1279, -f32::NAN)] {
            values[at] = value;
        }
        let sampled = run(&gpu, &row, &values).await.expect("the device works");
        assert_eq!([sampled[0].non_finite, sampled[1].non_finite], [4, 0]);
    }
}
