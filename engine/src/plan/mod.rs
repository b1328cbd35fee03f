//! The memory plan: what goes where on the GPU. It is made before anything big is fetched, from the header, the granted
//! limits and, where it is known, the memory that there is.

mod fit;

use gptoss_kernels::experts::SlotLayout;
use gptoss_kernels::gpu::Limits;
use gptoss_kernels::repack;
use gptoss_kernels::stopwatch::Stopwatch;
use gptoss_kernels::{ROW_WORDS, Sampled, Status};
use gptoss_model::sequences::{BATCHES_UNDER_WAY, KvShape, Reach};
use gptoss_model::{BLOCK_TOKENS, CacheFormat, EngineError, GpuError, Inventory, LayerTensors, ModelConfig};
use gptoss_protocol::{self as protocol, ExpertLoading};

use crate::recipe::{Buffer, BufferPurpose, Recipe};
use crate::watching::Watched;

/// Largest number of tokens in a prefill batch.
pub const DEFAULT_BATCH_TOKENS: u32 = 64;
/// Shortest default context for want of memory, in tokens: gpt-oss' own system message takes about 80, and an answer
/// with some reasoning a few hundred.
pub const LEAST_CONTEXT_TOKENS: u32 = 512;
/// Largest piece that goes to the GPU at once, in bytes.
pub const PIECE_BYTES: u64 = 8 << 20;

/// What the user and the host choose.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// Capacity of the KV cache in tokens; `None` takes the default.
    pub max_kv_tokens: Option<u32>,
    /// GPU memory for experts in bytes; `None` takes all of them.
    pub expert_memory_bytes: Option<u64>,
    /// GPU memory for everything in bytes: experts give way first, then the default context. `None` takes what can be
    /// allocated.
    pub gpu_memory_bytes: Option<u64>,
    /// Number format of the KV cache.
    pub cache: CacheFormat,
    /// When experts are read, if all of them fit.
    pub experts: ExpertLoading,
    /// Number of layers that are run, from the first.
    pub layers: u32,
    /// Whether all layers see everything, for experiments.
    pub dense_attention: bool,
    /// Largest number of rows in a batch.
    pub batch_tokens: u32,
    /// Largest number of rows in a batch that want something: at least one per sequence, more for parity runs.
    pub head_tokens: u32,
    /// How many sequences can be open at once; they share the context's memory.
    pub sequences: u32,
}

impl PlanOptions {
    /// Defaults for a model: all its layers, its default context, one sequence.
    pub fn for_model(config: &ModelConfig) -> Self {
        Self {
            max_kv_tokens: None,
            expert_memory_bytes: None,
            gpu_memory_bytes: None,
            cache: CacheFormat::F16,
            experts: ExpertLoading::Ahead,
            layers: config.layers,
            dense_attention: false,
            batch_tokens: DEFAULT_BATCH_TOKENS,
            head_tokens: 1,
            sequences: 1,
        }
    }
}

/// The plan: everything that allocation needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// Layout of an expert's slot in each layer that is run. Layers may differ in their formats.
    pub slot_layouts: Vec<SlotLayout>,
    /// Expert slots of each layer.
    pub slots_per_layer: u32,
    /// Number of slots in each arena, for each layer that is run.
    pub arenas: Vec<Vec<u32>>,
    /// Capacity of the KV cache, in tokens.
    pub kv_capacity: u32,
    /// Blocks, tables and sequences of the KV cache.
    pub kv: KvShape,
    /// Number format of the KV cache.
    pub cache: CacheFormat,
    /// Whether all experts fit and are read with the load.
    pub experts_ahead: bool,
    /// Number of layers that are run.
    pub layers: u32,
    /// Whether all layers see everything.
    pub dense_attention: bool,
    /// Largest number of rows in a batch.
    pub batch_tokens: u32,
    /// Largest number of rows in a batch that want something.
    pub head_tokens: u32,
    /// Size of the staging buffer: the largest piece that goes to the GPU at once, in bytes.
    pub piece_bytes: u64,
    /// Sums for display and approval, in bytes.
    pub totals: protocol::MemoryPlan,
}

impl MemoryPlan {
    /// Makes the plan. This needs neither a GPU nor the file.
    pub fn new(
        config: &ModelConfig,
        inventory: &Inventory,
        limits: &Limits,
        options: &PlanOptions,
    ) -> Result<Self, EngineError> {
        fit::Planner { config, inventory, limits, options }.plan()
    }

    /// The window that a layer runs with; 0 is full attention.
    pub fn window_of(&self, config: &ModelConfig, layer: u32) -> u32 {
        if self.dense_attention { 0 } else { config.window_of(layer) }
    }

    /// Bytes of the keys (or of the values) of a layer.
    pub fn cache_bytes(&self, config: &ModelConfig, layer: u32) -> u64 {
        let reach = Reach::of_window(self.window_of(config, layer));
        u64::from(self.kv.blocks(reach)) * self.block_bytes(config)
    }

    /// Bytes of the keys (or of the values) of a block in one layer.
    pub fn block_bytes(&self, config: &ModelConfig) -> u64 {
        u64::from(BLOCK_TOKENS) * u64::from(config.kv_columns()) * self.cache.size_bytes()
    }

    /// Length of a sequence's two block tables in the rows buffer, in words; the table of the layers that see
    /// everything comes first.
    pub fn tables_words(&self) -> u32 {
        2 * self.kv.table_blocks()
    }

    /// Distance in words from a sequence's tables to the table for layers of this reach.
    pub fn table_first(&self, reach: Reach) -> u32 {
        match reach {
            Reach::Full => 0,
            Reach::Sliding => self.kv.table_blocks(),
        }
    }

    /// Where the tables of a sequence begin in the rows buffer, in words; `slot`:
    /// [`gptoss_model::sequences::Tables::slot`].
    pub fn tables_at(&self, slot: u32) -> u32 {
        ROW_WORDS * self.batch_tokens + slot * self.tables_words()
    }

    /// Bytes of this many expert slots in every layer.
    pub fn expert_bytes(&self, slots_per_layer: u32) -> u64 {
        u64::from(slots_per_layer) * bytes_of_one_each(&self.slot_layouts)
    }

    /// Size of the page table, and also of the last-used stamps, in bytes.
    pub fn page_table_bytes(&self, config: &ModelConfig) -> u64 {
        u64::from(self.layers.max(1)) * u64::from(config.experts) * 4
    }

    /// Most bytes that a submission returns: the status, then the sampling statistics, then the last-used stamps if
    /// experts may be missed, then what may be watched.
    pub fn readback_bytes(&self, config: &ModelConfig) -> u64 {
        let stamps = if self.experts_ahead { 0 } else { self.page_table_bytes(config) };
        let first = Status::SIZE_BYTES + u64::from(self.head_tokens) * Sampled::SIZE_BYTES + stamps;
        Watched::all(self.kv_capacity).places(config, self, self.batch_tokens, first).end() + Stopwatch::MOST_BYTES
    }

    /// All buffers of the plan: those of the recipe, the parameters of its calls, and staging to and from the GPU.
    ///
    /// # Errors
    /// A row, a slot or an activation that no buffer or binding of this device can hold.
    pub fn buffers(
        &self,
        config: &ModelConfig,
        inventory: &Inventory,
        limits: &Limits,
    ) -> Result<Vec<Buffer>, GpuError> {
        let recipe = Recipe::new(config, inventory, self, limits)?;
        let scratch = |what, bytes| Buffer::new(BufferPurpose::Scratch, what, bytes);
        let params =
            recipe.calls().chain(recipe.watching_calls()).map(|call| scratch("parameters", call.params.len() as u64));
        let transfer = [
            scratch("staging", repack::staging_bytes(self.piece_bytes)),
            scratch("repack", size_of::<repack::Params>() as u64),
        ];
        let readbacks = [scratch("readback", self.readback_bytes(config)); BATCHES_UNDER_WAY as usize];
        transfer.iter().chain(&readbacks).try_for_each(|buffer| buffer.check(limits))?;
        Ok(recipe.buffers.iter().copied().chain(params).chain(transfer).chain(readbacks).collect())
    }

    fn total_bytes(&self) -> u64 {
        self.totals.gpu_total_bytes
    }
}

fn slot_layout(config: &ModelConfig, layer: &LayerTensors) -> SlotLayout {
    SlotLayout::new(layer.expert_formats(), u64::from(config.hidden), u64::from(config.ff))
}

/// Bytes of one slot in every layer.
fn bytes_of_one_each(slot_layouts: &[SlotLayout]) -> u64 {
    slot_layouts.iter().map(|slot| slot.slot_bytes).sum()
}

/// Size of a piece; a row of any matrix must fit the staging buffer.
fn piece_bytes(config: &ModelConfig, inventory: &Inventory) -> u64 {
    let widest_row = u64::from(config.hidden.max(config.query_columns()).max(config.ff)) * 4;
    let largest = inventory.gpu_matrices().map(|matrix| matrix.rows * matrix.row_bytes()).max().unwrap_or(0);
    // Small models do not need a large staging buffer.
    largest.min(PIECE_BYTES).max(widest_row).next_multiple_of(4)
}
