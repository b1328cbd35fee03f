//! Values that are not finite: every kernel passes them on, and those that look say where they were found. What is
//! checked are bits, on the device and here.

use gptoss_model::{CacheFormat, NotFinite, Place, ops};
use std::rc::Rc;

use gptoss_gguf::WeightType;
use gptoss_gguf::numbers::Encoding;
use gptoss_kernels::experts::{self, Arena, SlotLayout};
use gptoss_kernels::norm::Normed;
use gptoss_kernels::{Gpu, GpuOptions, Kernels, Operation, attention, matmul, rope, router};
use gptoss_model::ops::experts::ExpertFormats;
use gptoss_model::ops::rope::HEAD_DIM;
use gptoss_model::ops::router::Route;

use crate::support::bench::{Bench, batch};
use crate::support::blocks::{BLOCK_TOKENS, Sequence, TABLE_FIRST};
use crate::support::random::Random;
use crate::support::seam::{self, gpu_test};
use crate::support::weights::{Uploader, file_bytes};

const LAYER: u32 = 3;
const BROKEN: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn with(values: &[f32], at: usize, value: f32) -> Vec<f32> {
    let mut values = values.to_vec();
    values[at] = value;
    values
}

fn finite(values: &[f32]) -> Vec<bool> {
    values.iter().map(|value| value.is_finite()).collect()
}

async fn found(bench: &Bench<'_>) -> Option<NotFinite> {
    bench.status().await.expect("the device works").not_finite()
}

fn at(place: Place) -> Option<NotFinite> {
    Some(NotFinite { layer: LAYER, place })
}

/// Two query heads and a key-value head of three tokens.
async fn rope_of(gpu: &Gpu, kernels: &Kernels, format: CacheFormat, qkv: &[f32]) -> Option<NotFinite> {
    let bench = Bench::new(gpu, batch(3));
    let cache = || gpu.storage("cache", (2 * BLOCK_TOKENS * HEAD_DIM) as u64 * format.size_bytes());
    let table = super::rope::YARN.table(4);
    let buffers = rope::Buffers {
        step: &bench.step_buffer,
        qkv: &gpu.storage_from("qkv", qkv),
        table: &gpu.storage_from("table", &table),
        keys: &cache(),
        values: &cache(),
        status: &bench.status_buffer,
        rows: &bench.rows(&[Sequence { first_position: 1, tokens: 3, table: vec![1] }]),
    };
    let params = rope::Params { query_heads: 2, kv_heads: 1, table_first: TABLE_FIRST, layer: LAYER };
    bench.run_with(kernels, &[rope::call(format, &buffers, params)]);
    found(&bench).await
}

gpu_test! {
    async fn queries_keys_and_values_are_looked_at_before_the_cache() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let qkv = Random::new(1).normals(3 * 4 * HEAD_DIM, 1.0);
        for format in [CacheFormat::F16, CacheFormat::F32] {
            let kernels = Kernels::compile(&gpu, [Operation::Rope(format)]);
            assert_eq!(rope_of(&gpu, &kernels, format, &qkv).await, None);
            let token = 2 * 4 * HEAD_DIM;
            for (what, place) in [("query", token + 70), ("key", token + 2 * HEAD_DIM + 33), ("value", token + 255)] {
                for value in BROKEN {
                    let got = rope_of(&gpu, &kernels, format, &with(&qkv, place, value)).await;
                    assert_eq!(got, at(Place::Projections), "{format:?}: a {what} of {value}");
                }
                // A rotated key of 1e5 has a component beyond 65504 at every angle.
                let overflows = format == CacheFormat::F16 && what != "query";
                for value in [1e5, -1e5, 1e30] {
                    let got = rope_of(&gpu, &kernels, format, &with(&qkv, place, value)).await;
                    let want = if overflows { at(Place::Cache) } else { None };
                    assert_eq!(got, want, "{format:?}: a {what} of {value}");
                }
            }
            let largest = with(&qkv, token + 255, 65504.0);
            assert_eq!(rope_of(&gpu, &kernels, format, &largest).await, None, "{format:?}: the largest half");
        }
    }
}

gpu_test! {
    /// Covers the norm before the first layer, and the products that read it.
    async fn a_norm_passes_it_on() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let x = Random::new(2).normals(3 * 96, 1.0);
        let uploader = Uploader::new(&gpu, &[WeightType::F32]);
        let one_hot: Vec<u8> = (0..4 * 96).flat_map(|at| f32::from(u8::from(at % 97 == 0)).to_le_bytes()).collect();
        let matrix = uploader.matrix(WeightType::F32, 4, 96, &one_hot).expect("it fits");
        // The last: numbers whose squares are infinite.
        for value in BROKEN.into_iter().chain([1e25]) {
            let broken = with(&x, 137, value);
            let bench = Bench::new(&gpu, batch(3));
            let (activations, y) = (bench.output(296), bench.output(12));
            let (step, status) = (&bench.step_buffer, &bench.status_buffer);
            let ones = gpu.storage_from("norm", &[1.0f32; 96]);
            let nothing = gpu.storage_from("nothing", &[0u32; 2]);
            let normed = Normed { squares_first: 288, squares: 2, epsilon: 1e-5 };
            let (layer, hidden) = (LAYER, 96);
            let shape = experts::Shape { layer, hidden, ff: 32, experts: 1, experts_per_token: 0, normed };
            let of_experts = experts::Buffers {
                step,
                x: &activations,
                biases: &nothing,
                h: &nothing,
                y: &nothing,
                residual: &gpu.storage_from("x", &broken),
                norm: &ones,
                routes: &nothing,
                page_table: &nothing,
                status,
            };
            let buffers = matmul::Buffers { step, x: &activations, bias: None, y: &y, status };
            let target = matmul::Target { y_first: 0, y_stride: 4, layer: LAYER, head: false, normed };
            let product = matmul::call(&matrix.shards[0].by_ref(), &buffers, target);
            bench.run_calls(&[experts::combine(&of_experts, shape), product]);
            let y: Vec<f32> = bench.read(&y).await.expect("the device works");
            let rows: Vec<bool> = y.chunks(4).map(|row| finite(row).contains(&true)).collect();
            assert_eq!(rows, [true, false, true], "{value}");
            assert_eq!(found(&bench).await, None, "the first layer's projections tell");
        }
    }
}

/// One query head over a window of the last four of twenty positions; keys, values [20, 64]. Where the block goes on,
/// and in the block of nobody, is no number.
async fn attention_of(gpu: &Gpu, kernels: &Kernels, [q, keys, values, sinks]: [&[f32]; 4]) -> Vec<f32> {
    let bench = Bench::new(gpu, batch(1));
    let out = bench.output(HEAD_DIM);
    let cache = |positions: &[f32]| {
        let mut blocks = vec![f32::NAN; 2 * BLOCK_TOKENS * HEAD_DIM];
        blocks[BLOCK_TOKENS * HEAD_DIM..][..positions.len()].copy_from_slice(positions);
        gpu.storage_from("cache", &blocks)
    };
    let buffers = attention::Buffers {
        step: &bench.step_buffer,
        qkv: &gpu.storage_from("qkv", &[q, &[0.0; 2 * HEAD_DIM]].concat()),
        sinks: &gpu.storage_from("sinks", sinks),
        out: &out,
        keys: &cache(keys),
        values: &cache(values),
        status: &bench.status_buffer,
        rows: &bench.rows(&[Sequence { first_position: 19, tokens: 1, table: vec![1] }]),
    };
    let params = attention::Params {
        query_heads: 1,
        kv_heads: 1,
        window: 4,
        table_first: TABLE_FIRST,
        layer: LAYER,
        padding: [0; 3],
    };
    bench.run_with(kernels, &[attention::call(CacheFormat::F32, &buffers, params)]);
    bench.read(&out).await.expect("the device works")
}

gpu_test! {
    async fn attention_passes_it_on() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let kernels = Kernels::compile(&gpu, [Operation::Attention(CacheFormat::F32)]);
        let mut random = Random::new(3);
        let q = random.normals(HEAD_DIM, 1.0);
        let [keys, values] = [0, 1].map(|_| random.normals(20 * HEAD_DIM, 1.0));
        let sinks = [0.5f32];
        let sound = attention_of(&gpu, &kernels, [&q, &keys, &values, &sinks]).await;
        assert!(sound.iter().all(|value| value.is_finite()));
        let (outside, inside) = (15 * HEAD_DIM + 3, 17 * HEAD_DIM + 3);
        for value in BROKEN {
            let unseen = [&q[..], &with(&keys, outside, value), &with(&values, outside, value), &sinks];
            assert_eq!(attention_of(&gpu, &kernels, unseen).await, sound, "{value} outside the window");
            let broken = [
                attention_of(&gpu, &kernels, [&with(&q, 5, value), &keys, &values, &sinks]).await,
                attention_of(&gpu, &kernels, [&q, &with(&keys, inside, value), &values, &sinks]).await,
                attention_of(&gpu, &kernels, [&q, &keys, &values, &[value]]).await,
            ];
            for (out, what) in broken.iter().zip(["query", "key", "sink"]) {
                assert!(!finite(out).contains(&true), "{value} in a {what}: {out:?}");
            }
            let out = attention_of(&gpu, &kernels, [&q, &keys, &with(&values, inside, value), &sinks]).await;
            assert_eq!(finite(&out).iter().filter(|is_finite| !**is_finite).count(), 1, "{value} in a value");
        }
        // A score of −∞, from numbers that are finite.
        let large = [with(&q, 3, 1e25), with(&keys, inside, -1e25)];
        let out = attention_of(&gpu, &kernels, [&large[0], &large[1], &values, &sinks]).await;
        assert!(!finite(&out).contains(&true), "a score that overflows: {out:?}");
    }
}

/// Eight experts, four of which a token takes: where something was found, and the choices.
async fn routes_of(gpu: &Gpu, kernels: &Kernels, [x, weight, bias]: [&[f32]; 3]) -> (Option<NotFinite>, Vec<Route>) {
    let bench = Bench::new(gpu, batch(1));
    let first = 4 * LAYER as usize;
    let routes = gpu.storage_from("routes", &vec![Route { expert: 0, weight: 0.0 }; first + 4]);
    let table: Vec<u32> = (0..8 * (LAYER + 1)).map(|at| at % 8).collect();
    let buffers = router::Buffers {
        step: &bench.step_buffer,
        x: &gpu.storage_from("x", x),
        weight: &gpu.storage_from("weight", weight),
        bias: &gpu.storage_from("bias", bias),
        routes: &routes,
        page_table: &gpu.storage_from("page table", &table),
        last_used: &gpu.storage_from("last used", &table),
        status: &bench.status_buffer,
    };
    let (columns, experts_per_token, layer) = (40, 4, LAYER);
    let (squares_first, squares, epsilon, padding) = (0, 0, 0.0, 0);
    let params =
        router::Params { columns, experts: 8, experts_per_token, layer, squares_first, squares, epsilon, padding };
    bench.run_with(kernels, &[router::call(&buffers, params)]);
    (found(&bench).await, bench.read(&routes).await.expect("the device works").split_off(first))
}

gpu_test! {
    async fn the_router_says_so_and_lets_experts_be_pruned() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let kernels = Kernels::compile(&gpu, [Operation::Router]);
        let mut random = Random::new(4);
        let (x, weight) = (random.normals(40, 1.0), random.normals(8 * 40, 0.2));
        let bias = random.normals(8, 0.5);
        let broken = at(Place::Router);
        for value in BROKEN {
            let (place, _) = routes_of(&gpu, &kernels, [&with(&x, 7, value), &weight, &bias]).await;
            assert_eq!(place, broken, "an input of {value}");
            for expert in 0..8 {
                let weight = with(&weight, expert * 40 + 11, value);
                assert_eq!(routes_of(&gpu, &kernels, [&x, &weight, &bias]).await.0, broken, "a weight of {value}");
                let bias = with(&bias, expert, value);
                let (place, got) = routes_of(&gpu, &kernels, [&x, &weight_of(&weight), &bias]).await;
                let want = ops::router::reference(&x, &weight_of(&weight), &bias, 4);
                let is_sound = want.iter().all(|route| route.weight.is_finite());
                assert_eq!(place, if is_sound { None } else { broken }, "a bias of {value}");
                if is_sound {
                    let experts = |routes: &[Route]| routes.iter().map(|route| route.expert).collect::<Vec<_>>();
                    assert_eq!(experts(&got), experts(&want));
                }
            }
        }
        let pruned = |count: usize| {
            bias.iter().enumerate().map(|(e, &b)| if e < count { f32::NEG_INFINITY } else { b }).collect::<Vec<f32>>()
        };
        let (place, routes) = routes_of(&gpu, &kernels, [&x, &weight, &pruned(4)]).await;
        assert_eq!(place, None, "four experts are left");
        assert!(routes.iter().all(|route| route.expert >= 4 && route.weight.is_finite()), "{routes:?}");
        assert_eq!(routes_of(&gpu, &kernels, [&x, &weight, &pruned(5)]).await.0, broken, "three experts are left");
    }
}

/// The weights with what was broken in them mended.
fn weight_of(weight: &[f32]) -> Vec<f32> {
    weight.iter().map(|&w| if w.is_finite() { w } else { 0.1 }).collect()
}

gpu_test! {
    /// One expert; what its biases make of it, in one launch for gate and up and in one for each.
    async fn experts_pass_it_on_and_the_sum_says_so() {
        let gpu = seam::open(&GpuOptions::default()).await;
        for up in [WeightType::F32, WeightType::F16] {
            let formats = ExpertFormats { gate: WeightType::F32, up, down: WeightType::F32 };
            // Biases of gate, of up, of down.
            for place in [0, FF, 2 * FF] {
                for value in BROKEN.into_iter().chain([30.0]) {
                    let (found, h) = one_expert(&gpu, formats, place + 9, value).await;
                    let want = if value.is_finite() { None } else { at(Place::Experts) };
                    assert_eq!(found, want, "a bias of {value} at {place}, {formats:?}");
                    let is_broken = !value.is_finite() && place < 2 * FF;
                    assert_eq!(h[9].is_finite(), !is_broken, "a bias of {value} at {place}, {formats:?}");
                    assert!(h.iter().enumerate().all(|(row, value)| row == 9 || value.is_finite()));
                }
            }
        }
    }
}

const HIDDEN: usize = 64;
const FF: usize = 32;

/// What is found of an expert whose bias `at` is `value`, and its activations, [FF].
async fn one_expert(gpu: &Gpu, formats: ExpertFormats, at: usize, value: f32) -> (Option<NotFinite>, Vec<f32>) {
    let slot = SlotLayout::new(formats, HIDDEN as u64, FF as u64);
    let arena = Arena { buffer: Rc::new(gpu.storage("arena", slot.slot_bytes)), first_slot: 0, slots: 1 };
    let shape = experts::Shape {
        layer: LAYER,
        hidden: HIDDEN as u32,
        ff: FF as u32,
        experts: 1,
        experts_per_token: 1,
        normed: Normed { squares_first: HIDDEN as u32, ..Normed::default() },
    };
    let bench = Bench::new(gpu, batch(1));
    let (h, y) = (bench.output(FF), bench.output(HIDDEN));
    let buffers = experts::Buffers {
        step: &bench.step_buffer,
        x: &gpu.storage_from("x", &[0.5f32; HIDDEN + 1]),
        biases: &gpu.storage_from("biases", &with(&[0.25; 2 * FF + HIDDEN], at, value)),
        h: &h,
        y: &y,
        residual: &gpu.storage_from("residual", &[1.0f32; HIDDEN]),
        norm: &gpu.storage_from("norm", &[1.0f32; HIDDEN]),
        routes: &gpu.storage_from("routes", &[Route { expert: 0, weight: 1.0 }; LAYER as usize + 1]),
        page_table: &gpu.storage_from("page table", &[0u32; LAYER as usize + 1]),
        status: &bench.status_buffer,
    };
    let arena = arena.by_ref();
    let mut calls = experts::gate_up(&arena, &slot, &buffers, shape);
    calls.extend([experts::down(&arena, &slot, &buffers, shape), experts::combine(&buffers, shape)]);
    bench.run_calls(&calls);
    (found(&bench).await, bench.read(&h).await.expect("the device works"))
}

/// A scale or a minimum that is not finite: the row that holds it gives nothing finite, other rows what they gave.
/// matmul.rs calls it, which has the kernels of every format.
pub async fn scales_are_passed_on(uploader: &Uploader<'_>, kernels: &Kernels, format: WeightType) {
    let columns = 3 * format.block_weights() as usize;
    let clean = file_bytes(&mut Random::new(5), format, 4, columns);
    let x = Random::new(6).normals(columns, 1.0);
    let sound = products(uploader, (kernels, format), &clean, &x).await;
    assert!(sound.iter().all(|y| y.is_finite()), "{format:?}");
    // The second block of the third row.
    let block = 7 * format.block_bytes() as usize;
    let broken_numbers = format.numbers().iter().flat_map(|n| [0x7e00u16, 0x7c00, 0xfc00].map(|bits| (n, bits)));
    for (number, bits) in broken_numbers {
        let mut broken = clean.clone();
        match number.encoding {
            Encoding::E8m0 => broken[block + number.at] = 255,
            _ => broken[block + number.at..][..2].copy_from_slice(&bits.to_le_bytes()),
        }
        assert!(format.decode(&broken).iter().any(|w| !w.is_finite()), "{format:?}: the reference");
        let got = products(uploader, (kernels, format), &broken, &x).await;
        assert_eq!(finite(&got), [true, true, false, true], "{format:?} {bits:#06x}: {got:?}");
        assert!(got.iter().zip(&sound).enumerate().all(|(row, (got, want))| row == 2 || got == want));
    }
}

async fn products(
    uploader: &Uploader<'_>,
    (kernels, format): (&Kernels, WeightType),
    bytes: &[u8],
    x: &[f32],
) -> Vec<f32> {
    let gpu = uploader.gpu();
    let matrix = uploader.matrix(format, 4, x.len(), bytes).expect("it fits");
    let bench = Bench::new(gpu, batch(1));
    let y = bench.output(4);
    let x = gpu.storage_from("x", x);
    let buffers = matmul::Buffers { step: &bench.step_buffer, x: &x, bias: None, y: &y, status: &bench.status_buffer };
    let target = matmul::Target { y_first: 0, y_stride: 4, layer: LAYER, head: false, normed: Normed::default() };
    let [shard] = &matrix.shards[..] else { panic!("{} shards, expected one", matrix.shards.len()) };
    bench.run_with(kernels, &[matmul::call(&shard.by_ref(), &buffers, target)]);
    bench.read(&y).await.expect("the device works")
}
