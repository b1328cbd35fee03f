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

/// Stands for a buffer: its place in [`super::Recipe::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(usize);

impl BufferId {
    /// Its place in [`super::Recipe::buffers`].
    pub const fn place(self) -> usize {
        self.0
    }
}

/// What a buffer is for, as memory is told to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferPurpose {
    /// Weights that every token reads, and the biases of experts.
    Dense,
    Experts,
    /// Keys and values.
    Cache,
    /// Activations, tables, parameters of launches, staging.
    Scratch,
}

/// One buffer that the device will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub purpose: BufferPurpose,
    pub what: &'static str,
    pub bytes: u64,
}

impl Buffer {
    /// A size that buffers can have.
    pub fn new(purpose: BufferPurpose, what: &'static str, bytes: u64) -> Self {
        Self { purpose, what, bytes: bytes.next_multiple_of(4).max(4) }
    }

    /// Refuses it if the device cannot have it.
    pub fn check(&self, limits: &Limits) -> Result<(), GpuError> {
        let Limits { max_buffer_bytes, max_binding_bytes, .. } = *limits;
        let (limit, granted) = match self.purpose {
            // Does not grow with the model's size: far below any real binding, but not below those of tests.
            BufferPurpose::Scratch => ("maxBufferSize", max_buffer_bytes),
            _ if max_buffer_bytes < max_binding_bytes => ("maxBufferSize", max_buffer_bytes),
            _ => ("maxStorageBufferBindingSize", max_binding_bytes),
        };
        if self.bytes > granted { Err(GpuError::Limit { limit, needed: self.bytes, granted }) } else { Ok(()) }
    }
}

/// Where buffers are noted, in the order of allocation.
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

    /// The shards of one tensor.
    pub fn matrix(&self, what: &'static str, tensor: &MatrixTensor) -> Result<Matrix<BufferId>, GpuError> {
        self.matrix_of(&MatrixParts { what, tensors: vec![tensor] })
    }

    /// The shards of tensors one below the other.
    pub fn matrix_of(&self, parts: &MatrixParts<'_>) -> Result<Matrix<BufferId>, GpuError> {
        let shape = (parts.format(), parts.rows(), parts.columns());
        Matrix::sharded(shape, self.limits, |bytes| self.values(BufferPurpose::Dense, parts.what, bytes))
    }
}

/// How often a row of an activation, a table or a state is there.
#[derive(Clone, Copy)]
enum Rows {
    Once,
    /// For each token of the largest batch.
    Tokens,
    /// For each token of that batch and each expert that it chooses.
    Pairs,
    /// For each token whose logits can be wanted at once.
    Head,
    /// For each position of the context.
    Positions,
    Layers,
    /// For each block that the tables of all sequences can name.
    TableEntries,
}

impl Rows {
    fn count(self, config: &ModelConfig, plan: &MemoryPlan) -> u64 {
        u64::from(match self {
            Self::Once => 1,
            Self::Tokens => plan.batch_tokens,
            Self::Pairs => plan.batch_tokens * config.experts_per_token,
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
    /// The residual stream times the weight of the next norm, [tokens, hidden], and behind that sums of squares
    /// ([`gptoss_kernels::norm`]).
    pub normed: BufferId,
    /// [tokens, queries, then keys, then values].
    pub qkv: BufferId,
    pub attended: BufferId,
    /// [pairs, ff].
    pub expert_hidden: BufferId,
    /// [pairs, hidden].
    pub expert_out: BufferId,
    /// [tokens, experts_per_token].
    pub routes: BufferId,
    /// [head tokens, vocabulary].
    pub logits: BufferId,
    /// Of each row of logits what sampling needs.
    pub sampled: BufferId,
    /// [positions, 32] of cos and sin.
    pub rope_table: BufferId,
    /// [layers, experts]: slot, or a miss.
    pub page_table: BufferId,
    /// [layers, experts]: stamp of the last use.
    pub last_used: BufferId,
    /// Keys or values of one block, on their way to another.
    pub block_copy: BufferId,
}

impl Shared {
    pub(super) fn new(
        buffers: &Buffers<'_>,
        config: &ModelConfig,
        inventory: &Inventory,
        plan: &MemoryPlan,
    ) -> Result<Self, GpuError> {
        let squares = most_squares(config, inventory, buffers.limits)?;
        let add = |what, row_bytes: u64, rows: Rows| {
            buffers.values(BufferPurpose::Scratch, what, row_bytes * rows.count(config, plan))
        };
        let floats = |count: u32| u64::from(count) * 4;
        // Read by vec4, to the last sum of squares: what is left of a vec4 is no part of the array.
        let normed_bytes = (floats(config.hidden + squares) * u64::from(plan.batch_tokens)).next_multiple_of(16);
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
            routes: add("routes", size_of::<Route>() as u64, Rows::Pairs)?,
            logits: add("logits", floats(config.vocabulary), Rows::Head)?,
            sampled: add("sampled", Sampled::SIZE_BYTES, Rows::Head)?,
            rope_table: add("rope table", HALF_DIM as u64 * 8, Rows::Positions)?,
            page_table: add("page table", floats(config.experts), Rows::Layers)?,
            last_used: add("last used", floats(config.experts), Rows::Layers)?,
            block_copy: add("block copy", plan.block_bytes(config), Rows::Once)?,
        })
    }
}

/// Most sums of squares that a token has behind its normalised activations.
fn most_squares(config: &ModelConfig, inventory: &Inventory, limits: &Limits) -> Result<u32, GpuError> {
    let mut most = norm::combined_squares(config.hidden);
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
