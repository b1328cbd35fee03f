//! What sampling needs from a row of logits: candidates are exact; log-sum-exp and entropy come from F32 sums over
//! n / 256 values a lane.

use gptoss_kernels::sample::{self, Buffers, CANDIDATES_BYTES};
use gptoss_kernels::{Gpu, GpuOptions, Status, Step};
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
    head_tokens: usize,
    inverse_temperature: f32,
}

const fn row(vocabulary: usize, logits: Logits, head_tokens: usize, inverse_temperature: f32) -> Row {
    Row { vocabulary, logits, head_tokens, inverse_temperature }
}

const TABLE: [Row; 14] = [
    row(17, Logits::Random, 1, 1.0),
    row(1, Logits::Random, 1, 1.0),
    row(63, Logits::Ties, 1, 1.0),
    row(64, Logits::Ties, 3, 2.0),
    row(65, Logits::AllEqual, 1, 1.0),
    row(256, Logits::Zeros, 1, 0.5),
    row(1280, Logits::Random, 1, 1.0),
    row(1280, Logits::Ties, 2, 1.25),
    row(1280, Logits::AllEqual, 1, 1.0),
    row(1280, Logits::Peaked, 1, 4.0),
    row(1280, Logits::Shifted, 1, 0.7),
    row(5003, Logits::Ties, 9, 1.0),
    row(5003, Logits::Random, 1, 1e-3),
    row(201_088, Logits::Random, 1, 1.25),
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

async fn run(gpu: &Gpu, row: &Row, all: &[f32]) -> Result<(Vec<Candidate>, Status), String> {
    let step = Step {
        head_tokens: row.head_tokens as u32,
        inverse_temperature: row.inverse_temperature,
        ..batch(row.head_tokens, 0)
    };
    let bench = Bench::new(gpu, step);
    let logits = gpu.storage_from("logits", all);
    let candidates = gpu.storage("candidates", CANDIDATES_BYTES);
    let buffers =
        Buffers { step: &bench.step_buffer, logits: &logits, candidates: &candidates, status: &bench.status_buffer };
    bench.run_calls(&[sample::call(&buffers, row.vocabulary as u32)]);
    Ok((bench.read(&candidates).await?, bench.status().await?))
}

async fn check(gpu: &Gpu, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let all: Vec<f32> = (0..row.head_tokens).flat_map(|_| logits(&mut random, row.logits, row.vocabulary)).collect();
    let (candidates, status) = run(gpu, row, &all).await?;

    let last = &all[all.len() - row.vocabulary..];
    let want = ops::sample::reference(last, CANDIDATES, f64::from(row.inverse_temperature));
    let count = row.vocabulary.min(CANDIDATES);
    let exact = |candidates: &[Candidate]| -> Vec<(u32, u32)> {
        candidates.iter().map(|c| (c.token, c.logit.to_bits())).collect()
    };
    equal("candidates (token, logit bits)", &exact(&candidates[..count]), &exact(&want.candidates))?;
    equal("candidates that there are none of", &exact(&candidates[count..]), &vec![(0, 0); CANDIDATES - count])?;
    let untouched = Status {
        top_token: want.candidates[0].token,
        top_logit: want.candidates[0].logit,
        log_sum_exp: status.log_sum_exp,
        log_sum_exp_tempered: status.log_sum_exp_tempered,
        entropy_nats: status.entropy_nats,
        ..Status::running()
    };
    equal("status", &[status], &[untouched])?;
    let sums = [status.log_sum_exp, status.log_sum_exp_tempered, status.entropy_nats];
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
        let row = row(1280, Logits::Random, 1, 1.0);
        let mut values = logits(&mut Random::new(9), row.logits, row.vocabulary);
        for (at, value) in [(0, f32::NAN), (255, f32::INFINITY), (256, f32::NEG_INFINITY), (1279, -f32::NAN)] {
            values[at] = value;
        }
        let (_, status) = run(&gpu, &row, &values).await.expect("the device works");
        assert_eq!(status.non_finite, 4);
    }
}
