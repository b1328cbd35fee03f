//! The buffers of a forward pass: what each is for, and how large it is.

use std::cell::RefCell;
use std::ops::Index;
use std::rc::Rc;

use gptoss_kernels::gpu::Limits;
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Gpu, GpuBuffer, Row, Sampled, Status, Step, matmul_residual, norm};
use gptoss_model::ops::rope::HALF_DIM;
use gptoss_model::ops::router::Route;
use gptoss_model::{GpuError, Inventory, MatrixTensor, ModelConfig};

use crate::plan::MemoryPlan;
use crate::weights::MatrixParts;

/// Identity of a buffer that may not be allocated yet: its index in [`super::Recipe::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(usize);

impl BufferId {
    /// Index in [`super::Recipe::buffers`].
    pub const fn place(self) -> usize {
        self.0
    }
}

/// Purpose of a buffer, for reports about memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferPurpose {
    /// Weights that every token reads, and the biases of experts.
    Dense,
    /// Slots for experts.
    Experts,
    /// Keys and values.
    Cache,
    /// Activations, tables, parameters of launches, and staging.
    Scratch,
}

/// One buffer that the device will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Purpose of the buffer.
    pub purpose: BufferPurpose,
    /// Label of the buffer, for messages.
    pub what: &'static str,
    /// Size in bytes.
    pub bytes: u64,
}

impl Buffer {
    /// Rounds the size up to one that buffers can have.
    pub fn new(purpose: BufferPurpose, what: &'static str, bytes: u64) -> Self {
        Self { purpose, what, bytes: bytes.next_multiple_of(4).max(4) }
    }

    /// Refuses the buffer if the device cannot have it.
    pub fn check(&self, limits: &Limits) -> Result<(), GpuError> {
        let Limits { max_buffer_bytes, max_binding_bytes, .. } = *limits;
        let (limit, granted) = match self.purpose {
            // Scratch does not grow with the model's size: it is far below any real binding, but not below those of
            // tests.
            BufferPurpose::Scratch => ("maxBufferSize", max_buffer_bytes),
            _ if max_buffer_bytes < max_binding_bytes => ("maxBufferSize", max_buffer_bytes),
            _ => ("maxStorageBufferBindingSize", max_binding_bytes),
        };
        if self.bytes > granted { Err(GpuError::Limit { limit, needed: self.bytes, granted }) } else { Ok(()) }
    }
}

/// Collects buffers in the order of allocation.
pub(super) struct Buffers<'a> {
    limits: &'a Limits,
    list: RefCell<Vec<Buffer>>,
}

impl<'a> Buffers<'a> {
    pub fn new(limits: &'a Limits) -> Self {
        Self { limits, list: RefCell::default() }
    }

    pub fn into_list(self) -> Vec<Buffer> {
        self.list.into_inner()
    }

    /// # Errors
    /// The device cannot have one of so many bytes.
    pub fn values(&self, purpose: BufferPurpose, what: &'static str, bytes: u64) -> Result<BufferId, GpuError> {
        let buffer = Buffer::new(purpose, what, bytes);
        buffer.check(self.limits)?;
        let mut list = self.list.borrow_mut();
        list.push(buffer);
        Ok(BufferId(list.len() - 1))
    }

    /// Adds the shards of one tensor.
    pub fn matrix(&self, what: &'static str, tensor: &MatrixTensor) -> Result<Matrix<BufferId>, GpuError> {
        self.matrix_of(&MatrixParts { what, tensors: vec![tensor] })
    }

    /// Adds the shards of tensors that are stacked row by row.
    pub fn matrix_of(&self, parts: &MatrixParts<'_>) -> Result<Matrix<BufferId>, GpuError> {
        let shape = (parts.format(), parts.rows(), parts.columns());
        Matrix::sharded(shape, self.limits, |bytes| self.values(BufferPurpose::Dense, parts.what, bytes))
    }
}

/// How many rows an activation, a table or a state has.
#[derive(Clone, Copy)]
enum Rows {
    Once,
    /// One for each token of the largest batch.
    Tokens,
    /// One for each token of that batch and each expert that it chooses.
    Pairs,
    /// As many for each layer.
    LayerPairs,
    /// One for each token whose logits can be wanted at once.
    Head,
    /// One for each position of the context.
    Positions,
    Layers,
    /// One for each block that the tables of all sequences can name.
    TableEntries,
}

impl Rows {
    fn count(self, config: &ModelConfig, plan: &MemoryPlan) -> u64 {
        u64::from(match self {
            Self::Once => 1,
            Self::Tokens => plan.batch_tokens,
            Self::Pairs => plan.batch_tokens * config.experts_per_token,
            Self::LayerPairs => plan.layers.max(1) * plan.batch_tokens * config.experts_per_token,
            Self::Head => plan.head_tokens,
            Self::Positions => plan.kv_capacity,
            Self::Layers => plan.layers.max(1),
            Self::TableEntries => plan.kv.sequences * plan.tables_words(),
        })
    }
}

/// Activations and state, shared by all layers.
pub struct Shared {
    pub step: BufferId,
    /// A row for each token of the largest batch, and behind them the block tables of all sequences
    /// ([`gptoss_kernels::step`]).
    pub rows: BufferId,
    pub status: BufferId,
    /// Residual stream [tokens, hidden].
    pub x: BufferId,
    /// The residual stream times the weight of the next norm, [tokens, hidden], and behind that sums of squares, see [`Squares`]
    /// ([`gptoss_kernels::norm`]).
    pub normed: BufferId,
    /// [tokens, queries, then keys, then values].
    pub qkv: BufferId,
    pub attended: BufferId,
    /// [pairs, ff].
    pub expert_hidden: BufferId,
    /// [pairs, hidden].
    pub expert_out: BufferId,
    /// [layers, tokens, experts_per_token], where tokens are those of the batch: what all layers chose follows without gaps.
    pub routes: BufferId,
    /// [head tokens, vocabulary].
    pub logits: BufferId,
    /// Sampling statistics of each row of logits.
    pub sampled: BufferId,
    /// [positions, 32] of cos and sin.
    pub rope_table: BufferId,
    /// [layers, experts]: slot, or a miss.
    pub page_table: BufferId,
    /// [layers, experts]: stamp of the last use.
    pub last_used: BufferId,
    /// Keys or values of one block, on their way to another.
    pub block_copy: BufferId,
    /// What the watched head looks at, [1 + positions].
    pub attention_row: BufferId,
    /// The watched head.
    pub watched_head: BufferId,
}

impl Shared {
    pub(super) fn new(
        buffers: &Buffers<'_>,
        config: &ModelConfig,
        inventory: &Inventory,
        plan: &MemoryPlan,
    ) -> Result<Self, GpuError> {
        let squares =
            Squares::new(config, plan).values() + attended_squares(inventory, buffers.limits)? * plan.batch_tokens;
        let add = |what, row_bytes: u64, rows: Rows| {
            buffers.values(BufferPurpose::Scratch, what, row_bytes * rows.count(config, plan))
        };
        let floats = |count: u32| u64::from(count) * 4;
        // The kernels read whole vec4 up to the last sum of squares: the rest of a vec4 would not be part of the array.
        let normed_bytes =
            (floats(config.hidden) * u64::from(plan.batch_tokens) + floats(squares)).next_multiple_of(16);
        Ok(Self {
            step: add("step", size_of::<Step>() as u64, Rows::Once)?,
            rows: buffers.values(
                BufferPurpose::Scratch,
                "rows",
                size_of::<Row>() as u64 * Rows::Tokens.count(config, plan) + 4 * Rows::TableEntries.count(config, plan),
            )?,
            status: add("status", Status::SIZE_BYTES, Rows::Once)?,
            x: add("residual", floats(config.hidden), Rows::Tokens)?,
            normed: add("normed", normed_bytes, Rows::Once)?,
            qkv: add("qkv", floats(config.qkv_columns()), Rows::Tokens)?,
            attended: add("attended", floats(config.query_columns()), Rows::Tokens)?,
            expert_hidden: add("expert hidden", floats(config.ff), Rows::Pairs)?,
            expert_out: add("expert out", floats(config.hidden), Rows::Pairs)?,
            routes: add("routes", size_of::<Route>() as u64, Rows::LayerPairs)?,
            logits: add("logits", floats(config.vocabulary), Rows::Head)?,
            sampled: add("sampled", Sampled::SIZE_BYTES, Rows::Head)?,
            rope_table: add("rope table", HALF_DIM as u64 * 8, Rows::Positions)?,
            page_table: add("page table", floats(config.experts), Rows::Layers)?,
            last_used: add("last used", floats(config.experts), Rows::Layers)?,
            block_copy: add("block copy", plan.block_bytes(config), Rows::Once)?,
            attention_row: buffers.values(
                BufferPurpose::Scratch,
                "attention row",
                floats(1) * (1 + Rows::Positions.count(config, plan)),
            )?,
            watched_head: add("watched head", floats(1), Rows::Once)?,
        })
    }
}

/// Where sums of squares are behind the normalised activations. Those of the embedding and of the residual stream after each
/// layer have places of their own: who watches the norms reads all of them after the last layer, and the pass need not be
/// interrupted for it. Those that attention's output leaves follow.
#[derive(Clone, Copy)]
pub struct Squares {
    /// Index of the first one, in values from the start of the buffer.
    first: u32,
    /// How many [`gptoss_kernels::experts::combine`] gives for each token.
    each: u32,
    tokens: u32,
    layers: u32,
}

impl Squares {
    /// Those of a plan's batches.
    pub fn new(config: &ModelConfig, plan: &MemoryPlan) -> Self {
        let each = norm::combined_squares(config.hidden);
        Self { first: plan.batch_tokens * config.hidden, each, tokens: plan.batch_tokens, layers: plan.layers }
    }

    /// Index of the first one of the embedding (`row` 0), or of the residual stream after layer `row` − 1.
    pub fn combined(self, row: u32) -> u32 {
        self.first + row * self.tokens * self.each
    }

    /// Index of the first one that the output of attention leaves.
    pub fn attended(self) -> u32 {
        self.combined(self.layers + 1)
    }

    /// How many there are of the embedding and all layers.
    fn values(self) -> u32 {
        self.attended() - self.first
    }
}

/// Largest number of sums of squares that the output of attention leaves for a token.
fn attended_squares(inventory: &Inventory, limits: &Limits) -> Result<u32, GpuError> {
    let mut most = 0;
    for MatrixTensor { format, rows, columns, .. } in inventory.layers.iter().map(|layer| &layer.attn_output) {
        let matrix = Matrix::sharded((*format, *rows, *columns), limits, |_| Ok::<_, GpuError>(()))?;
        most = most.max(matmul_residual::squares(&matrix, limits.rows_per_group));
    }
    Ok(most)
}

/// The buffers of a recipe on a device.
pub struct Filled(Vec<Rc<GpuBuffer>>);

impl Filled {
    /// Makes every buffer; all but the rope table are empty.
    pub fn allocate(gpu: &Gpu, recipe: &super::Recipe, config: &ModelConfig, plan: &MemoryPlan) -> Self {
        use wgpu::BufferUsages as Usage;
        let make = |(index, buffer): (usize, &Buffer)| match BufferId(index) == recipe.shared.step {
            true => gpu.buffer(buffer.what, buffer.bytes, Usage::UNIFORM | Usage::COPY_DST),
            false => gpu.storage(buffer.what, buffer.bytes),
        };
        let all = Self(recipe.buffers.iter().enumerate().map(make).map(Rc::new).collect());
        let table = config.yarn.table(plan.kv_capacity as usize);
        gpu.write(&all[recipe.shared.rope_table], 0, bytemuck::cast_slice(&table));
        all
    }
}

impl Index<BufferId> for Filled {
    type Output = Rc<GpuBuffer>;

    fn index(&self, id: BufferId) -> &Rc<GpuBuffer> {
        &self.0[id.0]
    }
}
