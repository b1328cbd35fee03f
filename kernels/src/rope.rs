//! Rotary position embedding, and writing keys and values into the cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
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

/// Its kernels for one cache format.
pub(crate) fn variants(cache: CacheFormat) -> Vec<Variant> {
    vec![Variant::baseline(sources::rope(cache))]
}

/// Buffers of one call: `qkv` [tokens, (query_heads + 2 · kv_heads) · 64] F32, `table` from [`gptoss_model::ops::rope::Yarn::table`], caches
/// [capacity, kv_heads, 64].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub qkv: B,
    pub table: B,
    pub keys: B,
    pub values: B,
    pub status: B,
}

pub fn call<B: Clone>(cache: CacheFormat, buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, qkv, table, keys, values, status } = buffers.clone();
    let heads = params.query_heads + 2 * params.kv_heads;
    let threads = Extent::Threads { items: heads * 16, threads: 64 };
    Call::new(Operation::Rope(cache), &params, [step, qkv, table, status, keys, values], (threads, Extent::ONE))
}
