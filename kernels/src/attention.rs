//! Causal attention with sinks and an optional sliding window, over the KV cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;

/// Mirrors `Params` in `attention.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub query_heads: u32,
    pub kv_heads: u32,
    /// Positions that the cache holds; a ring on sliding layers.
    pub capacity: u32,
    /// Keys that a query sees, itself included; 0 is all of them.
    pub window: u32,
    pub layer: u32,
    pub padding: [u32; 3],
}

pub const ACCESSES: [Access; 8] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::Read,
    Access::Read,
];

/// The compiled kernel for one cache format.
pub struct Attention(Kernel);

/// Buffers of one launch: `qkv` as after [`crate::rope`], `sinks` [query_heads] F32, `out` [tokens, query_heads · 64] F32.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub qkv: &'a GpuBuffer,
    pub sinks: &'a GpuBuffer,
    pub out: &'a GpuBuffer,
    pub keys: &'a GpuBuffer,
    pub values: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Attention {
    pub fn new(gpu: &Gpu, cache: CacheFormat) -> Self {
        Self(Kernel::new(gpu, "attention", &sources::attention(cache), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, params: Params) -> Launch {
        let uniform = gpu.uniform("attention", &params);
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.qkv.whole(),
                    buffers.sinks.whole(),
                    buffers.out.whole(),
                    buffers.status.whole(),
                    buffers.keys.whole(),
                    buffers.values.whole(),
                ],
                Extent::Fixed(params.query_heads),
                Extent::EACH_TOKEN,
            )
            .keep(uniform)
    }
}
