//! Rotary position embedding, and writing keys and values into the cache.

use bytemuck::{Pod, Zeroable};
use gptoss_model::CacheFormat;

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// Uniform parameters of a call. Mirrors `Params` in `rope.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of query heads.
    pub query_heads: u32,
    /// Number of key and value heads.
    pub kv_heads: u32,
    /// Words from the beginning of a sequence's block tables to the table that this layer uses.
    pub table_first: u32,
    /// Index of the layer: nothing is computed after an earlier one halted.
    pub layer: u32,
}

/// Access to each binding, in the order of `rope.wgsl` and its cache part.
pub const ACCESSES: [Access; 8] = [
    Access::Uniform,
    Access::Uniform,
    Access::ReadWrite,
    Access::Read,
    Access::ReadWrite,
    Access::ReadWrite,
    Access::ReadWrite,
    Access::Read,
];

/// The kernels for one cache format.
pub(crate) fn variants(cache: CacheFormat) -> Vec<Variant> {
    vec![Variant::baseline(sources::rope(cache))]
}

/// Buffers of one call: `qkv` [tokens, (query_heads + 2 · kv_heads) · 64] F32, `table` of angles, from
/// [`gptoss_model::ops::rope::Yarn::table`], caches [blocks, 64 positions, kv_heads, 64], `rows` as [`crate::step`] has
/// it.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Queries, keys and values; queries are rotated in place.
    pub qkv: B,
    /// cos and sin of all positions.
    pub table: B,
    /// Key cache, which the rotated keys are written to.
    pub keys: B,
    /// Value cache, which the values are written to.
    pub values: B,
    /// State of the batch, a [`crate::Status`].
    pub status: B,
    /// Rows of the batch and the block tables of its sequences.
    pub rows: B,
}

/// One call for all tokens and heads.
pub fn call<B: Clone>(cache: CacheFormat, buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, qkv, table, keys, values, status, rows } = buffers.clone();
    let heads = params.query_heads + 2 * params.kv_heads;
    let threads = Extent::Threads { items: heads * 16, threads: 64 };
    let buffers = [step, qkv, table, status, keys, values, rows];
    Call::new(Operation::Rope(cache), &params, buffers, (threads, Extent::ONE))
}
