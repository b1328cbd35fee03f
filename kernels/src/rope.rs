//! Rotary position embedding, and writing keys and values into the cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;

/// Mirrors `Params` in `rope.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub query_heads: u32,
    pub kv_heads: u32,
    /// Positions that the cache holds; a ring on sliding layers.
    pub capacity: u32,
    pub layer: u32,
}

pub const ACCESSES: [Access; 7] = [
    Access::Uniform,
    Access::Uniform,
    Access::ReadWrite,
    Access::Read,
    Access::ReadWrite,
    Access::ReadWrite,
    Access::ReadWrite,
];

/// The compiled kernel for one cache format.
pub struct Rope(Kernel);

/// Buffers of one launch: `qkv` [tokens, (query_heads + 2 · kv_heads) · 64] F32, `table` from [`gptoss_model::ops::rope::Yarn::table`], caches
/// [capacity, kv_heads, 64].
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub qkv: &'a GpuBuffer,
    pub table: &'a GpuBuffer,
    pub keys: &'a GpuBuffer,
    pub values: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Rope {
    pub fn new(gpu: &Gpu, cache: CacheFormat) -> Self {
        Self(Kernel::new(gpu, "rope", &sources::rope(cache), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, params: Params) -> Launch {
        let uniform = gpu.uniform("rope", &params);
        let heads = params.query_heads + 2 * params.kv_heads;
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.qkv.whole(),
                    buffers.table.whole(),
                    buffers.status.whole(),
                    buffers.keys.whole(),
                    buffers.values.whole(),
                ],
                Extent::Threads { items: heads * 16, threads: 64 },
                Extent::ONE,
            )
            .keep(uniform)
    }
}
