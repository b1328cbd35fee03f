//! RoPE and writing the cache: two products and a sum in F32 from a table rounded once. Values go into the cache as
//! they are; an F16 cache rounds, and WGSL lets a device round either way: one F16 ulp, 2^−10.

use gptoss_kernels::rope::{self, Buffers, Params};
use gptoss_kernels::{Gpu, GpuBuffer, GpuOptions};
use gptoss_model::ops::rope::{HEAD_DIM, Yarn};
use gptoss_model::{CacheFormat, ops};

use crate::support::bench::{Bench, batch};
use crate::support::blocks::{BLOCK_TOKENS, TABLE_FIRST, scattered};
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const TOLERANCE: Tolerance = Tolerance::new(1e-6, 3e-7);
const F16_TOLERANCE: Tolerance = Tolerance::new(1e-6, 1.0 / 1024.0);

/// gpt-oss as OpenAI defines it.
pub const YARN: Yarn =
    Yarn { base: 150_000.0, factor: 32.0, original_context: 4096.0, beta_fast: 32.0, beta_slow: 1.0, truncate: false };

/// What the cache holds before.
const OLD: f32 = 0.5;

#[derive(Debug)]
struct Row {
    query_heads: usize,
    kv_heads: usize,
    /// First position and tokens of each sequence.
    spans: &'static [(usize, usize)],
    /// Blocks that all of them begin with.
    shared: usize,
}

const fn row((query_heads, kv_heads): (usize, usize), spans: &'static [(usize, usize)], shared: usize) -> Row {
    Row { query_heads, kv_heads, spans, shared }
}

const TABLE: [Row; 12] = [
    row((2, 1), &[(0, 1)], 0),
    row((64, 8), &[(4095, 1)], 0),
    row((64, 8), &[(5, 3)], 0),
    row((6, 3), &[(0, 8)], 0),
    row((6, 2), &[(3, 9)], 0),
    // Up to a boundary of blocks, from one on, over one, and well beyond.
    row((6, 2), &[(60, 4)], 0),
    row((3, 1), &[(64, 5)], 0),
    row((4, 2), &[(63, 3)], 0),
    row((8, 1), &[(130, 9)], 0),
    row((3, 3), &[(1000, 64)], 0),
    // Several sequences.
    row((6, 3), &[(0, 5), (62, 4)], 0),
    row((4, 2), &[(70, 3), (64, 1), (190, 9)], 1),
];

/// Reads a whole cache as F32.
pub async fn read_cache(bench: &Bench<'_>, buffer: &GpuBuffer, format: CacheFormat) -> Result<Vec<f32>, String> {
    match format {
        CacheFormat::F32 => bench.read::<f32>(buffer).await,
        CacheFormat::F16 => Ok(bench.read::<half::f16>(buffer).await?.iter().map(|v| v.to_f32()).collect()),
    }
}

/// A cache that holds `values`.
pub fn cache_from(gpu: &Gpu, values: &[f32], format: CacheFormat) -> GpuBuffer {
    match format {
        CacheFormat::F32 => gpu.storage_from("cache", values),
        CacheFormat::F16 => {
            let rounded: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
            gpu.storage_from("cache", &rounded)
        }
    }
}

async fn check(gpu: &Gpu, format: CacheFormat, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let (query, kv) = (row.query_heads * HEAD_DIM, row.kv_heads * HEAD_DIM);
    let token_values = query + 2 * kv;
    // A token writes one position.
    let (sequences, blocks) = scattered(seed, row.spans, row.shared, 1);
    let positions = || sequences.iter().flat_map(|it| it.positions().map(move |position| (it, position)));
    let tokens = positions().count();
    let qkv = random.normals(tokens * token_values, 1.5);
    let table = YARN.table(positions().map(|(_, position)| position + 1).max().unwrap_or(0));

    let bench = Bench::new(gpu, batch(tokens));
    let (qkv_buffer, table_buffer) = (gpu.storage_from("qkv", &qkv), gpu.storage_from("table", &table));
    let old = vec![OLD; blocks * BLOCK_TOKENS * kv];
    let (keys, values) = (cache_from(gpu, &old, format), cache_from(gpu, &old, format));
    let buffers = Buffers {
        step: &bench.step_buffer,
        qkv: &qkv_buffer,
        table: &table_buffer,
        keys: &keys,
        values: &values,
        status: &bench.status_buffer,
        rows: &bench.rows(&sequences),
    };
    let params = Params {
        query_heads: row.query_heads as u32,
        kv_heads: row.kv_heads as u32,
        table_first: TABLE_FIRST,
        layer: 1,
    };
    bench.run_calls(&[rope::call(format, &buffers, params)]);

    let (mut want_qkv, mut want_keys, mut want_values) = (qkv.clone(), old.clone(), old);
    for (token, (sequence, position)) in positions().enumerate() {
        let source = &qkv[token * token_values..][..token_values];
        ops::rope::reference(&mut want_qkv[token * token_values..][..query], position, &YARN);
        let mut key = source[query..][..kv].to_vec();
        ops::rope::reference(&mut key, position, &YARN);
        let at = sequence.cached_at(position).ok_or("the block of a token is its own")? * kv;
        want_keys[at..][..kv].copy_from_slice(&key);
        want_values[at..][..kv].copy_from_slice(&source[query + kv..]);
    }
    let cached = if format == CacheFormat::F16 { F16_TOLERANCE } else { TOLERANCE };
    let queries = compare("qkv", &bench.read(&qkv_buffer).await?, &want_qkv, TOLERANCE)?;
    let keys = compare("keys", &read_cache(&bench, &keys, format).await?, &want_keys, cached)?;
    let exact = if format == CacheFormat::F16 { F16_TOLERANCE } else { Tolerance::EXACT };
    let values = compare("values", &read_cache(&bench, &values, format).await?, &want_values, exact)?;
    Ok(queries.max(keys).max(values))
}

gpu_test! {
    async fn rope_is_the_reference() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("rope");
        for format in [CacheFormat::F32, CacheFormat::F16] {
            for (seed, row) in (400..).zip(&TABLE) {
                report.row(&format!("{format:?} {row:?}, seed {seed}"), check(&gpu, format, row, seed).await);
            }
        }
        report.finish();
    }
}
