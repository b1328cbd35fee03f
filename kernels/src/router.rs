//! The router: logits over experts, the top k, their softmax, and which of them are resident.

use bytemuck::{Pod, Zeroable};

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
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
    pub squares_first: u32,
    pub squares: u32,
    pub epsilon: f32,
    pub padding: u32,
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

/// Its kernels.
pub(crate) fn variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::router())]
}

/// Buffers of one call: `x` [tokens, columns], `weight` [experts, columns], `bias` \[experts\], all F32; `routes`
/// [tokens, k] of [`Route`](gptoss_model::ops::router::Route); `page_table` and `last_used` [layers, experts] of u32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub x: B,
    pub weight: B,
    pub bias: B,
    pub routes: B,
    pub page_table: B,
    pub last_used: B,
    pub status: B,
}

pub fn call<B: Clone>(buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, x, weight, bias, routes, page_table, last_used, status } = buffers.clone();
    let all = [step, x, weight, bias, routes, page_table, last_used, status];
    Call::new(Operation::Router, &params, all, (Extent::EACH_TOKEN, Extent::ONE))
}
