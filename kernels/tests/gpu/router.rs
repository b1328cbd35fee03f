//! The router: choices are exact, their weights come from F32 logits; and what it notes about experts that are missing.

use gptoss_kernels::norm::Normed;
use gptoss_kernels::router::{self, Buffers, MISS, Params};
use gptoss_kernels::{Gpu, GpuOptions, Status, Step};
use gptoss_model::ops;
use gptoss_model::ops::router::Route;

use crate::support::bench::{Bench, batch};
use crate::support::compare::{Difference, Tolerance, compare, equal};
use crate::support::normed::{EPSILON, normed, with_squares};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const TOLERANCE: Tolerance = Tolerance::new(1e-7, 1e-5);
/// Logits nearer than this may come out in another order in F32 than in F64; the seeds are such that none are, but for
/// exact ties.
const NEAR: f64 = 2e-5;
const LAYERS: usize = 3;
const LAYER: usize = 1;
const STAMP: u32 = 42;
const OLD_STAMP: u32 = 7;
const UNTOUCHED: Route = Route { expert: 77, weight: 0.5 };

#[derive(Debug)]
struct Row {
    experts: usize,
    columns: usize,
    tokens: usize,
    experts_per_token: usize,
    /// How many of the experts of this layer are not resident.
    missing: usize,
    /// The second half of the experts repeats the first: every choice is between equals.
    twins: bool,
}

const fn row(experts: usize, columns: usize, tokens: usize, missing: usize) -> Row {
    Row { experts, columns, tokens, experts_per_token: 4, missing, twins: false }
}

const TABLE: [Row; 10] = [
    row(8, 48, 5, 0),
    row(32, 2880, 1, 0),
    row(32, 2880, 3, 12),
    row(128, 2880, 1, 100),
    row(128, 96, 9, 40),
    row(5, 33, 8, 1),
    row(4, 7, 2, 4),
    row(33, 96, 64, 30),
    Row { twins: true, ..row(32, 96, 3, 5) },
    Row { experts_per_token: 1, ..row(9, 65, 3, 3) },
];

/// A table in which the experts of `LAYER` have slots, but for `missing` of them.
fn page_table(random: &mut Random, row: &Row) -> Vec<u32> {
    let mut table = vec![MISS; LAYERS * row.experts];
    let order = random.permutation(row.experts);
    for (slot, &expert) in order[row.missing..].iter().enumerate() {
        table[LAYER * row.experts + expert] = slot as u32;
    }
    table
}

struct Inputs {
    /// Normalised input in the layout that the kernel reads.
    normed: Vec<f32>,
    /// What the norm makes of it.
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

fn inputs(random: &mut Random, row: &Row) -> Inputs {
    let residual = random.normals(row.tokens * row.columns, 1.0);
    let norm = random.normals(row.columns, 1.0);
    let x = ops::rms_norm::reference(&residual, &norm, f64::from(EPSILON));
    let normed = with_squares(&residual, &norm);
    let mut weight = random.normals(row.experts * row.columns, 1.5 / (row.columns as f64).sqrt());
    let mut bias = random.normals(row.experts, 0.5);
    if row.twins {
        let half = row.experts / 2;
        weight.copy_within(..half * row.columns, half * row.columns);
        bias.copy_within(..half, half);
    }
    Inputs { normed, x, weight, bias }
}

/// Refuses inputs whose order F32 cannot decide: the table needs another seed then.
fn check_that_logits_differ(inputs: &Inputs, row: &Row) -> Result<(), String> {
    for x in inputs.x.chunks_exact(row.columns) {
        let mut logits: Vec<f64> = inputs
            .weight
            .chunks_exact(row.columns)
            .zip(&inputs.bias)
            .map(|(w, &b)| f64::from(b) + w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>())
            .collect();
        logits.sort_by(|a, b| b.total_cmp(a));
        let close = |pair: &[f64]| pair[0] != pair[1] && pair[0] - pair[1] < NEAR;
        if logits[..row.experts.min(row.experts_per_token + 1)].windows(2).any(close) {
            return Err("two logits are too near for F32: choose another seed".to_owned());
        }
    }
    Ok(())
}

/// The status and the stamps that these choices leave behind.
fn bookkeeping(routes: &[Route], table: &[u32], row: &Row) -> (Status, Vec<u32>) {
    let mut status = Status::running();
    let mut last_used = vec![OLD_STAMP; LAYERS * row.experts];
    for route in routes {
        let at = LAYER * row.experts + route.expert as usize;
        // Once for all tokens of the batch.
        let count = u32::from(std::mem::replace(&mut last_used[at], STAMP) != STAMP);
        if table[at] == MISS {
            status.misses += count;
            status.halt_layer = LAYER as u32;
            status.missed[route.expert as usize / 32] |= 1 << (route.expert % 32);
        } else {
            status.hits += count;
        }
    }
    (status, last_used)
}

async fn check(gpu: &Gpu, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let inputs = inputs(&mut random, row);
    check_that_logits_differ(&inputs, row)?;
    let table = page_table(&mut random, row);

    let bench = Bench::new(gpu, Step { stamp: STAMP, ..batch(row.tokens) });
    let [x, weight, bias] = [&inputs.normed, &inputs.weight, &inputs.bias].map(|values| gpu.storage_from("in", values));
    // [layers, tokens, k].
    let of_layer = row.tokens * row.experts_per_token;
    let routes = gpu.storage_from("routes", &vec![UNTOUCHED; LAYERS * of_layer]);
    let table_buffer = gpu.storage_from("page table", &table);
    let last_used = gpu.storage_from("last used", &vec![OLD_STAMP; LAYERS * row.experts]);
    let buffers = Buffers {
        step: &bench.step_buffer,
        x: &x,
        weight: &weight,
        bias: &bias,
        routes: &routes,
        page_table: &table_buffer,
        last_used: &last_used,
        status: &bench.status_buffer,
    };
    let Normed { squares_first, squares, epsilon } = normed(row.tokens, row.columns);
    let params = Params {
        columns: row.columns as u32,
        experts: row.experts as u32,
        experts_per_token: row.experts_per_token as u32,
        layer: LAYER as u32,
        squares_first,
        squares,
        epsilon,
        padding: 0,
    };
    bench.run_calls(&[router::call(&buffers, params)]);

    let want: Vec<Route> = inputs
        .x
        .chunks_exact(row.columns)
        .flat_map(|x| ops::router::reference(x, &inputs.weight, &inputs.bias, row.experts_per_token))
        .collect();
    let all: Vec<Route> = bench.read(&routes).await?;
    let got = &all[LAYER * of_layer..][..of_layer];
    if all[..LAYER * of_layer].iter().chain(&all[(LAYER + 1) * of_layer..]).any(|route| *route != UNTOUCHED) {
        return Err("routes of other layers were written".to_owned());
    }
    let experts = |routes: &[Route]| -> Vec<u32> { routes.iter().map(|route| route.expert).collect() };
    let weights = |routes: &[Route]| -> Vec<f32> { routes.iter().map(|route| route.weight).collect() };
    equal("experts", &experts(got), &experts(&want))?;
    let (status, stamps) = bookkeeping(&want, &table, row);
    equal("status", &[bench.status().await?], &[status])?;
    equal("last used", &bench.read::<u32>(&last_used).await?, &stamps)?;
    compare("weights", &weights(got), &weights(&want), TOLERANCE)
}

gpu_test! {
    async fn router_is_the_reference() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("router");
        for (seed, row) in (700..).zip(&TABLE) {
            report.row(&format!("{row:?}, seed {seed}"), check(&gpu, row, seed).await);
        }
        report.finish();
    }
}
