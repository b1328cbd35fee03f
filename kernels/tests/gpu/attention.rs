//! Attention over a cache that the CPU filled, so that an F16 cache is the same on both sides and the bound can be that
//! of F32 arithmetic: `exp` of a score with an error of a few ulp of the largest score (WGSL: 3 + 2·|x| ulp).

use gptoss_kernels::attention::{self, Buffers, Params};
use gptoss_kernels::{Gpu, GpuBuffer, GpuOptions, Operation, rope};
use gptoss_model::ops::attention::Shape;
use gptoss_model::ops::rope::HEAD_DIM;
use gptoss_model::{CacheFormat, ops};
use half::f16;

use crate::rope::{YARN, cache_from};
use crate::support::bench::{Bench, batch};
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test, sized};

const TOLERANCE: Tolerance = Tolerance::new(6e-6, 1e-5);

#[derive(Debug)]
struct Row {
    heads: Shape,
    tokens: usize,
    first_position: usize,
    /// Rows of the ring; with a window at least window + tokens − 1.
    capacity: usize,
    /// Standard deviation of queries and keys; scores have its square.
    spread: f64,
    /// Added to the sinks.
    sink: f64,
}

const fn row(
    (query_heads, kv_heads): (usize, usize),
    window: usize,
    tokens: usize,
    first_position: usize,
    capacity: usize,
) -> Row {
    let heads = Shape { query_heads, kv_heads, window };
    Row { heads, tokens, first_position, capacity, spread: 1.3, sink: 1.0 }
}

const TABLE: [Row; 14] = [
    row((2, 1), 128, 1, 0, 128),
    row((4, 2), 128, 3, 160, 130),
    // The window starts to move at position 128; the ring is as small as it may be.
    row((4, 2), 128, 9, 121, 136),
    row((8, 2), 16, 5, 145, 20),
    row((6, 3), 16, 19, 0, 34),
    row((6, 2), 0, 7, 16, 23),
    row((8, 1), 0, 64, 63, 127),
    row((3, 3), 1, 8, 40, 8),
    row((sized(64, 8), sized(8, 1)), 0, 1, sized(1000, 300), 1024),
    row((sized(64, 16), sized(8, 2)), 128, 9, 500, 136),
    Row { spread: 4.0, ..row((8, 4), 0, 3, 200, 203) },
    Row { sink: 40.0, ..row((4, 2), 128, 3, 300, 130) },
    Row { sink: -40.0, ..row((4, 2), 128, 3, 300, 131) },
    Row { spread: 0.0, ..row((4, 2), 0, 3, 70, 73) },
];

/// A sequence: all keys and values by position, rounded as the cache will.
struct Sequence {
    keys: Vec<f32>,
    values: Vec<f32>,
    sinks: Vec<f32>,
}

impl Sequence {
    fn random(random: &mut Random, row: &Row, format: CacheFormat) -> Self {
        let count = (row.first_position + row.tokens) * row.heads.kv_heads * HEAD_DIM;
        let mut cached = |deviation: f64| {
            let mut values = random.normals(count, deviation);
            if format == CacheFormat::F16 {
                values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
            }
            values
        };
        let (keys, values) = (cached(row.spread), cached(1.0));
        let sinks = random.normals(row.heads.query_heads, 2.0).iter().map(|s| s + row.sink as f32).collect();
        Self { keys, values, sinks }
    }

    /// The ring after the last position was written; what was never written would be noticed.
    fn ring(values: &[f32], row: &Row) -> Vec<f32> {
        let width = row.heads.kv_heads * HEAD_DIM;
        let mut ring = vec![1e4; row.capacity * width];
        for (position, values) in values.chunks_exact(width).enumerate() {
            ring[position % row.capacity * width..][..width].copy_from_slice(values);
        }
        ring
    }
}

async fn check(gpu: &Gpu, format: CacheFormat, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let sequence = Sequence::random(&mut random, row, format);
    let heads = row.heads.query_heads + 2 * row.heads.kv_heads;
    let qkv = random.normals(row.tokens * heads * HEAD_DIM, row.spread);
    let width = row.heads.query_heads * HEAD_DIM;

    let bench = Bench::new(gpu, batch(row.tokens, row.first_position));
    let (qkv_buffer, sinks) = (gpu.storage_from("qkv", &qkv), gpu.storage_from("sinks", &sequence.sinks));
    let keys = cache_from(gpu, &Sequence::ring(&sequence.keys, row), format);
    let values = cache_from(gpu, &Sequence::ring(&sequence.values, row), format);
    let out = bench.output(row.tokens * width);
    let buffers = Buffers {
        step: &bench.step_buffer,
        qkv: &qkv_buffer,
        sinks: &sinks,
        out: &out,
        keys: &keys,
        values: &values,
        status: &bench.status_buffer,
    };
    bench.run_calls(&[attention::call(format, &buffers, params(row.heads, row.capacity))]);

    let want: Vec<f32> = qkv
        .chunks_exact(heads * HEAD_DIM)
        .zip(row.first_position..)
        .flat_map(|(token, position)| {
            let query = &token[..width];
            ops::attention::reference(query, &sequence.keys, &sequence.values, &sequence.sinks, position, row.heads)
        })
        .collect();
    // Scores grow with the square of the spread, and their error with them.
    let growth = (row.spread * row.spread / 2.0).max(1.0);
    let tolerance = Tolerance { absolute: TOLERANCE.absolute * growth, ..TOLERANCE };
    compare("out", &bench.read(&out).await?, &want, tolerance)
}

fn params(heads: Shape, capacity: usize) -> Params {
    Params {
        query_heads: heads.query_heads as u32,
        kv_heads: heads.kv_heads as u32,
        capacity: capacity as u32,
        window: heads.window as u32,
        layer: 1,
        padding: [0; 3],
    }
}

gpu_test! {
    async fn attention_is_the_reference() {
        let mut report = Report::new("attention");
        for format in [CacheFormat::F32, CacheFormat::F16] {
            for gpu in seam::open_tiers(&GpuOptions::default(), Operation::Attention(format)).await {
                let tier = gpu.tier();
                for (seed, row) in (500..).zip(&TABLE) {
                    let outcome = check(&gpu, format, row, seed).await;
                    report.row(&format!("{format:?} {row:?}, {tier}, seed {seed}"), outcome);
                }
            }
        }
        report.finish();
    }
}

/// Batches of different sizes, one after the other, through the same ring.
const BATCHES: [usize; 7] = [8, 1, 3, 9, 1, 1, 4];
const CHAIN: Shape = Shape { query_heads: 6, kv_heads: 2, window: 5 };
const CHAIN_CAPACITY: usize = 13;

/// RoPE and attention over the batches; the reference sees the whole sequence at once.
async fn chain(gpu: &Gpu, format: CacheFormat, window: usize, capacity: usize) -> Result<Difference, String> {
    let heads = Shape { window, ..CHAIN };
    let (query, kv) = (heads.query_heads * HEAD_DIM, heads.kv_heads * HEAD_DIM);
    let token_values = query + 2 * kv;
    let positions: usize = BATCHES.iter().sum();
    let mut random = Random::new(77);
    let qkv = random.normals(positions * token_values, 1.3);
    let sinks = random.normals(heads.query_heads, 1.0);

    let cache = vec![0.0; capacity * kv];
    let (keys, values) = (cache_from(gpu, &cache, format), cache_from(gpu, &cache, format));
    let table = gpu.storage_from("table", &YARN.table(positions));
    let sinks_buffer = gpu.storage_from("sinks", &sinks);
    let mut got = Vec::new();
    let mut first = 0;
    for tokens in BATCHES {
        let bench = Bench::new(gpu, batch(tokens, first));
        let part = gpu.storage_from("qkv", &qkv[first * token_values..][..tokens * token_values]);
        let out = bench.output(tokens * query);
        let caches = Caches { keys: &keys, values: &values, format, capacity };
        rope_and_attention(&bench, &part, &table, &sinks_buffer, &out, heads, &caches);
        got.extend(bench.read::<f32>(&out).await?);
        first += tokens;
    }

    let mut turned = qkv;
    for (position, token) in turned.chunks_exact_mut(token_values).enumerate() {
        ops::rope::reference(&mut token[..query + kv], position, &YARN);
    }
    let column = |from: usize, width: usize| -> Vec<f32> {
        turned.chunks_exact(token_values).flat_map(|token| token[from..][..width].to_vec()).collect()
    };
    let (all_keys, all_values) = (column(query, kv), column(query + kv, kv));
    let want: Vec<f32> = column(0, query)
        .chunks_exact(query)
        .enumerate()
        .flat_map(|(position, token)| ops::attention::reference(token, &all_keys, &all_values, &sinks, position, heads))
        .collect();
    // Here the cache's own rounding counts too: scores have an error of about 2^−11 · |score|.
    let tolerance = if format == CacheFormat::F16 { Tolerance::new(1e-2, 1e-3) } else { TOLERANCE };
    compare("out", &got, &want, tolerance)
}

struct Caches<'a> {
    keys: &'a GpuBuffer,
    values: &'a GpuBuffer,
    format: CacheFormat,
    capacity: usize,
}

fn rope_and_attention(
    bench: &Bench<'_>,
    qkv: &GpuBuffer,
    table: &GpuBuffer,
    sinks: &GpuBuffer,
    out: &GpuBuffer,
    heads: Shape,
    caches: &Caches<'_>,
) {
    let (step, status) = (&bench.step_buffer, &bench.status_buffer);
    let (keys, values) = (caches.keys, caches.values);
    let rope_params = rope::Params {
        query_heads: heads.query_heads as u32,
        kv_heads: heads.kv_heads as u32,
        capacity: caches.capacity as u32,
        layer: 1,
    };
    let to_attend = Buffers { step, qkv, sinks, out, keys, values, status };
    bench.run_calls(&[
        rope::call(caches.format, &rope::Buffers { step, qkv, table, keys, values, status }, rope_params),
        attention::call(caches.format, &to_attend, params(heads, caches.capacity)),
    ]);
}

gpu_test! {
    async fn batches_through_a_wrapping_ring_give_what_the_whole_sequence_gives() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let positions: usize = BATCHES.iter().sum();
        let mut report = Report::new("rope and attention");
        for format in [CacheFormat::F32, CacheFormat::F16] {
            for (window, capacity) in [(CHAIN.window, CHAIN_CAPACITY), (0, positions)] {
                let outcome = chain(&gpu, format, window, capacity).await;
                report.row(&format!("{format:?}, window {window}, capacity {capacity}, seed 77"), outcome);
            }
        }
        report.finish();
    }
}
