//! The GPU's side of gate C: the engine's own path, from the file's blocks to a product.

use std::rc::Rc;

use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_kernels::matmul::{self, Buffers, Target};
use gptoss_kernels::norm::Normed;
use gptoss_kernels::operation::Geometry;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::weights::{Matrix, Shard};
use gptoss_kernels::{Gpu, GpuBuffer, Kernels, Operation, Status, Step, launch};
use gptoss_model::{AwaitPoint, Host, milliseconds_since, until_stopped};
use gptoss_protocol::{Tier, TierFigures};
use web_time::Instant;

use super::{PIECE_BYTES, Slice};
use crate::error::GateError;

/// A slice on the GPU, in as many shards as its limits make necessary.
pub struct OnGpu<'a> {
    pub gpu: &'a Gpu,
    matrix: Matrix,
    repack: Repack,
}

/// What a multiplication gave, and how long it took.
pub struct Product {
    pub y: Vec<f32>,
    multiply_ms: f64,
    readback_ms: f64,
}

impl Product {
    pub fn figures(&self, tier: Tier) -> TierFigures {
        let (multiply_ms, readback_ms) = (Some(self.multiply_ms), Some(self.readback_ms));
        TierFigures { tier, same_as: None, multiply_ms, readback_ms }
    }
}

/// For a tier whose kernels are those of another.
pub fn not_again(tier: Tier, same_as: Tier) -> TierFigures {
    TierFigures { tier, same_as: Some(same_as), multiply_ms: None, readback_ms: None }
}

impl<'a> OnGpu<'a> {
    /// Allocates memory for the slice; its weights come later.
    pub async fn allocate(gpu: &'a Gpu, slice: &Slice<'_>, host: &dyn Host) -> Result<Self, GateError> {
        let label = &slice.tensor.name;
        let allocating = gpu.probe_memory(label, slice.rows * slice.row_bytes(), || {
            Matrix::allocate(gpu, label, slice.format, slice.rows, slice.columns)
        });
        let matrix = until_stopped(host, AwaitPoint::Memory, allocating).await???;
        let repack =
            Repack::new(gpu, &[slice.format], PIECE_BYTES.min(slice.rows * slice.row_bytes()).max(slice.row_bytes()));
        Ok(Self { gpu, matrix, repack })
    }

    pub fn shards(&self) -> usize {
        self.matrix.shards.len()
    }

    /// GPU memory that the weights take.
    pub fn weights_bytes(&self) -> u64 {
        self.matrix.shards.iter().map(|shard| shard.buffer.size_bytes()).sum()
    }

    pub fn shard(&self, index: usize) -> &Shard<Rc<GpuBuffer>> {
        &self.matrix.shards[index]
    }

    /// Puts rows on the GPU, the first of which is `row` of the slice, as the loader does.
    pub fn upload(&self, shard: usize, row: u64, bytes: &[u8], codes: CodeOrder) {
        let shard = self.shard(shard);
        let planes = shard.layout;
        let (row_bytes, first_row) = (planes.file_row_bytes(), row - shard.first_row);
        if !planes.format.is_quantised() {
            self.gpu.write(&shard.buffer, first_row * row_bytes, bytes);
            return;
        }
        self.gpu.write(self.repack.staging(), 0, bytes);
        let destination =
            Destination { buffer: &shard.buffer, planes_offset_bytes: 0, planes, first_row, row_step: 1, codes };
        self.repack.submit(self.gpu, bytes.len() as u64 / row_bytes, &destination);
    }

    /// The tier of `done` if its kernels for one token are those of `tier`.
    pub fn same_kernels(&self, format: WeightType, tier: Tier, done: &TierFigures) -> Option<Tier> {
        let geometry = Geometry { lanes_per_row: self.gpu.lanes_per_row() };
        let chosen = |tier| Operation::Matmul(format).chosen(geometry, tier);
        (done.same_as.is_none() && chosen(done.tier) == chosen(tier)).then_some(done.tier)
    }

    /// Multiplies the slice by `input` with the kernels of `tier`; `is_done` is called before the result is read back.
    pub async fn multiply(
        &self,
        slice: &Slice<'_>,
        tier: Tier,
        input: &[f32],
        host: &dyn Host,
        is_done: &mut dyn FnMut(),
    ) -> Result<Product, GateError> {
        let gpu = self.gpu;
        let kernels = Kernels::compile_at(gpu, tier, [Operation::Matmul(slice.format)]);
        let step = Step { tokens: 1, head_first: 0, head_tokens: 0, stamp: 1 };
        let step_buffer = gpu.uniform("step", &step);
        let status = gpu.storage_from("status", &[Status::running()]);
        let (x, y) = (gpu.storage_from("x", input), gpu.storage("y", slice.rows * 4));
        let buffers = Buffers { step: &step_buffer, x: &x, bias: None, y: &y, status: &status };
        let target =
            Target { y_first: 0, y_stride: slice.rows as u32, layer: 0, head: false, normed: Normed::default() };
        let call = |shard: &Shard<_>| kernels.bind(gpu, &matmul::call(shard, &buffers, target));
        let launches: Vec<_> = self.matrix.by_ref().shards.iter().map(call).collect();
        let mut encoder = gpu.encoder("gate c");
        launch::record(gpu, &mut encoder, &step, &launches);
        let begin = Instant::now();
        gpu.submit(encoder);
        until_stopped(host, AwaitPoint::Batch, gpu.finished()).await??;
        let multiply_ms = milliseconds_since(begin);
        is_done();
        let begin = Instant::now();
        let bytes = until_stopped(host, AwaitPoint::Batch, gpu.read(&y, 0, slice.rows * 4)).await??;
        let readback_ms = milliseconds_since(begin);
        Ok(Product { y: bytemuck::pod_collect_to_vec::<u8, f32>(&bytes), multiply_ms, readback_ms })
    }
}
