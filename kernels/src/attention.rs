//! Causal attention with sinks and an optional sliding window, over the KV cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;
use gptoss_telemetry::Tier;

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
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

/// Its kernels for one cache format.
pub(crate) fn variants(cache: CacheFormat) -> Vec<Variant> {
    let mut variants = vec![Variant::baseline(sources::attention(cache))];
    if cache == CacheFormat::F16 {
        variants.push(Variant { tier: Tier::F16, ..Variant::baseline(sources::attention_f16()) });
    }
    variants
}

/// Buffers of one call: `qkv` as after [`crate::rope`], `sinks` [query_heads] F32, `out` [tokens, query_heads · 64] F32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub qkv: B,
    pub sinks: B,
    pub out: B,
    pub keys: B,
    pub values: B,
    pub status: B,
}

pub fn call<B: Clone>(cache: CacheFormat, buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, qkv, sinks, out, keys, values, status } = buffers.clone();
    let grid = (Extent::Fixed(params.query_heads), Extent::EACH_TOKEN);
    Call::new(Operation::Attention(cache), &params, [step, qkv, sinks, out, status, keys, values], grid)
}
