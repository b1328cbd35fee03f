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
use crate::support::blocks::{BLOCK_TOKENS, Sequence, TABLE_FIRST, scattered};
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test, sized};

const TOLERANCE: Tolerance = Tolerance::new(6e-6, 1e-5);

/// Value in the cache where no key or value of a sequence is; using it would show in the result.
const NEVER_SEEN: f32 = 1e4;

#[derive(Debug)]
pub struct Row {
    pub heads: Shape,
    /// First position and tokens of each sequence.
    pub spans: &'static [(usize, usize)],
    /// Blocks that all of them begin with.
    pub shared: usize,
    /// Standard deviation of queries and keys; scores have its square.
    pub spread: f64,
    /// Added to the sinks.
    pub sink: f64,
}

pub const fn row((query_heads, kv_heads): (usize, usize), window: usize, spans: &'static [(usize, usize)]) -> Row {
    Row { heads: Shape { query_heads, kv_heads, window }, spans, shared: 0, spread: 1.3, sink: 1.0 }
}

const LONG: [(usize, usize); 1] = [(sized(1000, 300), 1)];

const TABLE: [Row; 20] = [
    row((2, 1), 128, &[(0, 1)]),
    row((4, 2), 128, &[(160, 3)]),
    // The window starts to move at position 128.
    row((4, 2), 128, &[(121, 9)]),
    row((8, 2), 16, &[(145, 5)]),
    row((6, 3), 16, &[(0, 19)]),
    row((6, 2), 0, &[(16, 7)]),
    row((8, 1), 0, &[(63, 64)]),
    row((3, 3), 1, &[(40, 8)]),
    row((sized(64, 8), sized(8, 1)), 0, &LONG),
    row((sized(64, 16), sized(8, 2)), 128, &[(500, 9)]),
    // Windows that begin before, at and after a boundary of blocks, and queries around one.
    row((4, 2), 70, &[(132, 3)]),
    row((6, 2), 1, &[(62, 4)]),
    row((6, 3), 0, &[(62, 4)]),
    // Several sequences.
    row((8, 4), 16, &[(5, 2), (300, 3), (63, 2)]),
    Row { shared: 1, ..row((4, 2), 0, &[(70, 3), (64, 1), (129, 5)]) },
    Row { shared: 1, ..row((6, 2), 70, &[(200, 2), (100, 4)]) },
    Row { spread: 4.0, ..row((8, 4), 0, &[(200, 3)]) },
    Row { sink: 40.0, ..row((4, 2), 128, &[(300, 3)]) },
    Row { sink: -40.0, ..row((4, 2), 128, &[(300, 3)]) },
    Row { spread: 0.0, ..row((4, 2), 0, &[(70, 3)]) },
];

/// Rounded as the cache will.
pub fn cached(random: &mut Random, count: usize, deviation: f64, format: CacheFormat) -> Vec<f32> {
    let mut values = random.normals(count, deviation);
    if format == CacheFormat::F16 {
        values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
    }
    values
}

/// A cache where all positions of the sequences are, each of `width` values.
pub fn cache_of(sequences: &[Sequence], all: &[Vec<f32>], blocks: usize, width: usize) -> Vec<f32> {
    let mut cache = vec![NEVER_SEEN; blocks * BLOCK_TOKENS * width];
    for (sequence, all) in sequences.iter().zip(all) {
        for (position, values) in all.chunks_exact(width).enumerate() {
            if let Some(at) = sequence.cached_at(position) {
                cache[at * width..][..width].copy_from_slice(values);
            }
        }
    }
    cache
}

async fn check(gpu: &Gpu, format: CacheFormat, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let (sequences, blocks) = scattered(seed, row.spans, row.shared, row.heads.window);
    let (heads, kv) = (row.heads.query_heads + 2 * row.heads.kv_heads, row.heads.kv_heads * HEAD_DIM);
    // Keys and values by sequence and position.
    let [all_keys, all_values] = [row.spread, 1.0].map(|deviation| {
        let count = |sequence: &Sequence| sequence.positions().end * kv;
        let mut all: Vec<_> = sequences.iter().map(|it| cached(&mut random, count(it), deviation, format)).collect();
        let prefix = all[0][..row.shared * BLOCK_TOKENS * kv].to_vec();
        all.iter_mut().for_each(|values| values[..prefix.len()].copy_from_slice(&prefix));
        all
    });
    let sinks: Vec<f32> = random.normals(row.heads.query_heads, 2.0).iter().map(|s| s + row.sink as f32).collect();
    let tokens = sequences.iter().map(|sequence| sequence.tokens).sum();
    let qkv = random.normals(tokens * heads * HEAD_DIM, row.spread);
    let width = row.heads.query_heads * HEAD_DIM;

    let bench = Bench::new(gpu, batch(tokens));
    let out = bench.output(tokens * width);
    let buffers = Buffers {
        step: &bench.step_buffer,
        qkv: &gpu.storage_from("qkv", &qkv),
        sinks: &gpu.storage_from("sinks", &sinks),
        out: &out,
        keys: &cache_from(gpu, &cache_of(&sequences, &all_keys, blocks, kv), format),
        values: &cache_from(gpu, &cache_of(&sequences, &all_values, blocks, kv), format),
        status: &bench.status_buffer,
        rows: &bench.rows(&sequences),
    };
    bench.run_calls(&[attention::call(format, &buffers, params(row.heads))]);

    let caches = all_keys.iter().zip(&all_values);
    let positions = sequences.iter().zip(caches).flat_map(|(it, caches)| it.positions().map(move |p| (p, caches)));
    let want: Vec<f32> = qkv
        .chunks_exact(heads * HEAD_DIM)
        .zip(positions)
        .flat_map(|(token, (position, (keys, values)))| {
            ops::attention::reference(&token[..width], keys, values, &sinks, position, row.heads)
        })
        .collect();
    // Scores grow with the square of the spread, and their error with them.
    let growth = (row.spread * row.spread / 2.0).max(1.0);
    let tolerance = Tolerance { absolute: TOLERANCE.absolute * growth, ..TOLERANCE };
    compare("out", &bench.read(&out).await?, &want, tolerance)
}

pub fn params(heads: Shape) -> Params {
    Params {
        query_heads: heads.query_heads as u32,
        kv_heads: heads.kv_heads as u32,
        window: heads.window as u32,
        table_first: TABLE_FIRST,
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

/// Batches of different sizes, one after the other, through the same blocks: tokens of two sequences, each of more than
/// two blocks.
const BATCHES: [[usize; 2]; 8] = [[58, 4], [1, 64], [3, 1], [9, 1], [1, 9], [1, 3], [64, 1], [4, 58]];
const CHAIN: Shape = Shape { query_heads: 6, kv_heads: 2, window: 5 };
/// Number of blocks in a cache that has those in [`TABLES`], and one of no sequence.
const BLOCKS: usize = 7;
/// Tables of both sequences, without and with a window: there the third block takes the place of the first.
const TABLES: [[u32; 3]; 2] = [[5, 1, 6], [4, 2, 3]];
const WINDOW_TABLES: [[u32; 3]; 2] = [[5, 1, 5], [4, 2, 4]];

/// RoPE and attention over the batches; the reference sees whole sequences at once.
async fn chain(gpu: &Gpu, format: CacheFormat, window: usize, tables: [[u32; 3]; 2]) -> Result<Difference, String> {
    let heads = Shape { window, ..CHAIN };
    let (query, kv) = (heads.query_heads * HEAD_DIM, heads.kv_heads * HEAD_DIM);
    let token_values = query + 2 * kv;
    let positions: usize = BATCHES.iter().map(|batch| batch[0]).sum();
    let mut random = Random::new(77);
    let mut all = [0, 1].map(|_| random.normals(positions * token_values, 1.3));
    let sinks = random.normals(heads.query_heads, 1.0);

    let cache = vec![NEVER_SEEN; BLOCKS * BLOCK_TOKENS * kv];
    let (keys, values) = (cache_from(gpu, &cache, format), cache_from(gpu, &cache, format));
    let table = gpu.storage_from("table", &YARN.table(positions));
    let sinks_buffer = gpu.storage_from("sinks", &sinks);
    let mut got = [Vec::new(), Vec::new()];
    let mut sequences = tables.map(|table| Sequence { first_position: 0, tokens: 0, table: table.to_vec() });
    for tokens in BATCHES {
        let mut part = Vec::new();
        for ((sequence, tokens), qkv) in sequences.iter_mut().zip(tokens).zip(&all) {
            sequence.first_position += sequence.tokens;
            sequence.tokens = tokens;
            part.extend_from_slice(&qkv[sequence.first_position * token_values..][..tokens * token_values]);
        }
        let bench = Bench::new(gpu, batch(tokens[0] + tokens[1]));
        let out = bench.output((tokens[0] + tokens[1]) * query);
        let to_attend = Buffers {
            step: &bench.step_buffer,
            qkv: &gpu.storage_from("qkv", &part),
            sinks: &sinks_buffer,
            out: &out,
            keys: &keys,
            values: &values,
            status: &bench.status_buffer,
            rows: &bench.rows(&sequences),
        };
        rope_and_attention(&bench, &to_attend, &table, heads, format);
        let out: Vec<f32> = bench.read(&out).await?;
        let (first, second) = out.split_at(tokens[0] * query);
        got[0].extend_from_slice(first);
        got[1].extend_from_slice(second);
    }

    let mut want = Vec::new();
    for qkv in &mut all {
        for (position, token) in qkv.chunks_exact_mut(token_values).enumerate() {
            ops::rope::reference(&mut token[..query + kv], position, &YARN);
        }
        let column = |from: usize, width: usize| -> Vec<f32> {
            qkv.chunks_exact(token_values).flat_map(|token| token[from..][..width].to_vec()).collect()
        };
        let (keys, values) = (column(query, kv), column(query + kv, kv));
        for (position, token) in qkv.chunks_exact(token_values).enumerate() {
            want.extend(ops::attention::reference(&token[..query], &keys, &values, &sinks, position, heads));
        }
    }
    // Here the cache's own rounding counts too: scores have an error of about 2^−11 · |score|.
    let tolerance = if format == CacheFormat::F16 { Tolerance::new(1e-2, 1e-3) } else { TOLERANCE };
    compare("out", &got.concat(), &want, tolerance)
}

fn rope_and_attention(
    bench: &Bench<'_>,
    to_attend: &Buffers<&GpuBuffer>,
    table: &GpuBuffer,
    heads: Shape,
    format: CacheFormat,
) {
    let &Buffers { step, qkv, keys, values, status, rows, .. } = to_attend;
    let rope_params = rope::Params {
        query_heads: heads.query_heads as u32,
        kv_heads: heads.kv_heads as u32,
        table_first: TABLE_FIRST,
        layer: 1,
    };
    bench.run_calls(&[
        rope::call(format, &rope::Buffers { step, qkv, table, keys, values, status, rows }, rope_params),
        attention::call(format, to_attend, params(heads)),
    ]);
}

gpu_test! {
    async fn batches_through_scattered_blocks_give_what_whole_sequences_give() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("rope and attention");
        for format in [CacheFormat::F32, CacheFormat::F16] {
            for (window, tables) in [(CHAIN.window, WINDOW_TABLES), (0, TABLES)] {
                let outcome = chain(&gpu, format, window, tables).await;
                report.row(&format!("{format:?}, window {window}, blocks {tables:?}, seed 77"), outcome);
            }
        }
        report.finish();
    }
}
