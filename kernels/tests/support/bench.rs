//! A device with the step and status that every launch needs, and reading results back.

use bytemuck::Pod;
use gptoss_kernels::{Call, Gpu, GpuBuffer, Kernels, Launch, Status, Step, launch};

use super::blocks::{self, Sequence};

/// What output buffers hold before a kernel runs: a value that no kernel writes.
pub const SENTINEL: f32 = -12345.678;

/// One batch on one device.
pub struct Bench<'a> {
    pub gpu: &'a Gpu,
    pub step: Step,
    pub step_buffer: GpuBuffer,
    pub status_buffer: GpuBuffer,
}

/// A batch of `tokens`; no logits wanted.
pub fn batch(tokens: usize) -> Step {
    Step { tokens: tokens as u32, head_first: 0, head_tokens: 0, stamp: 1 }
}

impl<'a> Bench<'a> {
    pub fn new(gpu: &'a Gpu, step: Step) -> Self {
        Self {
            gpu,
            step,
            step_buffer: gpu.uniform("step", &step),
            status_buffer: gpu.storage_from("status", &[Status::running()]),
        }
    }

    /// The state after a miss at `layer`.
    pub fn halted_at(gpu: &'a Gpu, step: Step, layer: u32) -> Self {
        let status = Status { halt_layer: layer, ..Status::running() };
        Self { status_buffer: gpu.storage_from("status", &[status]), ..Self::new(gpu, step) }
    }

    /// Storage with `count` times [`SENTINEL`].
    pub fn output(&self, count: usize) -> GpuBuffer {
        self.gpu.storage_from("output", &vec![SENTINEL; count])
    }

    /// The rows of a batch of these sequences, with their tables.
    pub fn rows(&self, sequences: &[Sequence]) -> GpuBuffer {
        self.gpu.storage_from("rows", &blocks::rows(sequences))
    }

    /// Records and submits `launches` in order.
    pub fn run(&self, launches: &[Launch]) {
        let mut encoder = self.gpu.encoder("test");
        launch::record(self.gpu, &mut encoder, &self.step, launches);
        self.gpu.submit(encoder);
    }

    /// Compiles what the calls need, and runs them.
    pub fn run_calls(&self, calls: &[Call<&GpuBuffer>]) {
        self.run_with(&Kernels::compile(self.gpu, calls.iter().map(|call| call.operation)), calls);
    }

    /// Runs calls of what is compiled already.
    pub fn run_with(&self, kernels: &Kernels, calls: &[Call<&GpuBuffer>]) {
        self.run(&calls.iter().map(|call| kernels.bind(self.gpu, call)).collect::<Vec<_>>());
    }

    pub async fn read<T: Pod>(&self, buffer: &GpuBuffer) -> Result<Vec<T>, String> {
        let bytes = self.gpu.read(buffer, 0, buffer.size_bytes()).await.map_err(|error| error.to_string())?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    pub async fn status(&self) -> Result<Status, String> {
        Ok(self.read::<Status>(&self.status_buffer).await?[0])
    }
}
