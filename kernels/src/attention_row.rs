//! What one query head of the batch's last token looks at, for whoever wants to see it.

use gptoss_model::CacheFormat;

use crate::attention::Params;
use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// Access to each binding, in the order of `attention_row.wgsl` and its cache part.
pub const ACCESSES: [Access; 10] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
];

/// The only kernel for a cache format.
pub(crate) fn variants(cache: CacheFormat) -> Vec<Variant> {
    vec![Variant::baseline(sources::attention_row(cache))]
}

/// Buffers of one call: `qkv`, `sinks`, caches and `rows` as for [`crate::attention`], `row` [1 + keys] F32, `watched` one
/// u32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Queries, after [`crate::rope`].
    pub qkv: B,
    /// One logit for each query head, which takes part in its softmax.
    pub sinks: B,
    /// Result: the weight of the sink, then those of the keys that the token sees, from the first on.
    pub row: B,
    /// Key cache.
    pub keys: B,
    /// Value cache, which is bound but not read.
    pub values: B,
    /// State of the batch, a [`crate::Status`].
    pub status: B,
    /// Rows of the batch and the block tables of its sequences.
    pub rows: B,
    /// The query head.
    pub watched: B,
}

/// One call for the last token of the batch. Parameters are those of [`crate::attention::call`] of the same layer.
pub fn call<B: Clone>(cache: CacheFormat, buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, qkv, sinks, row, keys, values, status, rows, watched } = buffers.clone();
    let buffers = [step, qkv, sinks, row, status, keys, values, rows, watched];
    Call::new(Operation::AttentionRow(cache), &params, buffers, (Extent::ONE, Extent::ONE))
}
