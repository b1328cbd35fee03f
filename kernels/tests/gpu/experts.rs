//! The chosen experts, from slots in one or several arenas. Two matrix products in F32 with SwiGLU between, which takes
//! values to 56 (7 · 8); results are about 10, and the bound is absolute for the reason given in matmul.rs.

use gptoss_model::ops;
use std::rc::Rc;

use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_kernels::experts::{self, Arena, Buffers, Shape, SlotLayout};
use gptoss_kernels::repack::Destination;
use gptoss_kernels::router::MISS;
use gptoss_kernels::{Gpu, GpuBuffer, GpuOptions};
use gptoss_model::ops::experts::{ExpertFormats, ExpertRows, ExpertWeights};
use gptoss_model::ops::router::Route;

use crate::support::bench::{Bench, SENTINEL, batch};
use crate::support::compare::{Difference, Tolerance, compare};
use crate::support::normed::{EPSILON, normed, with_squares};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test, sized};
use crate::support::weights::{Uploader, file_bytes};

const TOLERANCE: Tolerance = Tolerance::new(3e-5, 2e-6);
const LAYERS: usize = 3;
const LAYER: usize = 2;

#[derive(Debug)]
struct Row {
    formats: ExpertFormats,
    hidden: usize,
    ff: usize,
    experts: usize,
    tokens: usize,
    /// Slots of each arena; together they hold the resident experts.
    arenas: &'static [usize],
}

const fn row(
    gate_up: WeightType,
    down: WeightType,
    (hidden, ff): (usize, usize),
    tokens: usize,
    experts: usize,
    arenas: &'static [usize],
) -> Row {
    Row { formats: ExpertFormats::new(gate_up, down), hidden, ff, experts, tokens, arenas }
}

/// The same with a format of its own for up.
const fn apart(up: WeightType, row: Row) -> Row {
    Row { formats: ExpertFormats { up, ..row.formats }, ..row }
}

use WeightType::{Bf16, F16, F32, Iq4Nl, Mxfp4, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

const TABLE: [Row; 23] = [
    row(Mxfp4, Mxfp4, (96, 160), 1, 6, &[6]),
    row(Mxfp4, Mxfp4, (96, 160), 9, 6, &[2, 3, 1]),
    row(Mxfp4, Mxfp4, (32, 288), 3, 5, &[1, 4]),
    row(Q8_0, Q8_0, (96, 32), 8, 7, &[3, 4]),
    row(F32, F32, (64, 96), 3, 5, &[5]),
    row(F16, F16, (64, 96), 3, 5, &[2, 3]),
    row(Bf16, Bf16, (64, 96), 3, 5, &[4, 1]),
    row(Q8_0, Mxfp4, (160, 96), 3, 5, &[3, 2]),
    row(Q4_0, Q4_1, (96, 160), 3, 5, &[3, 2]),
    row(Q5_0, Q5_1, (96, 160), 3, 5, &[3, 2]),
    row(Iq4Nl, Q5_0, (160, 96), 3, 5, &[3, 2]),
    row(Q4K, Q6K, (256, 768), 3, 5, &[3, 2]),
    row(Q5K, Iq4Nl, (768, 96), 3, 5, &[3, 2]),
    // Gate and up of different formats.
    apart(Mxfp4, row(Q8_0, Mxfp4, (96, 160), 1, 6, &[6])),
    apart(Q4_1, row(Mxfp4, Q8_0, (96, 160), 9, 8, &[2, 3])),
    apart(F32, row(Q5_0, F16, (160, 96), 3, 5, &[3, 2])),
    apart(Q4K, row(Mxfp4, Mxfp4, (256, 96), 3, 5, &[1, 4])),
    apart(Mxfp4, row(Bf16, Iq4Nl, (32, 288), 3, 5, &[5])),
    // Some experts are not resident, so nobody computes their pairs.
    row(Mxfp4, Mxfp4, (96, 160), 9, 8, &[2, 3]),
    row(Mxfp4, Mxfp4, (64, 32), 64, 33, &[10, 1]),
    // The two sides of 20b's 2880 × 2880, each with a short other side.
    row(Mxfp4, Mxfp4, (2880, sized(96, 32)), 1, 4, &[4]),
    row(Mxfp4, Mxfp4, (sized(96, 32), 2880), 3, 6, &[4, 2]),
    row(Mxfp4, Mxfp4, (sized(2880, 288), sized(2880, 288)), 1, 4, &[3, 1]),
];

/// One expert's file bytes and biases.
struct Expert {
    gate: Vec<u8>,
    up: Vec<u8>,
    down: Vec<u8>,
    gate_bias: Vec<f32>,
    up_bias: Vec<f32>,
    down_bias: Vec<f32>,
}

/// A layer in memory, and which expert is where.
struct Layer {
    experts: Vec<Expert>,
    /// Expert of each slot.
    resident: Vec<usize>,
    routes: Vec<Route>,
}

impl Layer {
    fn random(random: &mut Random, row: &Row) -> Self {
        let ExpertFormats { gate, up, down } = row.formats;
        let experts = (0..row.experts)
            .map(|_| Expert {
                gate: file_bytes(random, gate, row.ff, row.hidden),
                up: file_bytes(random, up, row.ff, row.hidden),
                down: file_bytes(random, down, row.hidden, row.ff),
                // So large that the clamps of SwiGLU matter.
                gate_bias: random.normals(row.ff, 4.0),
                up_bias: random.normals(row.ff, 4.0),
                down_bias: random.normals(row.hidden, 1.0),
            })
            .collect();
        let mut resident = random.permutation(row.experts);
        resident.truncate(row.arenas.iter().sum());
        let routes = (0..row.tokens)
            .flat_map(|_| {
                let order = random.permutation(row.experts);
                [0.4f32, 0.3, 0.2, 0.1].into_iter().zip(order)
            })
            .map(|(weight, expert)| Route { expert: expert as u32, weight })
            .collect();
        Self { experts, resident, routes }
    }

    /// Routes of the layers before it, which choose other experts.
    fn routes_before(&self) -> Vec<Route> {
        let other = |route: &Route| Route { expert: (route.expert + 1) % self.experts.len() as u32, weight: 3.0 };
        self.routes.iter().map(other).collect::<Vec<_>>().repeat(LAYER)
    }

    fn page_table(&self, row: &Row) -> Vec<u32> {
        let mut table = vec![MISS; LAYERS * row.experts];
        for (slot, &expert) in self.resident.iter().enumerate() {
            table[LAYER * row.experts + expert] = slot as u32;
        }
        table
    }

    fn biases(&self) -> Vec<f32> {
        let all = |of: fn(&Expert) -> &Vec<f32>| self.experts.iter().flat_map(of).copied().collect::<Vec<f32>>();
        [all(|e| &e.gate_bias), all(|e| &e.up_bias), all(|e| &e.down_bias)].concat()
    }

    /// The specification's result of each pair, or the sentinel where the expert is not resident.
    fn results(&self, row: &Row, x: &[f32]) -> Vec<f32> {
        let formats = row.formats;
        let per_token = self.routes.len() / row.tokens;
        let mut decoded: Vec<Option<[Vec<f32>; 3]>> = vec![None; row.experts];
        let mut results = Vec::new();
        for (pair, route) in self.routes.iter().enumerate() {
            let index = route.expert as usize;
            if !self.resident.contains(&index) {
                results.extend(vec![SENTINEL; row.hidden]);
                continue;
            }
            let expert = &self.experts[index];
            let [gate, up, down] = decoded[index].get_or_insert_with(|| {
                [formats.gate.decode(&expert.gate), formats.up.decode(&expert.up), formats.down.decode(&expert.down)]
            });
            let weights = ExpertWeights {
                gate,
                up,
                down,
                gate_bias: &expert.gate_bias,
                up_bias: &expert.up_bias,
                down_bias: &expert.down_bias,
            };
            let token = &x[pair / per_token * row.hidden..][..row.hidden];
            results.extend(ops::experts::reference(token, &weights).iter().map(|&v| v as f32));
        }
        results
    }
}

/// The arenas, filled as the loader would: gate and up rows interleave.
fn upload_arenas(
    gpu: &Gpu,
    uploader: &Uploader<'_>,
    layer: &Layer,
    row: &Row,
    slot: &SlotLayout,
) -> Vec<Arena<Rc<GpuBuffer>>> {
    let mut first_slot = 0;
    let mut arenas = Vec::new();
    for &slots in row.arenas {
        let buffer = gpu.storage("arena", slots as u64 * slot.slot_bytes);
        for (index, &expert) in layer.resident[first_slot..][..slots].iter().enumerate() {
            let at = index as u64 * slot.slot_bytes;
            let expert = &layer.experts[expert];
            let parts =
                [(ExpertRows::Gate, &expert.gate), (ExpertRows::Up, &expert.up), (ExpertRows::Down, &expert.down)];
            for (part, bytes) in parts {
                let rows = slot.place(part);
                let place = Destination {
                    buffer: &buffer,
                    planes_offset_bytes: at + rows.offset_bytes,
                    planes: rows.planes,
                    first_row: rows.first_row,
                    row_step: rows.row_step,
                    codes: CodeOrder::Halves,
                };
                uploader.rows(bytes, &place);
            }
        }
        arenas.push(Arena { buffer: Rc::new(buffer), first_slot: first_slot as u32, slots: slots as u32 });
        first_slot += slots;
    }
    arenas
}

async fn check(gpu: &Gpu, uploader: &Uploader<'_>, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let layer = Layer::random(&mut random, row);
    let slot = SlotLayout::new(row.formats, row.hidden as u64, row.ff as u64);
    let arenas = upload_arenas(gpu, uploader, &layer, row, &slot);
    let before = random.normals(row.tokens * row.hidden, 1.0);
    let [norm, next_norm] = [0, 1].map(|_| random.normals(row.hidden, 1.0));
    let x = ops::rms_norm::reference(&before, &norm, f64::from(EPSILON));
    let pairs = layer.routes.len();
    let shape = Shape {
        layer: LAYER as u32,
        hidden: row.hidden as u32,
        ff: row.ff as u32,
        experts: row.experts as u32,
        experts_per_token: (pairs / row.tokens) as u32,
        normed: normed(row.tokens, row.hidden),
    };

    let bench = Bench::new(gpu, batch(row.tokens));
    let (h, y) = (bench.output(pairs * row.ff), bench.output(pairs * row.hidden));
    let buffers = Buffers {
        step: &bench.step_buffer,
        x: &gpu.storage_from("x", &with_squares(&before, &norm)),
        biases: &gpu.storage_from("biases", &layer.biases()),
        h: &h,
        y: &y,
        residual: &gpu.storage_from("residual", &before),
        norm: &gpu.storage_from("norm", &next_norm),
        routes: &gpu.storage_from("routes", &[layer.routes_before(), layer.routes.clone()].concat()),
        page_table: &gpu.storage_from("page table", &layer.page_table(row)),
        status: &bench.status_buffer,
    };
    let arenas: Vec<_> = arenas.iter().map(Arena::by_ref).collect();
    bench.run_calls(&arenas.iter().flat_map(|it| experts::gate_up(it, &slot, &buffers, shape)).collect::<Vec<_>>());
    bench.run_calls(&arenas.iter().map(|it| experts::down(it, &slot, &buffers, shape)).collect::<Vec<_>>());
    bench.run_calls(&[experts::combine(&buffers, shape)]);

    let results = layer.results(row, &x);
    let got: Vec<f32> = bench.read(&y).await?;
    let of_pairs = compare("y", &got, &results, TOLERANCE)?;
    let got_h: Vec<f32> = bench.read(&h).await?;
    for (pair, route) in layer.routes.iter().enumerate() {
        let resident = layer.resident.contains(&(route.expert as usize));
        if !resident && got_h[pair * row.ff..][..row.ff].iter().any(|&v| v != SENTINEL) {
            return Err(format!("h: pair {pair} was written, but expert {} is not resident", route.expert));
        }
    }
    // The kernel sums what `y` holds, in the order of the choices.
    let mut want = before;
    for (pair, route) in layer.routes.iter().enumerate() {
        let token = pair * row.tokens / pairs;
        for column in 0..row.hidden {
            want[token * row.hidden + column] += route.weight * got[pair * row.hidden + column];
        }
    }
    // A fused multiply-add rounds once where this rounds twice.
    let scale = want.iter().fold(1.0f32, |scale, v| scale.max(v.abs()));
    let combined = compare(
        "residual",
        &bench.read(buffers.residual).await?,
        &want,
        Tolerance::new(f64::from(scale) * 3e-7, 3e-7),
    )?;
    let after = with_squares(&bench.read::<f32>(buffers.residual).await?, &next_norm);
    let halves = compare("normed", &bench.read(buffers.x).await?, &after, Tolerance::new(0.0, 1e-6))?;
    Ok(of_pairs.max(combined).max(halves))
}

gpu_test! {
    async fn experts_are_the_reference() {
        let mut report = Report::new("experts");
        for lanes in seam::GEOMETRIES {
            let gpu = seam::open(&GpuOptions { lanes_per_row: Some(lanes), ..GpuOptions::default() }).await;
            let uploader = Uploader::new(&gpu, &WeightType::ALL);
            for (seed, row) in (800..).zip(&TABLE) {
                let outcome = check(&gpu, &uploader, row, seed).await;
                report.row(&format!("{row:?}, {lanes} lanes to a row, seed {seed}"), outcome);
            }
        }
        report.finish();
    }
}
