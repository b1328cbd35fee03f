//! Causal attention with sinks and an optional sliding window, over the KV cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;
use gptoss_protocol::Tier;

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
    /// Keys that a query sees, itself included; 0 is all of them.
    pub window: u32,
    /// Words from the beginning of a sequence's block tables to the one that this layer uses.
    pub table_first: u32,
    pub layer: u32,
    pub padding: [u32; 3],
}

pub const ACCESSES: [Access; 9] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
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

/// Buffers of one call: `qkv` and caches as after [`crate::rope`], `sinks` \[query_heads\] F32, `out`
/// [tokens, query_heads · 64] F32, `rows` as [`crate::step`] has it.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub qkv: B,
    pub sinks: B,
    pub out: B,
    pub keys: B,
    pub values: B,
    pub status: B,
    pub rows: B,
}

pub fn call<B: Clone>(cache: CacheFormat, buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, qkv, sinks, out, keys, values, status, rows } = buffers.clone();
    let grid = (Extent::Fixed(params.query_heads), Extent::EACH_TOKEN);
    let buffers = [step, qkv, sinks, out, status, keys, values, rows];
    Call::new(Operation::Attention(cache), &params, buffers, grid)
}
