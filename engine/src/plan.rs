//! What goes where, worked out before anything big is fetched: from the header and the granted limits alone.

use gptoss_kernels::experts::SlotLayout;
use gptoss_kernels::gpu::Limits;
use gptoss_kernels::rope::{HALF_DIM, HEAD_DIM};
use gptoss_kernels::sample::CANDIDATES_BYTES;
use gptoss_kernels::sources::CacheFormat;
use gptoss_kernels::step::{Status, Step};
use gptoss_kernels::weights::{PlaneLayout, shard_rows};
use gptoss_telemetry as telemetry;

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::inventory::{Inventory, LayerTensors, MatrixTensor};

/// Tokens of one prefill batch.
pub const DEFAULT_BATCH_TOKENS: u32 = 64;
/// Context when the user does not say, in tokens.
pub const DEFAULT_CONTEXT_TOKENS: u32 = 8192;
/// Bytes of the largest piece that goes to the GPU at once.
pub const PIECE_BYTES: u64 = 8 << 20;

/// What the user and the host choose.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// Capacity of the KV cache, in tokens.
    pub max_kv_tokens: Option<u32>,
    /// GPU memory for experts; `None`: all of them.
    pub expert_memory_bytes: Option<u64>,
    pub cache: CacheFormat,
    /// Layers that are run.
    pub layers: u32,
    /// Full attention everywhere.
    pub dense_attention: bool,
    pub batch_tokens: u32,
    /// Tokens of a batch whose logits can be asked for at once: 1, or more for parity runs.
    pub head_tokens: u32,
}

impl PlanOptions {
    pub fn for_model(config: &ModelConfig) -> Self {
        Self {
            max_kv_tokens: None,
            expert_memory_bytes: None,
            cache: CacheFormat::F16,
            layers: config.layers,
            dense_attention: false,
            batch_tokens: DEFAULT_BATCH_TOKENS,
            head_tokens: 1,
        }
    }
}

/// Sizes of the activations of one batch, in F32 values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScratchSizes {
    pub hidden: u64,
    pub qkv: u64,
    pub attention: u64,
    pub expert_hidden: u64,
    pub expert_out: u64,
    /// In [`gptoss_kernels::router::Route`]s.
    pub routes: u64,
    pub logits: u64,
}

/// The plan: everything that allocation needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// By layer that is run: where an expert's weights lie in a slot. Layers may differ in their formats.
    pub slot_layouts: Vec<SlotLayout>,
    /// Expert slots of each layer.
    pub slots_per_layer: u32,
    /// By layer that is run: slots of each arena.
    pub arenas: Vec<Vec<u32>>,
    /// Context, in tokens.
    pub kv_capacity: u32,
    pub cache: CacheFormat,
    pub layers: u32,
    pub dense_attention: bool,
    pub batch_tokens: u32,
    pub head_tokens: u32,
    pub scratch: ScratchSizes,
    pub piece_bytes: u64,
    pub totals: telemetry::MemoryPlan,
}

impl MemoryPlan {
    /// Works the plan out. Pure: no GPU, no file.
    pub fn new(
        config: &ModelConfig,
        inventory: &Inventory,
        limits: &Limits,
        options: &PlanOptions,
    ) -> Result<Self, EngineError> {
        let layers = &inventory.layers[..options.layers as usize];
        let slot_layouts: Vec<SlotLayout> = layers.iter().map(|layer| slot_layout(config, layer)).collect();
        let slots_per_layer = slots_per_layer(config, &slot_layouts, options)?;
        let arenas = slot_layouts
            .iter()
            .map(|slot| Ok(arenas(slots_per_layer, slot.slots_per_arena(limits)?)))
            .collect::<Result<_, EngineError>>()?;
        let kv_capacity = kv_capacity(config, limits, options)?;
        let scratch = scratch_sizes(config, options);
        let expert_slot_bytes = slot_layouts.iter().map(|slot| slot.slot_bytes).max().unwrap_or(0);
        let mut plan = Self {
            slot_layouts,
            slots_per_layer,
            arenas,
            kv_capacity,
            cache: options.cache,
            layers: options.layers,
            dense_attention: options.dense_attention,
            batch_tokens: options.batch_tokens,
            head_tokens: options.head_tokens,
            scratch,
            piece_bytes: piece_bytes(config, inventory),
            totals: telemetry::MemoryPlan {
                dense_bytes: 0,
                expert_slot_bytes,
                expert_slots_per_layer: slots_per_layer,
                experts_per_layer: config.experts,
                expert_bytes: 0,
                kv_bytes: 0,
                kv_capacity_tokens: kv_capacity,
                scratch_bytes: 0,
                gpu_total_bytes: 0,
                host_bytes: inventory.token_embd.size_bytes,
                load_bytes: 0,
                paged: slots_per_layer < config.experts,
            },
        };
        plan.add_up(config, inventory, limits)?;
        Ok(plan)
    }

    /// Positions that the cache of a layer holds: a ring of window and batch on sliding layers.
    pub fn cache_capacity(&self, config: &ModelConfig, layer: u32) -> u32 {
        match self.window_of(config, layer) {
            0 => self.kv_capacity,
            window => (window + self.batch_tokens).min(self.kv_capacity),
        }
    }

    /// The window a layer runs with; 0 is full attention.
    pub fn window_of(&self, config: &ModelConfig, layer: u32) -> u32 {
        if self.dense_attention { 0 } else { config.window_of(layer) }
    }

    /// Bytes of the keys (or of the values) of a layer.
    pub fn cache_bytes(&self, config: &ModelConfig, layer: u32) -> u64 {
        u64::from(self.cache_capacity(config, layer)) * u64::from(config.kv_columns()) * self.cache.size_bytes()
    }

    /// Bytes of so many expert slots in every layer.
    pub fn expert_bytes(&self, slots_per_layer: u32) -> u64 {
        u64::from(slots_per_layer) * bytes_of_one_each(&self.slot_layouts)
    }

    /// True when experts come and go.
    pub fn is_paged(&self) -> bool {
        self.totals.paged
    }

    /// Bytes of the page table (and of the last-used stamps).
    pub fn page_table_bytes(&self, config: &ModelConfig) -> u64 {
        u64::from(self.layers.max(1)) * u64::from(config.experts) * 4
    }

    /// What comes back with each submission: the status, then candidates, then (when paged) the last-used stamps.
    pub fn readback_bytes(&self, config: &ModelConfig) -> u64 {
        Status::SIZE_BYTES + CANDIDATES_BYTES + if self.is_paged() { self.page_table_bytes(config) } else { 0 }
    }

    fn add_up(&mut self, config: &ModelConfig, inventory: &Inventory, limits: &Limits) -> Result<(), EngineError> {
        let layers = &inventory.layers[..self.layers as usize];
        let mut dense = matrix_bytes(&inventory.output, limits)? + inventory.output_norm.size_bytes;
        let mut load = inventory.output.size_bytes + inventory.output_norm.size_bytes + inventory.token_embd.size_bytes;
        for layer in layers {
            for group in merge_same_format(&layer.qkv) {
                dense += matrix_bytes(&group, limits)?;
                load += group.size_bytes;
            }
            dense += matrix_bytes(&layer.attn_output, limits)?;
            load += layer.attn_output.size_bytes;
            let plain = layer
                .qkv_bias
                .iter()
                .chain(&layer.exps_bias)
                .chain([
                    &layer.attn_norm,
                    &layer.attn_output_bias,
                    &layer.attn_sinks,
                    &layer.post_attention_norm,
                    &layer.router,
                    &layer.router_bias,
                ])
                .map(|tensor| tensor.size_bytes)
                .sum::<u64>();
            dense += plain;
            load += plain;
            if !self.totals.paged {
                load += layer.gate_exps.size_bytes + layer.up_exps.size_bytes + layer.down_exps.size_bytes;
            }
        }
        let totals = &self.totals;
        let expert_bytes = self.expert_bytes(totals.expert_slots_per_layer);
        let kv_bytes = (0..self.layers).map(|layer| 2 * self.cache_bytes(config, layer)).sum::<u64>();
        let rope_bytes = u64::from(self.kv_capacity) * HALF_DIM as u64 * 8;
        let scratch = &self.scratch;
        let values = 2 * scratch.hidden
            + scratch.qkv
            + scratch.attention
            + scratch.expert_hidden
            + scratch.expert_out
            + 2 * scratch.routes
            + scratch.logits;
        let scratch_bytes = 4 * values
            + rope_bytes
            + CANDIDATES_BYTES
            + Status::SIZE_BYTES
            + size_of::<Step>() as u64
            + 2 * self.page_table_bytes(config)
            + self.readback_bytes(config)
            + self.piece_bytes
            + 8;
        self.totals = telemetry::MemoryPlan {
            dense_bytes: dense,
            expert_bytes,
            kv_bytes,
            scratch_bytes,
            gpu_total_bytes: dense + expert_bytes + kv_bytes + scratch_bytes,
            load_bytes: load,
            ..self.totals.clone()
        };
        Ok(())
    }
}

fn slot_layout(config: &ModelConfig, layer: &LayerTensors) -> SlotLayout {
    SlotLayout::new(layer.gate_exps.format, layer.down_exps.format, u64::from(config.hidden), u64::from(config.ff))
}

/// Bytes of one slot in every layer.
fn bytes_of_one_each(slot_layouts: &[SlotLayout]) -> u64 {
    slot_layouts.iter().map(|slot| slot.slot_bytes).sum()
}

/// Every layer gets the same number of slots.
fn slots_per_layer(
    config: &ModelConfig,
    slot_layouts: &[SlotLayout],
    options: &PlanOptions,
) -> Result<u32, EngineError> {
    let Some(given) = options.expert_memory_bytes.filter(|_| !slot_layouts.is_empty()) else {
        return Ok(config.experts);
    };
    let per_slot = bytes_of_one_each(slot_layouts);
    let slots = (given / per_slot).min(u64::from(config.experts)) as u32;
    if slots < config.experts_per_token {
        return Err(EngineError::ExpertMemory {
            given,
            slots,
            needed: config.experts_per_token,
            minimum: per_slot * u64::from(config.experts_per_token),
        });
    }
    Ok(slots)
}

fn arenas(slots: u32, per_arena: u32) -> Vec<u32> {
    let count = slots.div_ceil(per_arena);
    let even = slots.div_ceil(count);
    (0..count).map(|arena| even.min(slots - arena * even)).collect()
}

fn kv_capacity(config: &ModelConfig, limits: &Limits, options: &PlanOptions) -> Result<u32, EngineError> {
    let wanted = options.max_kv_tokens.unwrap_or(config.context_tokens.min(DEFAULT_CONTEXT_TOKENS));
    let position_bytes = (u64::from(config.kv_columns()) * options.cache.size_bytes()).max(HALF_DIM as u64 * 8);
    let fit = limits.max_binding_bytes.min(limits.max_buffer_bytes) / position_bytes;
    let refuse = |limit: String| Err(EngineError::Context { wanted, limit });
    if wanted < 2 {
        return refuse("an answer needs at least 2".into());
    }
    if wanted > config.context_tokens {
        return refuse(format!("the model's own context is {} tokens", config.context_tokens));
    }
    if u64::from(wanted) > fit {
        return refuse(format!("the GPU's largest binding ({} bytes) holds {fit}", limits.max_binding_bytes));
    }
    Ok(wanted)
}

fn scratch_sizes(config: &ModelConfig, options: &PlanOptions) -> ScratchSizes {
    let tokens = u64::from(options.batch_tokens);
    let pairs = tokens * u64::from(config.experts_per_token);
    ScratchSizes {
        hidden: tokens * u64::from(config.hidden),
        qkv: tokens * u64::from(config.qkv_columns()),
        attention: tokens * u64::from(config.query_heads) * HEAD_DIM as u64,
        expert_hidden: pairs * u64::from(config.ff),
        expert_out: pairs * u64::from(config.hidden),
        routes: pairs,
        logits: u64::from(options.head_tokens) * u64::from(config.vocabulary),
    }
}

/// Rows of any matrix must fit the staging buffer whole.
fn piece_bytes(config: &ModelConfig, inventory: &Inventory) -> u64 {
    let widest_row = u64::from(config.hidden.max(config.query_columns()).max(config.ff)) * 4;
    let largest = inventory.gpu_matrices().map(|matrix| matrix.rows * matrix.row_bytes()).max().unwrap_or(0);
    // Small models do not need a large staging buffer.
    largest.min(PIECE_BYTES).max(widest_row).next_multiple_of(4)
}

fn matrix_bytes(matrix: &MatrixTensor, limits: &Limits) -> Result<u64, EngineError> {
    let whole = PlaneLayout::new(matrix.format, matrix.rows, matrix.columns);
    let shards = shard_rows(&whole, limits)?;
    Ok(shards.into_iter().map(|rows| PlaneLayout { rows, ..whole }.total_bytes().next_multiple_of(4)).sum())
}

/// Query, key and value as they will be allocated: one matrix where the formats agree, else one each.
pub fn merge_same_format(qkv: &[MatrixTensor; 3]) -> Vec<MatrixTensor> {
    let [query, key, value] = qkv;
    if query.format != key.format || query.format != value.format {
        return qkv.to_vec();
    }
    vec![MatrixTensor {
        rows: query.rows + key.rows + value.rows,
        size_bytes: query.size_bytes + key.size_bytes + value.size_bytes,
        ..query.clone()
    }]
}
