//! What a head looks at, over caches as those of `attention.rs`. Weights are below 1, and so are their errors: those of the
//! scores, and `exp` of them.

use gptoss_kernels::attention_row::{self, Buffers};
use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::CacheFormat;
use gptoss_model::ops::attention::{Shape, row_reference};
use gptoss_model::ops::rope::HEAD_DIM;

use crate::attention::{Row, cache_of, cached, params, row};
use crate::rope::cache_from;
use crate::support::bench::{Bench, SENTINEL, batch};
use crate::support::blocks::scattered;
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const TOLERANCE: Tolerance = Tolerance::new(1e-7, 2e-5);

const TABLE: [Row; 9] = [
    row((2, 1), 128, &[(0, 1)]),
    row((4, 2), 128, &[(160, 3)]),
    // The window starts to move at position 128.
    row((4, 2), 128, &[(121, 9)]),
    row((6, 2), 0, &[(16, 7)]),
    row((3, 3), 1, &[(40, 8)]),
    // More keys than lanes.
    row((16, 2), 0, &[(700, 2)]),
    row((8, 4), 300, &[(500, 9)]),
    // Several sequences: the last one's last token counts.
    row((8, 4), 16, &[(5, 2), (300, 3), (63, 2)]),
    Row { sink: 20.0, ..row((4, 2), 70, &[(132, 3)]) },
];

async fn check(gpu: &Gpu, format: CacheFormat, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let Shape { query_heads, kv_heads, window } = row.heads;
    let (sequences, blocks) = scattered(seed, row.spans, row.shared, window);
    let (heads, kv) = (query_heads + 2 * kv_heads, kv_heads * HEAD_DIM);
    let all_keys: Vec<Vec<f32>> =
        sequences.iter().map(|it| cached(&mut random, it.positions().end * kv, row.spread, format)).collect();
    let sinks: Vec<f32> = random.normals(query_heads, 2.0).iter().map(|s| s + row.sink as f32).collect();
    let tokens = sequences.iter().map(|sequence| sequence.tokens).sum();
    let qkv = random.normals(tokens * heads * HEAD_DIM, row.spread);
    let position = sequences.last().expect("there are some").positions().end - 1;
    let keys = cache_from(gpu, &cache_of(&sequences, &all_keys, blocks, kv), format);

    let mut worst = Difference::default();
    for head in [0, query_heads / 2, query_heads - 1] {
        let bench = Bench::new(gpu, batch(tokens));
        let out = bench.output(position + 4);
        let buffers = Buffers {
            step: &bench.step_buffer,
            qkv: &gpu.storage_from("qkv", &qkv),
            sinks: &gpu.storage_from("sinks", &sinks),
            row: &out,
            keys: &keys,
            values: &gpu.storage_from("values", &[0u32; 4]),
            status: &bench.status_buffer,
            rows: &bench.rows(&sequences),
            watched: &gpu.storage_from("watched", &[head as u32]),
        };
        bench.run_calls(&[attention_row::call(format, &buffers, params(row.heads))]);

        let query = &qkv[(tokens - 1) * heads * HEAD_DIM..][..query_heads * HEAD_DIM];
        let keys = all_keys.last().expect("there are some");
        let want = row_reference(query, keys, &sinks, position, (head, row.heads));
        let mut want: Vec<f32> = [want.sink].into_iter().chain(want.weights).collect();
        let got: Vec<f32> = bench.read(&out).await?;
        let total: f64 = got[..want.len()].iter().map(|&weight| f64::from(weight)).sum();
        if (total - 1.0).abs() > 1e-5 {
            return Err(format!("head {head}: the weights sum to {total}"));
        }
        want.resize(got.len(), SENTINEL);
        worst = worst.max(compare(&format!("row of head {head}"), &got, &want, TOLERANCE)?);
    }
    Ok(worst)
}

gpu_test! {
    async fn a_row_is_the_reference() {
        let mut report = Report::new("attention_row");
        let gpu = seam::open(&GpuOptions::default()).await;
        for format in [CacheFormat::F32, CacheFormat::F16] {
            for (seed, row) in (900..).zip(&TABLE) {
                let outcome = check(&gpu, format, row, seed).await;
                report.row(&format!("{format:?} {row:?}, seed {seed}"), outcome);
            }
        }
        report.finish();
    }
}
