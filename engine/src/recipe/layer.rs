//! The calls of a layer and of the head.

use gptoss_kernels::experts::{self, Arena};
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Call, Status, attention, matmul, rms_norm, rope, router, sample};
use gptoss_model::{GpuError, LayerTensors, ModelConfig};

use super::LayerRecipe;
use super::buffers::{BufferId, BufferPurpose, Buffers, Shared};
use crate::plan::MemoryPlan;
use crate::weights::{DenseLayer, Projection};

/// Layer index of the calls after the last layer: skipped when any layer halted.
const AFTER_ALL_LAYERS: u32 = Status::RUNNING - 1;

/// What calls are made from.
pub(super) struct Pass<'a> {
    pub config: &'a ModelConfig,
    pub plan: &'a MemoryPlan,
    pub buffers: &'a Buffers<'a>,
    pub shared: &'a Shared,
}

/// Keys and values of a layer, [positions, kv_heads, 64].
struct Cache {
    keys: BufferId,
    values: BufferId,
}

impl Pass<'_> {
    pub fn layer(&self, layer: u32, tensors: &LayerTensors) -> Result<LayerRecipe, GpuError> {
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
        let cache = Cache { keys: cached("keys")?, values: cached("values")? };

        let (buffers, shape) = (self.expert_buffers(dense.expert_biases), self.expert_shape(layer));
        let gate_up = arenas.iter().flat_map(|arena| experts::gate_up(arena, &slot, &buffers, shape));
        let down = arenas.iter().map(|arena| experts::down(arena, &slot, &buffers, shape));
        Ok(LayerRecipe {
            attend: self.attend(layer, &dense, &cache),
            experts: gate_up.chain(down).collect(),
            combine: vec![experts::combine(&buffers, shape)],
            dense,
            slot,
            arenas,
        })
    }

    fn attend(&self, layer: u32, dense: &DenseLayer<Matrix<BufferId>, BufferId>, cache: &Cache) -> Vec<Call<BufferId>> {
        let &Self { config, plan, shared, .. } = self;
        let &Shared { step, status, x, normed, qkv, attended, .. } = shared;
        let (query_heads, kv_heads) = (config.query_heads, config.kv_heads);
        let capacity = plan.cache_capacity(config, layer);
        let &Cache { keys, values } = cache;

        let mut calls = vec![self.norm(layer, dense.attn_norm, false)];
        for projection in &dense.qkv {
            let to_qkv = Product { x: normed, y: qkv, y_stride: config.qkv_columns(), residual: false };
            calls.extend(self.products(layer, projection, &to_qkv));
        }
        let buffers = rope::Buffers { step, qkv, table: shared.rope_table, keys, values, status };
        calls.push(rope::call(plan.cache, &buffers, rope::Params { query_heads, kv_heads, capacity, layer }));
        let buffers = attention::Buffers { step, qkv, sinks: dense.sinks, out: attended, keys, values, status };
        let window = plan.window_of(config, layer);
        let params = attention::Params { query_heads, kv_heads, capacity, window, layer, padding: [0; 3] };
        calls.push(attention::call(plan.cache, &buffers, params));
        let to_residual = Product { x: attended, y: x, y_stride: config.hidden, residual: true };
        calls.extend(self.products(layer, &dense.attn_output, &to_residual));
        calls.push(self.norm(layer, dense.post_attention_norm, false));
        calls.push(self.router(layer, dense));
        calls
    }

    fn router(&self, layer: u32, dense: &DenseLayer<Matrix<BufferId>, BufferId>) -> Call<BufferId> {
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
        let params = router::Params {
            columns: config.hidden,
            experts: config.experts,
            experts_per_token: config.experts_per_token,
            layer,
        };
        router::call(&buffers, params)
    }

    fn norm(&self, layer: u32, weight: BufferId, head: bool) -> Call<BufferId> {
        let &Shared { step, status, x, normed, .. } = self.shared;
        let &ModelConfig { hidden, epsilon, .. } = self.config;
        let params = rms_norm::Params { columns: hidden, layer, head: u32::from(head), epsilon };
        rms_norm::call(&rms_norm::Buffers { step, x, weight, y: normed, status }, params)
    }

    /// One call for each shard of a matrix.
    fn products(
        &self,
        layer: u32,
        projection: &Projection<Matrix<BufferId>, BufferId>,
        product: &Product,
    ) -> Vec<Call<BufferId>> {
        let &Shared { step, status, .. } = self.shared;
        let &Product { x, y, y_stride, residual } = product;
        let buffers = matmul::Buffers { step, x, bias: Some(projection.bias), y, status };
        let target = matmul::Target { y_first: projection.y_first, y_stride, layer, residual, head: false };
        projection.matrix.shards.iter().map(|shard| matmul::call(shard, &buffers, target)).collect()
    }

    fn expert_buffers(&self, biases: BufferId) -> experts::Buffers<BufferId> {
        let shared = self.shared;
        experts::Buffers {
            step: shared.step,
            x: shared.normed,
            biases,
            h: shared.expert_hidden,
            y: shared.expert_out,
            residual: shared.x,
            routes: shared.routes,
            page_table: shared.page_table,
            status: shared.status,
        }
    }

    fn expert_shape(&self, layer: u32) -> experts::Shape {
        let &ModelConfig { hidden, ff, experts, experts_per_token, .. } = self.config;
        experts::Shape { layer, hidden, ff, experts, experts_per_token }
    }

    /// From the residual stream of the tokens whose logits are wanted to what is known of the next ones.
    pub fn head(&self, output_norm: BufferId, output: &Matrix<BufferId>) -> Vec<Call<BufferId>> {
        let &Shared { step, status, normed, logits, candidates, .. } = self.shared;
        let vocabulary = self.config.vocabulary;
        let mut calls = vec![self.norm(AFTER_ALL_LAYERS, output_norm, true)];
        let buffers = matmul::Buffers { step, x: normed, bias: None, y: logits, status };
        let target =
            matmul::Target { y_first: 0, y_stride: vocabulary, layer: AFTER_ALL_LAYERS, residual: false, head: true };
        calls.extend(output.shards.iter().map(|shard| matmul::call(shard, &buffers, target)));
        calls.push(sample::call(&sample::Buffers { step, logits, candidates, status }, vocabulary));
        calls
    }
}

/// From where to where a matrix of a layer multiplies.
struct Product {
    x: BufferId,
    y: BufferId,
    y_stride: u32,
    /// Add to `y` instead of overwriting it.
    residual: bool,
}
