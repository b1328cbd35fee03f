//! Choosing context and expert slots, so that the whole fits the limits and the memory that was given.

use gptoss_kernels::experts::SlotLayout;
use gptoss_kernels::gpu::Limits;
use gptoss_model::ops::rope::HALF_DIM;
use gptoss_model::sequences::{BLOCK_TOKENS, KvShape};
use gptoss_model::{DEFAULT_CONTEXT_TOKENS, EngineError, Inventory, LayerTensors, MemoryShortage, ModelConfig};
use gptoss_protocol::units::bytes;
use gptoss_protocol::{self as protocol, ExpertLoading, LoadOptions};

use super::{LEAST_CONTEXT_TOKENS, MemoryPlan, PlanOptions, bytes_of_one_each, piece_bytes, slot_layout};
use crate::recipe::BufferPurpose;

/// The inputs of a plan.
pub(super) struct Planner<'a> {
    pub config: &'a ModelConfig,
    pub inventory: &'a Inventory,
    pub limits: &'a Limits,
    pub options: &'a PlanOptions,
}

impl Planner<'_> {
    /// Plans everything that is wanted, if it fits. Otherwise fewer experts, down to those that a token needs at once;
    /// then a shorter context, if the user did not choose one; otherwise an error with the numbers.
    pub fn plan(&self) -> Result<MemoryPlan, EngineError> {
        let (context, most) = (self.context()?, self.most_slots()?);
        let wanted = self.with(context, most)?;
        let Some(given) = self.options.gpu_memory_bytes.filter(|&given| wanted.total_bytes() > given) else {
            return Ok(wanted);
        };
        let least = if wanted.slot_layouts.is_empty() { most } else { most.min(self.config.experts_per_token) };
        let lean = self.with(context, least)?;
        if lean.total_bytes() <= given {
            let slot_bytes = bytes_of_one_each(&lean.slot_layouts);
            let more = (given - lean.total_bytes()).checked_div(slot_bytes).unwrap_or(0);
            return self.with(context, least + more.min(u64::from(most - least)) as u32);
        }
        let fitting = self.longest_context(context, least, given)?;
        match (fitting, self.options.max_kv_tokens) {
            (Some(shorter), None) => {
                let mut plan = self.with(shorter, least)?;
                plan.totals.shortened_from_tokens = Some(context);
                Ok(plan)
            }
            (_, wish) => Err(self.shortage(given, wish, context, least, fitting)?),
        }
    }

    /// The plan with this context and this many slots in every layer.
    fn with(&self, kv_capacity: u32, slots_per_layer: u32) -> Result<MemoryPlan, EngineError> {
        let &Self { config, inventory, limits, options } = self;
        let slot_layouts: Vec<SlotLayout> = self.layers().iter().map(|layer| slot_layout(config, layer)).collect();
        let arenas = slot_layouts
            .iter()
            .map(|slot| Ok(arenas(slots_per_layer, slot.slots_per_arena(limits)?)))
            .collect::<Result<_, EngineError>>()?;
        let expert_slot_bytes = slot_layouts.iter().map(|slot| slot.slot_bytes).max().unwrap_or(0);
        let paged = slots_per_layer < config.experts;
        let mut plan = MemoryPlan {
            experts_ahead: !paged && options.experts == ExpertLoading::Ahead,
            slot_layouts,
            slots_per_layer,
            arenas,
            kv_capacity,
            kv: KvShape::new(kv_capacity, self.window(), options.batch_tokens, options.sequences),
            cache: options.cache,
            layers: options.layers,
            dense_attention: options.dense_attention,
            batch_tokens: options.batch_tokens,
            head_tokens: options.head_tokens.max(options.sequences.min(options.batch_tokens)),
            piece_bytes: piece_bytes(config, inventory),
            totals: protocol::MemoryPlan {
                budget_bytes: options.gpu_memory_bytes,
                expert_slot_bytes,
                expert_slots_per_layer: slots_per_layer,
                experts_per_layer: config.experts,
                kv_capacity_tokens: kv_capacity,
                host_bytes: inventory.token_embd.size_bytes,
                paged,
                ..protocol::MemoryPlan::default()
            },
        };
        let buffers = plan.buffers(config, inventory, limits)?;
        let bytes_of = |purpose: BufferPurpose| {
            buffers.iter().filter(|buffer| buffer.purpose == purpose).map(|buffer| buffer.bytes).sum::<u64>()
        };
        let totals = &mut plan.totals;
        totals.dense_bytes = bytes_of(BufferPurpose::Dense);
        totals.expert_bytes = bytes_of(BufferPurpose::Experts);
        totals.kv_bytes = bytes_of(BufferPurpose::Cache);
        totals.scratch_bytes = bytes_of(BufferPurpose::Scratch);
        totals.gpu_total_bytes = buffers.iter().map(|buffer| buffer.bytes).sum();
        self.add_file_bytes(plan.experts_ahead, totals);
        Ok(plan)
    }

    /// Adds up what is fetched when, and what stays where it is.
    fn add_file_bytes(&self, experts_ahead: bool, totals: &mut protocol::MemoryPlan) {
        let Inventory { token_embd, output_norm, output, .. } = self.inventory;
        let layer_bytes = |layer: &LayerTensors| layer.dense_file_bytes() + layer.expert_bias_file_bytes();
        let dense = self.layers().iter().map(layer_bytes).sum::<u64>()
            + token_embd.size_bytes
            + output_norm.size_bytes
            + output.size_bytes;
        // Bytes of one expert of every layer.
        let one_each: u64 =
            self.layers().iter().map(|layer| layer.expert_file_bytes() / u64::from(self.config.experts)).sum();
        let experts = |count: u32| u64::from(count) * one_each;
        totals.all_bytes = dense + experts(self.config.experts);
        totals.load_bytes = if experts_ahead { totals.all_bytes } else { dense };
        totals.first_token_bytes =
            if experts_ahead { totals.all_bytes } else { dense + experts(self.config.experts_per_token) };
        totals.on_disk_bytes = experts(self.config.experts - totals.expert_slots_per_layer);
    }

    /// The window of the sliding layers; 0 if there are none.
    fn window(&self) -> u32 {
        let windows = (0..self.options.layers).map(|layer| self.config.window_of(layer));
        if self.options.dense_attention { 0 } else { windows.max().unwrap_or(0) }
    }

    fn layers(&self) -> &[LayerTensors] {
        &self.inventory.layers[..self.options.layers as usize]
    }

    /// All experts, or as many as fit the memory that was set aside for them. Every layer gets the same number of
    /// slots.
    fn most_slots(&self) -> Result<u32, EngineError> {
        let config = self.config;
        let Some(given) = self.options.expert_memory_bytes.filter(|_| !self.layers().is_empty()) else {
            return Ok(config.experts);
        };
        let slot_bytes: u64 = self.layers().iter().map(|layer| slot_layout(config, layer).slot_bytes).sum();
        let slots = (given / slot_bytes).min(u64::from(config.experts)) as u32;
        if slots < config.experts_per_token {
            return Err(EngineError::ExpertMemory {
                given,
                slots,
                needed: config.experts_per_token,
                minimum: slot_bytes * u64::from(config.experts_per_token),
            });
        }
        Ok(slots)
    }

    /// The context that was asked for, if it is possible, or the default, no longer than a binding allows.
    fn context(&self) -> Result<u32, EngineError> {
        let &Self { config, limits, options, .. } = self;
        let block = u64::from(BLOCK_TOKENS);
        let position_bytes = (u64::from(config.kv_columns()) * options.cache.size_bytes()).max(HALF_DIM as u64 * 8);
        let positions = limits.max_binding_bytes.min(limits.max_buffer_bytes) / position_bytes;
        // The cache consists of whole blocks, and forks need extra ones.
        let fit = (positions / block).saturating_sub(u64::from(options.sequences.saturating_sub(1))) * block;
        let default = u64::from(config.context_tokens.min(DEFAULT_CONTEXT_TOKENS)).min(fit) as u32;
        let wanted = options.max_kv_tokens.unwrap_or(default);
        let refuse = |limit: String| Err(EngineError::Context { wanted, limit });
        if wanted < LoadOptions::LEAST_KV_TOKENS {
            return refuse(format!("an answer needs at least {}", LoadOptions::LEAST_KV_TOKENS));
        }
        if wanted > config.context_tokens {
            return refuse(format!("the model's own context is {} tokens", config.context_tokens));
        }
        if u64::from(wanted) > fit {
            return refuse(format!("the GPU's largest binding ({}) holds {fit}", bytes(limits.max_binding_bytes)));
        }
        Ok(wanted)
    }

    /// The longest context below `too_long` that fits `given` bytes; `None` if not even the shortest does.
    fn longest_context(&self, too_long: u32, slots: u32, given: u64) -> Result<Option<u32>, EngineError> {
        let fits = |context: u32| Ok::<_, EngineError>(self.with(context, slots)?.total_bytes() <= given);
        let least = LEAST_CONTEXT_TOKENS.min(too_long);
        if !fits(least)? {
            return Ok(None);
        }
        let (mut longest, mut too_long) = (least, too_long);
        while too_long - longest > 1 {
            let middle = longest + (too_long - longest) / 2;
            if fits(middle)? {
                longest = middle;
            } else {
                too_long = middle;
            }
        }
        Ok(Some((longest / BLOCK_TOKENS * BLOCK_TOKENS).max(least)))
    }

    /// The error for memory that is too small even for the least.
    fn shortage(
        &self,
        given: u64,
        wish: Option<u32>,
        context: u32,
        slots: u32,
        fitting: Option<u32>,
    ) -> Result<EngineError, EngineError> {
        let context_tokens = wish.unwrap_or(LEAST_CONTEXT_TOKENS.min(context));
        let least = self.with(context_tokens, slots)?.totals;
        Ok(EngineError::GpuMemory(Box::new(MemoryShortage {
            given,
            needed: least.gpu_total_bytes,
            dense: least.dense_bytes,
            experts: least.expert_bytes,
            experts_per_layer: slots,
            kv: least.kv_bytes,
            context_tokens,
            scratch: least.scratch_bytes,
            fitting_context_tokens: fitting,
        })))
    }
}

fn arenas(slots: u32, per_arena: u32) -> Vec<u32> {
    let count = slots.div_ceil(per_arena);
    let even = slots.div_ceil(count);
    (0..count).map(|arena| even.min(slots - arena * even)).collect()
}
