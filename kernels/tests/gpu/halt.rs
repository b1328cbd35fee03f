//! After a miss at a layer, that layer's experts and everything of later layers leaves all results alone; everything
//! before, and the missing layer's attention and router, still works.

use std::rc::Rc;

use gptoss_gguf::WeightType;
use gptoss_kernels::experts::{self, Arena, SlotLayout};
use gptoss_kernels::norm::Normed;
use gptoss_kernels::router::{self, MISS};
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{
    Call, Gpu, GpuBuffer, GpuOptions, Kernels, Launch, Operation, Status, attention, attention_row, matmul,
    matmul_residual, rope,
};
use gptoss_model::CacheFormat;
use gptoss_model::ops::experts::ExpertFormats;
use gptoss_model::ops::rope::HEAD_DIM;
use gptoss_model::ops::router::Route;

use crate::support::bench::{Bench, SENTINEL, batch};
use crate::support::blocks::{BLOCK_TOKENS, Sequence, TABLE_FIRST};
use crate::support::compare::Difference;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const LAYER: u32 = 1;
const COLUMNS: usize = 64;
const FF: usize = 32;
const EXPERTS: usize = 4;
const TOKENS: usize = 2;
const STAMP_BEFORE: u32 = 99;

const FORMATS: ExpertFormats = ExpertFormats::new(WeightType::Mxfp4, WeightType::Mxfp4);

/// Compiled once for all rows.
fn kernels(gpu: &Gpu) -> Kernels {
    use WeightType::F32;
    let cache = CacheFormat::F32;
    let attention_half =
        [Operation::Matmul(F32), Operation::MatmulResidual(F32), Operation::Rope(cache), Operation::Attention(cache)];
    let attention_half = attention_half.into_iter().chain([Operation::AttentionRow(cache)]);
    let operations = attention_half.chain([Operation::Router]).chain(experts::operations(FORMATS));
    Kernels::compile(gpu, operations)
}

/// The buffers that all kernels of one layer work on; those that are written start as sentinels.
struct Layer<'a> {
    bench: Bench<'a>,
    kernels: &'a Kernels,
    input: GpuBuffer,
    output: GpuBuffer,
    second_output: GpuBuffer,
    keys: GpuBuffer,
    values: GpuBuffer,
    rows: GpuBuffer,
    routes: GpuBuffer,
    page_table: GpuBuffer,
    last_used: GpuBuffer,
    weights: Matrix,
    slot: SlotLayout,
    arena: Arena<Rc<GpuBuffer>>,
}

impl<'a> Layer<'a> {
    fn new(gpu: &'a Gpu, kernels: &'a Kernels, halt_layer: u32) -> Self {
        let bench = Bench::halted_at(gpu, batch(TOKENS), halt_layer);
        let output = || bench.output(4096);
        let route = |expert| Route { expert, weight: 0.25 };
        let routes: Vec<Route> = (0..(LAYER + 1) * TOKENS as u32 * 4).map(|pair| route(pair % 4)).collect();
        // Expert 3 is missing at every layer.
        let table: Vec<u32> = [0, 1, 2, MISS].repeat(LAYER as usize + 1);
        let weights = Matrix::allocate(gpu, "weights", WeightType::F32, 9, COLUMNS as u64).expect("fits any device");
        let slot = SlotLayout::new(FORMATS, COLUMNS as u64, FF as u64);
        let arena = Arena { buffer: Rc::new(gpu.storage("arena", 3 * slot.slot_bytes)), first_slot: 0, slots: 3 };
        Self {
            input: gpu.storage_from("input", &[0.25f32; 4096]),
            output: output(),
            second_output: output(),
            // A block of nobody and one of the tokens; one KV head.
            keys: bench.output(2 * BLOCK_TOKENS * HEAD_DIM),
            values: bench.output(2 * BLOCK_TOKENS * HEAD_DIM),
            rows: bench.rows(&[Sequence { first_position: 0, tokens: TOKENS, table: vec![1] }]),
            routes: gpu.storage_from("routes", &routes),
            page_table: gpu.storage_from("page table", &table),
            last_used: gpu.storage_from("last used", &vec![STAMP_BEFORE; table.len()]),
            bench,
            kernels,
            weights,
            slot,
            arena,
        }
    }

    /// All memory that a kernel of the layer may write, as words.
    async fn state(&self) -> Result<Vec<u32>, String> {
        let written = [
            &self.output,
            &self.second_output,
            &self.keys,
            &self.values,
            &self.routes,
            &self.last_used,
            &self.bench.status_buffer,
        ];
        let mut state = Vec::new();
        for buffer in written {
            state.extend(self.bench.read::<u32>(buffer).await?);
        }
        Ok(state)
    }

    fn matmul_residual(&self) -> Launch {
        let buffers = matmul_residual::Buffers {
            step: &self.bench.step_buffer,
            x: &self.input,
            vectors: &self.input,
            residual: &self.output,
            normed: &self.second_output,
            status: &self.bench.status_buffer,
        };
        let calls =
            matmul_residual::calls(&self.weights.by_ref(), &buffers, LAYER, 18, self.bench.gpu.rows_per_group());
        self.bind(&calls[0])
    }

    fn matmul(&self) -> Launch {
        let buffers = matmul::Buffers {
            step: &self.bench.step_buffer,
            x: &self.input,
            bias: None,
            y: &self.output,
            status: &self.bench.status_buffer,
        };
        let target = matmul::Target { y_first: 0, y_stride: 9, layer: LAYER, head: false, normed: Normed::default() };
        self.bind(&matmul::call(&self.weights.shards[0].by_ref(), &buffers, target))
    }

    fn rope(&self) -> Launch {
        let buffers = rope::Buffers {
            step: &self.bench.step_buffer,
            qkv: &self.output,
            table: &self.input,
            keys: &self.keys,
            values: &self.values,
            status: &self.bench.status_buffer,
            rows: &self.rows,
        };
        let params = rope::Params { query_heads: 2, kv_heads: 1, table_first: TABLE_FIRST, layer: LAYER };
        self.bind(&rope::call(CacheFormat::F32, &buffers, params))
    }

    fn attention(&self) -> Launch {
        let buffers = attention::Buffers {
            step: &self.bench.step_buffer,
            qkv: &self.input,
            sinks: &self.input,
            out: &self.output,
            keys: &self.keys,
            values: &self.values,
            status: &self.bench.status_buffer,
            rows: &self.rows,
        };
        let params = attention::Params {
            query_heads: 2,
            kv_heads: 1,
            window: 0,
            table_first: TABLE_FIRST,
            layer: LAYER,
            padding: [0; 3],
        };
        self.bind(&attention::call(CacheFormat::F32, &buffers, params))
    }

    fn attention_row(&self) -> Launch {
        let buffers = attention_row::Buffers {
            step: &self.bench.step_buffer,
            qkv: &self.input,
            sinks: &self.input,
            row: &self.output,
            keys: &self.keys,
            values: &self.values,
            status: &self.bench.status_buffer,
            rows: &self.rows,
            watched: &self.page_table,
        };
        let (query_heads, kv_heads, table_first) = (2, 1, TABLE_FIRST);
        let params = attention::Params { query_heads, kv_heads, window: 0, table_first, layer: LAYER, padding: [0; 3] };
        self.bind(&attention_row::call(CacheFormat::F32, &buffers, params))
    }

    fn router(&self) -> Launch {
        let buffers = router::Buffers {
            step: &self.bench.step_buffer,
            x: &self.input,
            weight: &self.input,
            bias: &self.input,
            routes: &self.routes,
            page_table: &self.page_table,
            last_used: &self.last_used,
            status: &self.bench.status_buffer,
        };
        let params = router::Params {
            columns: COLUMNS as u32,
            experts: EXPERTS as u32,
            experts_per_token: 4,
            layer: LAYER,
            squares_first: 0,
            squares: 0,
            epsilon: 0.0,
            padding: 0,
        };
        self.bind(&router::call(&buffers, params))
    }

    /// Gate and up, down, and the sum.
    fn experts(&self) -> Vec<Launch> {
        let (arena, slot) = (&self.arena.by_ref(), &self.slot);
        let buffers = experts::Buffers {
            step: &self.bench.step_buffer,
            x: &self.input,
            biases: &self.input,
            h: &self.output,
            y: &self.output,
            residual: &self.output,
            norm: &self.input,
            routes: &self.routes,
            page_table: &self.page_table,
            status: &self.bench.status_buffer,
        };
        let shape = experts::Shape {
            layer: LAYER,
            hidden: COLUMNS as u32,
            ff: FF as u32,
            experts: EXPERTS as u32,
            experts_per_token: 4,
            normed: Normed { squares_first: (TOKENS * COLUMNS) as u32, ..Normed::default() },
        };
        let mut calls = experts::gate_up(arena, slot, &buffers, shape);
        calls.extend([
            experts::down(arena, slot, &experts::Buffers { h: &self.input, ..buffers }, shape),
            experts::combine(&experts::Buffers { y: &self.input, x: &self.second_output, ..buffers }, shape),
        ]);
        calls.iter().map(|call| self.bind(call)).collect()
    }

    fn bind(&self, call: &Call<&GpuBuffer>) -> Launch {
        self.kernels.bind(self.bench.gpu, call)
    }

    /// Every kernel of the layer on its own: (launch, whether it is one of the experts').
    fn launches(&self) -> Vec<(Launch, bool)> {
        let attention = [self.attention(), self.attention_row()];
        let attention_half = [self.matmul(), self.rope(), self.matmul_residual(), self.router()];
        attention_half
            .into_iter()
            .chain(attention)
            .map(|launch| (launch, false))
            .chain(self.experts().into_iter().map(|launch| (launch, true)))
            .collect()
    }
}

async fn check(gpu: &Gpu, kernels: &Kernels, index: usize, halt_layer: u32) -> Result<(), String> {
    let layer = Layer::new(gpu, kernels, halt_layer);
    let before = layer.state().await?;
    let (launch, of_experts) = layer.launches().swap_remove(index);
    layer.bench.run(&[launch]);
    let changed = layer.state().await? != before;
    let runs = if of_experts { halt_layer > LAYER } else { halt_layer >= LAYER };
    match (changed, runs) {
        (true, false) => Err("it wrote something".to_owned()),
        (false, true) => Err("it wrote nothing".to_owned()),
        _ => Ok(()),
    }
}

gpu_test! {
    async fn kernels_after_a_miss_change_nothing_and_those_before_work() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let kernels = kernels(&gpu);
        let mut report = Report::new("halt");
        let names: Vec<_> =
            Layer::new(&gpu, &kernels, 0).launches().iter().map(|(launch, _)| launch.name()).collect();
        for (index, name) in names.iter().enumerate() {
            for halt_layer in [LAYER - 1, LAYER, LAYER + 1, Status::RUNNING] {
                let outcome = check(&gpu, &kernels, index, halt_layer).await.map(|()| Difference::default());
                report.row(&format!("{name} of layer {LAYER} after a halt at {halt_layer}"), outcome);
            }
        }
        report.finish();
    }
}

gpu_test! {
    /// Both tokens use the missing expert of the same layer: it counts once, and the first layer that missed stays
    /// noted.
    async fn a_miss_halts_its_layer_and_every_expert_counts_once() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let kernels = kernels(&gpu);
        let layer = Layer::new(&gpu, &kernels, Status::RUNNING);
        let (router, again) = (layer.router(), layer.router());
        let experts = layer.experts();
        layer.bench.run(&[router]);
        let status = layer.bench.status().await.expect("the device works");
        let want = Status { halt_layer: LAYER, hits: 3, misses: 1, missed: [0b1000, 0, 0, 0], ..Status::running() };
        assert_eq!(status, want);
        assert_eq!(status.missed_experts().collect::<Vec<_>>(), [3]);

        layer.bench.run(&experts);
        let output: Vec<f32> = layer.bench.read(&layer.output).await.expect("the device works");
        assert!(output.iter().all(|&v| v == SENTINEL), "experts of a layer that missed must not run");

        // The same batch again: the mask and the layer stay, and nothing is counted twice.
        layer.bench.run(&[again]);
        let status = layer.bench.status().await.expect("the device works");
        assert_eq!((status.halt_layer, status.hits, status.misses), (LAYER, 3, 1));
    }
}
