//! RMSNorm: `y = x · weight / sqrt(mean(x²) + epsilon)`, over the columns of each token.

use bytemuck::{Pod, Zeroable};

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// Mirrors `Params` in `rms_norm.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub columns: u32,
    pub layer: u32,
    /// 1: only the tokens whose logits are wanted, written from row 0 on.
    pub head: u32,
    pub epsilon: f32,
}

pub const ACCESSES: [Access; 6] =
    [Access::Uniform, Access::Uniform, Access::Read, Access::Read, Access::ReadWrite, Access::Read];

/// Its kernels.
pub(crate) fn variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::rms_norm())]
}

/// Buffers of one call: `x`, `y` [tokens, columns] F32, `weight` [columns] F32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub x: B,
    pub weight: B,
    pub y: B,
    pub status: B,
}

pub fn call<B: Clone>(buffers: &Buffers<B>, params: Params) -> Call<B> {
    let Buffers { step, x, weight, y, status } = buffers.clone();
    let tokens = if params.head == 1 { Extent::EACH_HEAD_TOKEN } else { Extent::EACH_TOKEN };
    Call::new(Operation::RmsNorm, &params, [step, x, weight, y, status], (tokens, Extent::ONE))
}
