//! The router: logits over experts, the top k, their softmax, and which of them are resident.

use bytemuck::{Pod, Zeroable};

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;

/// Page-table entry of an expert that is not on the GPU.
pub const MISS: u32 = u32::MAX;

/// Mirrors `Params` in `router.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub columns: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    pub layer: u32,
}

pub const ACCESSES: [Access; 9] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::ReadWrite,
    Access::ReadWrite,
];

/// The compiled kernel.
pub struct Router(Kernel);

/// Buffers of one launch: `x` [tokens, columns], `weight` [experts, columns], `bias` [experts], all F32; `routes`
/// [tokens, k] of [`Route`](gptoss_model::ops::router::Route); `page_table` and `last_used` [layers, experts] of u32.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub x: &'a GpuBuffer,
    pub weight: &'a GpuBuffer,
    pub bias: &'a GpuBuffer,
    pub routes: &'a GpuBuffer,
    pub page_table: &'a GpuBuffer,
    pub last_used: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Router {
    pub fn new(gpu: &Gpu) -> Self {
        Self(Kernel::new(gpu, "router", &sources::router(), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, params: Params) -> Launch {
        let uniform = gpu.uniform("router", &params);
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.x.whole(),
                    buffers.weight.whole(),
                    buffers.bias.whole(),
                    buffers.routes.whole(),
                    buffers.page_table.whole(),
                    buffers.last_used.whole(),
                    buffers.status.whole(),
                ],
                Extent::EACH_TOKEN,
                Extent::ONE,
            )
            .keep(uniform)
    }
}
