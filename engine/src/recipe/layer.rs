//! The calls of a layer, and those before the first and after the last one.

use gptoss_kernels::experts::{self, Arena};
use gptoss_kernels::gpu::Limits;
use gptoss_kernels::norm::{Normed, combined_squares};
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Call, Status, attention, attention_row, matmul, matmul_residual, rope, router, sample};
use gptoss_model::sequences::Reach;
use gptoss_model::{GpuError, LayerTensors, ModelConfig};

use super::buffers::{BufferId, BufferPurpose, Buffers, Shared, Squares};
use super::{LayerBuffers, LayerRecipe};
use crate::plan::MemoryPlan;
use crate::weights::DenseLayer;

/// Layer index of the calls after the last layer, which are skipped if any layer halted.
const AFTER_ALL_LAYERS: u32 = Status::RUNNING - 1;

/// The inputs of the calls.
pub(super) struct Pass<'a> {
    pub config: &'a ModelConfig,
    pub plan: &'a MemoryPlan,
    pub limits: &'a Limits,
    pub buffers: &'a Buffers<'a>,
    pub shared: &'a Shared,
}

impl Pass<'_> {
    pub fn weights(&self, layer: u32, tensors: &LayerTensors) -> Result<LayerBuffers, GpuError> {
        let dense = DenseLayer::of(tensors).try_map(
            |parts| self.buffers.matrix_of(parts),
            |parts| self.buffers.values(BufferPurpose::Dense, parts.what, parts.f32_bytes()),
        )?;
        let slot = self.plan.slot_layouts[layer as usize];
        let mut first_slot = 0;
        let mut arenas = Vec::new();
        for &slots in &self.plan.arenas[layer as usize] {
            let bytes = u64::from(slots) * slot.slot_bytes;
            let buffer = self.buffers.values(BufferPurpose::Experts, "expert arena", bytes)?;
            arenas.push(Arena { buffer, first_slot, slots });
            first_slot += slots;
        }
        let cache_bytes = self.plan.cache_bytes(self.config, layer);
        let cached = |what| self.buffers.values(BufferPurpose::Cache, what, cache_bytes);
        Ok(LayerBuffers { dense, slot, arenas, keys: cached("keys")?, values: cached("values")? })
    }

    /// Calls on the embedding in the residual stream: the first half of the first norm.
    pub fn begin(&self, norm: BufferId) -> Vec<Call<BufferId>> {
        // There are no experts whose results could be added.
        let shape = experts::Shape { experts_per_token: 0, ..self.expert_shape(0, self.combined(0)) };
        vec![experts::combine(&self.expert_buffers(norm, norm), shape)]
    }

    /// `next_norm`: weight of the norm of the next layer, or of the head.
    pub fn layer(&self, layer: u32, buffers: LayerBuffers, next_norm: BufferId) -> LayerRecipe {
        let LayerBuffers { dense, slot, arenas, .. } = &buffers;
        let squares = matmul_residual::squares(&dense.attn_output, self.limits.rows_per_group);
        let squares_first = Squares::new(self.config, self.plan).attended();
        let normed = Normed { squares_first, squares, epsilon: self.config.epsilon };
        let of_experts = self.expert_buffers(dense.expert_biases, next_norm);
        let shape = self.expert_shape(layer, normed);
        let gate_up = arenas.iter().flat_map(|arena| experts::gate_up(arena, slot, &of_experts, shape));
        let down = arenas.iter().map(|arena| experts::down(arena, slot, &of_experts, shape));
        let mut attend = self.attend(layer, &buffers);
        attend.push(self.router(layer, dense, normed));
        LayerRecipe {
            attend,
            experts: gate_up.chain(down).collect(),
            combine: vec![experts::combine(&of_experts, self.expert_shape(layer, self.combined(layer + 1)))],
            attention_row: self.attention_row(layer, &buffers),
            buffers,
        }
    }

    fn attend(&self, layer: u32, buffers: &LayerBuffers) -> Vec<Call<BufferId>> {
        let &Self { config, plan, shared, .. } = self;
        let &Shared { step, rows, status, x: residual, normed, qkv, attended, .. } = shared;
        let &LayerBuffers { ref dense, keys, values, .. } = buffers;
        let (query_heads, kv_heads) = (config.query_heads, config.kv_heads);
        let table_first = plan.table_first(Reach::of_window(plan.window_of(config, layer)));
        let y_stride = config.qkv_columns();

        let mut calls = Vec::new();
        for projection in &dense.qkv {
            let buffers = matmul::Buffers { step, x: normed, bias: Some(projection.bias), y: qkv, status };
            let y_first = projection.y_first;
            let target = matmul::Target { y_first, y_stride, layer, head: false, normed: self.combined(layer) };
            calls.extend(projection.matrix.shards.iter().map(|shard| matmul::call(shard, &buffers, target)));
        }
        let buffers = rope::Buffers { step, qkv, table: shared.rope_table, keys, values, status, rows };
        calls.push(rope::call(plan.cache, &buffers, rope::Params { query_heads, kv_heads, table_first, layer }));
        let buffers = attention::Buffers { step, qkv, sinks: dense.sinks, out: attended, keys, values, status, rows };
        calls.push(attention::call(plan.cache, &buffers, self.attention_params(layer)));
        let vectors = dense.attn_output_vectors;
        let buffers = matmul_residual::Buffers { step, x: attended, vectors, residual, normed, status };
        let squares_first = Squares::new(config, plan).attended();
        let rows_per_group = self.limits.rows_per_group;
        calls.extend(matmul_residual::calls(&dense.attn_output, &buffers, layer, squares_first, rows_per_group));
        calls
    }

    fn attention_params(&self, layer: u32) -> attention::Params {
        let &Self { config, plan, .. } = self;
        let window = plan.window_of(config, layer);
        let table_first = plan.table_first(Reach::of_window(window));
        let (query_heads, kv_heads) = (config.query_heads, config.kv_heads);
        attention::Params { query_heads, kv_heads, window, table_first, layer, padding: [0; 3] }
    }

    /// What one of the layer's heads looks at; queries and keys are those that attention had.
    fn attention_row(
        &self,
        layer: u32,
        &LayerBuffers { ref dense, keys, values, .. }: &LayerBuffers,
    ) -> Call<BufferId> {
        let &Shared { step, rows, status, qkv, attention_row: row, watched_head: watched, .. } = self.shared;
        let sinks = dense.sinks;
        let buffers = attention_row::Buffers { step, qkv, sinks, row, keys, values, status, rows, watched };
        attention_row::call(self.plan.cache, &buffers, self.attention_params(layer))
    }

    fn router(
        &self,
        layer: u32,
        dense: &DenseLayer<Matrix<BufferId>, BufferId>,
        Normed { squares_first, squares, epsilon }: Normed,
    ) -> Call<BufferId> {
        let &Self { config, shared, .. } = self;
        let buffers = router::Buffers {
            step: shared.step,
            x: shared.normed,
            weight: dense.router,
            bias: dense.router_bias,
            routes: shared.routes,
            page_table: shared.page_table,
            last_used: shared.last_used,
            status: shared.status,
        };
        let &ModelConfig { hidden: columns, experts, experts_per_token, .. } = config;
        let padding = 0;
        let params =
            router::Params { columns, experts, experts_per_token, layer, squares_first, squares, epsilon, padding };
        router::call(&buffers, params)
    }

    /// Where [`experts::combine`] leaves the sums of squares of the embedding (`row` 0), or after layer `row` − 1.
    fn combined(&self, row: u32) -> Normed {
        let &ModelConfig { hidden, epsilon, .. } = self.config;
        let squares_first = Squares::new(self.config, self.plan).combined(row);
        Normed { squares_first, squares: combined_squares(hidden), epsilon }
    }

    fn expert_buffers(&self, biases: BufferId, norm: BufferId) -> experts::Buffers<BufferId> {
        let shared = self.shared;
        experts::Buffers {
            step: shared.step,
            x: shared.normed,
            biases,
            h: shared.expert_hidden,
            y: shared.expert_out,
            residual: shared.x,
            norm,
            routes: shared.routes,
            page_table: shared.page_table,
            status: shared.status,
        }
    }

    fn expert_shape(&self, layer: u32, normed: Normed) -> experts::Shape {
        let &ModelConfig { hidden, ff, experts, experts_per_token, .. } = self.config;
        experts::Shape { layer, hidden, ff, experts, experts_per_token, normed }
    }

    /// Calls from the residual stream of the tokens whose logits are wanted to the statistics of the next tokens.
    pub fn head(&self, output: &Matrix<BufferId>) -> Vec<Call<BufferId>> {
        let &Shared { step, rows, status, normed, logits, sampled, .. } = self.shared;
        let vocabulary = self.config.vocabulary;
        let buffers = matmul::Buffers { step, x: normed, bias: None, y: logits, status };
        let target = matmul::Target {
            y_first: 0,
            y_stride: vocabulary,
            layer: AFTER_ALL_LAYERS,
            head: true,
            normed: self.combined(self.plan.layers),
        };
        let mut calls: Vec<_> = output.shards.iter().map(|shard| matmul::call(shard, &buffers, target)).collect();
        calls.push(sample::call(&sample::Buffers { step, logits, rows, sampled }, vocabulary));
        calls
    }
}
