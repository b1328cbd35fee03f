//! Causal attention with sinks and an optional sliding window, over the KV cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;
use gptoss_protocol::Tier;

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// Uniform parameters of a call. Mirrors `Params` in `attention.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of query heads, a multiple of `kv_heads`.
    pub query_heads: u32,
    /// Number of key and value heads.
    pub kv_heads: u32,
    /// Keys that a query sees, itself included; 0 is all of them.
    pub window: u32,
    /// Words from the beginning of a sequence's block tables to the table that this layer uses.
    pub table_first: u32,
    /// Index of the layer: nothing is computed after an earlier one halted.
    pub layer: u32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: [u32; 3],
}

/// Access to each binding, in the order of `attention.wgsl` and its cache part.
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

/// The kernels for one cache format.
pub(crate) fn variants(cache: CacheFormat) -> Vec<Variant> {
    let mut variants = vec![Variant::baseline(sources::attention(cache))];
    if cache == CacheFormat::F16 {
        variants.push(Variant { tier: Tier::F16, ..Variant::baseline(sources::attention_f16()) });
    }
    variants
}

/// Buffers of one call: `qkv` and caches as after [`crate::rope`], `sinks` `[query_heads]` F32, `out`
/// [tokens, query_heads · 64] F32, `rows` as [`crate::step`] has it.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Queries, after [`crate::rope`].
    pub qkv: B,
    /// One logit for each query head, which takes part in its softmax.
    pub sinks: B,
    /// Result: the weighted values of each query head.
    pub out: B,
    /// Key cache.
    pub keys: B,
    /// Value cache.
    pub values: B,
    /// State of the batch, a [`crate::Status`].
    pub status: B,
    /// Rows of the batch and the block tables of its sequences.
    pub rows: B,
}

/// One call for all tokens and heads.
pub fn call<B: Clone>(cache: CacheFormat, buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, qkv, sinks, out, keys, values, status, rows } = buffers.clone();
    let grid = (Extent::Fixed(params.query_heads), Extent::EACH_TOKEN);
    let buffers = [step, qkv, sinks, out, status, keys, values, rows];
    Call::new(Operation::Attention(cache), &params, buffers, grid)
}
