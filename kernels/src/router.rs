//! The router: logits over experts, the top k, their softmax, and which of them are resident.

use bytemuck::{Pod, Zeroable};

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// Page-table entry of an expert that is not on the GPU.
pub const MISS: u32 = u32::MAX;

/// Uniform parameters of a call. Mirrors `Params` in `router.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Width of the residual stream.
    pub columns: u32,
    /// Experts of the layer.
    pub experts: u32,
    /// Experts that each token chooses.
    pub experts_per_token: u32,
    /// Index of the layer, also in the page table.
    pub layer: u32,
    /// Index of the first sum of squares in `x`.
    pub squares_first: u32,
    /// Sums of squares that a token has; 0 uses `x` as it is.
    pub squares: u32,
    /// ε of the norm.
    pub epsilon: f32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: u32,
}

/// Access to each binding, in order: the step, the parameters, and the fields of [`Buffers`].
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

/// The only variant of the kernel.
pub(crate) fn variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::router())]
}

/// Buffers of one call: `x` [tokens, columns], `weight` [experts, columns], `bias` `[experts]`, all F32; `routes`
/// [layers, tokens, k] of [`Route`](gptoss_model::ops::router::Route), of which this layer's are written; `page_table` and
/// `last_used` [layers, experts] of u32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Input.
    pub x: B,
    /// Weights of the router.
    pub weight: B,
    /// Biases of the router.
    pub bias: B,
    /// Result: the chosen experts.
    pub routes: B,
    /// Slot of each expert, or [`MISS`].
    pub page_table: B,
    /// Stamp of the batch that used each expert last.
    pub last_used: B,
    /// State of the batch, a [`crate::Status`], with hits and misses.
    pub status: B,
}

/// One call for all tokens.
pub fn call<B: Clone>(buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, x, weight, bias, routes, page_table, last_used, status } = buffers.clone();
    let all = [step, x, weight, bias, routes, page_table, last_used, status];
    Call::new(Operation::Router, &params, all, (Extent::EACH_TOKEN, Extent::ONE))
}
