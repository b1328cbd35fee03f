//! Every buffer of a plan, one by one: what the totals are the sums of, and what allocation makes.

use gptoss_gguf::WeightType;
use gptoss_kernels::gpu::Limits;
use gptoss_kernels::sample::CANDIDATES_BYTES;
use gptoss_kernels::step::{Status, Step};
use gptoss_kernels::weights::{PlaneLayout, shard_rows};
use gptoss_kernels::{attention, experts, matmul, repack, rms_norm, rope, router, sample};
use gptoss_model::ops::rope::HALF_DIM;
use gptoss_model::ops::router::Route;
use gptoss_model::{GpuError, Inventory, LayerTensors, MatrixTensor, ModelConfig};

use super::MemoryPlan;
use crate::weights::{DenseLayer, Weight};

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

/// One buffer that the plan will have allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedBuffer {
    pub purpose: BufferPurpose,
    pub what: &'static str,
    pub bytes: u64,
}

/// Where buffers are noted, in the order of allocation.
struct List<'a> {
    limits: &'a Limits,
    buffers: Vec<PlannedBuffer>,
}

impl MemoryPlan {
    /// All buffers of the plan.
    ///
    /// # Errors
    /// A row, a slot or an activation that no buffer or binding of this device can hold.
    pub fn buffers(
        &self,
        config: &ModelConfig,
        inventory: &Inventory,
        limits: &Limits,
    ) -> Result<Vec<PlannedBuffer>, GpuError> {
        let mut list = List { limits, buffers: Vec::new() };
        for (index, layer) in inventory.layers[..self.layers as usize].iter().enumerate() {
            self.add_layer(&mut list, config, index as u32, layer)?;
        }
        list.add(BufferPurpose::Dense, "output norm", inventory.output_norm.f32_bytes())?;
        let MatrixTensor { format, rows, columns, .. } = inventory.output;
        let shards = list.add_matrix("output", format, rows, columns)?;
        list.add_uniforms::<rms_norm::Params>(1)?;
        list.add_uniforms::<matmul::Params>(shards)?;
        list.add_uniforms::<sample::Params>(1)?;
        self.add_scratch(&mut list, config)?;
        Ok(list.buffers)
    }

    fn add_layer(
        &self,
        list: &mut List<'_>,
        config: &ModelConfig,
        index: u32,
        layer: &LayerTensors,
    ) -> Result<(), GpuError> {
        let dense = DenseLayer::of(layer);
        let mut products = 0;
        for weight in dense.weights() {
            match weight {
                Weight::Matrix(parts) => {
                    products += list.add_matrix(parts.what, parts.format(), parts.rows(), parts.columns())?;
                }
                Weight::Values(parts) => list.add(BufferPurpose::Dense, parts.what, parts.f32_bytes())?,
            }
        }
        let slot_bytes = self.slot_layouts[index as usize].slot_bytes;
        let arenas = &self.arenas[index as usize];
        for &slots in arenas {
            list.add(BufferPurpose::Experts, "expert arena", u64::from(slots) * slot_bytes)?;
        }
        for what in ["keys", "values"] {
            list.add(BufferPurpose::Cache, what, self.cache_bytes(config, index))?;
        }
        list.add_uniforms::<rms_norm::Params>(2)?;
        list.add_uniforms::<matmul::Params>(products)?;
        list.add_uniforms::<rope::Params>(1)?;
        list.add_uniforms::<attention::Params>(1)?;
        list.add_uniforms::<router::Params>(1)?;
        let launches = experts::launches_of_gate_up(layer.expert_formats()) + 1;
        list.add_uniforms::<experts::Params>(launches * arenas.len())?;
        list.add_uniforms::<experts::CombineParams>(1)
    }

    fn add_scratch(&self, list: &mut List<'_>, config: &ModelConfig) -> Result<(), GpuError> {
        let sizes = &self.scratch;
        for (what, bytes) in [
            ("step", size_of::<Step>() as u64),
            ("status", Status::SIZE_BYTES),
            ("residual", sizes.hidden * 4),
            ("normed", sizes.hidden * 4),
            ("qkv", sizes.qkv * 4),
            ("attended", sizes.attention * 4),
            ("expert hidden", sizes.expert_hidden * 4),
            ("expert out", sizes.expert_out * 4),
            ("routes", sizes.routes * size_of::<Route>() as u64),
            ("logits", sizes.logits * 4),
            ("candidates", CANDIDATES_BYTES),
            ("rope table", u64::from(self.kv_capacity) * HALF_DIM as u64 * 8),
            ("page table", self.page_table_bytes(config)),
            ("last used", self.page_table_bytes(config)),
            ("staging", repack::staging_bytes(self.piece_bytes)),
            ("repack", size_of::<repack::Params>() as u64),
            ("readback", self.readback_bytes(config)),
        ] {
            list.add(BufferPurpose::Scratch, what, bytes)?;
        }
        Ok(())
    }
}

impl List<'_> {
    fn add(&mut self, purpose: BufferPurpose, what: &'static str, bytes: u64) -> Result<(), GpuError> {
        let bytes = bytes.next_multiple_of(4).max(4);
        let Limits { max_buffer_bytes, max_binding_bytes, .. } = *self.limits;
        let (limit, granted) = match purpose {
            // Does not grow with the model's size: far below any real binding, but not below those of tests.
            BufferPurpose::Scratch => ("maxBufferSize", max_buffer_bytes),
            _ if max_buffer_bytes < max_binding_bytes => ("maxBufferSize", max_buffer_bytes),
            _ => ("maxStorageBufferBindingSize", max_binding_bytes),
        };
        if bytes > granted {
            return Err(GpuError::Limit { limit, needed: bytes, granted });
        }
        self.buffers.push(PlannedBuffer { purpose, what, bytes });
        Ok(())
    }

    /// The shards of a matrix; returns their number.
    fn add_matrix(
        &mut self,
        what: &'static str,
        format: WeightType,
        rows: u64,
        columns: u64,
    ) -> Result<usize, GpuError> {
        let whole = PlaneLayout::new(format, rows, columns);
        let shards = shard_rows(&whole, self.limits)?;
        for &rows in &shards {
            self.add(BufferPurpose::Dense, what, PlaneLayout { rows, ..whole }.total_bytes())?;
        }
        Ok(shards.len())
    }

    /// Parameters of `count` launches: each has a buffer of its own.
    fn add_uniforms<Params>(&mut self, count: usize) -> Result<(), GpuError> {
        (0..count).try_for_each(|_| self.add(BufferPurpose::Scratch, "parameters", size_of::<Params>() as u64))
    }
}
