//! Quantised matrix times activations: `y[t, r] = Σ_k W[r, k] · x[t, k] + bias[r]`; `x` as it is, or normalised on the way.

use bytemuck::{Pod, Zeroable};
use gptoss_gguf::WeightType;
use gptoss_protocol::Tier;

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::norm::Normed;
use crate::operation::{Geometry, Operation, Variant};
use crate::sources;
use crate::weights::Shard;

/// Tokens that one workgroup computes in prefill, so that a block is decoded once for all of them.
pub(crate) const TOKENS_PER_GROUP: u32 = 8;

pub const HAS_BIAS: u32 = 1;
pub const HEAD: u32 = 2;

/// Mirrors `Params` in `matmul.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub rows: u32,
    pub blocks_per_row: u32,
    pub y_first: u32,
    pub y_stride: u32,
    /// First of this shard's biases.
    pub bias_first: u32,
    pub scales_base: u32,
    pub layer: u32,
    pub flags: u32,
    pub squares_first: u32,
    pub squares: u32,
    pub epsilon: f32,
    pub padding: u32,
}

pub const ACCESSES: [Access; 8] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
];

/// Its kernels for one format of weights: a block is decoded once for all tokens of a workgroup.
pub(crate) fn variants(format: WeightType, geometry: Geometry) -> Vec<Variant> {
    let lanes = geometry.lanes_per_row;
    let both = |tier, source: String| {
        let kernel = move || Variant { tier, ..Variant::baseline(source.clone()).with("LANES_PER_ROW", lanes) };
        [
            Variant { tokens: 1..=1, ..kernel().with("TOKENS_PER_GROUP", 1) },
            Variant { tokens: 2..=u32::MAX, ..kernel().with("TOKENS_PER_GROUP", TOKENS_PER_GROUP) },
        ]
    };
    let mut variants = both(Tier::Baseline, sources::matmul(format)).to_vec();
    // A row's lanes are those of a shuffle.
    if lanes == 8 {
        variants.extend(both(Tier::F16Subgroups, sources::matmul_subgroups(format)));
    }
    variants
}

/// Buffers of one call: `x` [tokens, columns] F32, with sums of squares behind it where it is to be normalised, `y` [tokens, y_stride] F32, and a bias [rows of the matrix] F32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub x: B,
    pub bias: Option<B>,
    pub y: B,
    pub status: B,
}

/// What one shard's call does with its result.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where row 0 of the matrix goes in a row of `y`, and how long a row of `y` is.
    pub y_first: u32,
    pub y_stride: u32,
    pub layer: u32,
    /// Only for the tokens whose logits are wanted, written from row 0 on.
    pub head: bool,
    /// What the norm makes of `x`.
    pub normed: Normed,
}

/// For one shard of a matrix.
pub fn call<B: Clone>(shard: &Shard<B>, buffers: &Buffers<B>, target: Target) -> Call<B> {
    let Buffers { step, x, bias, y, status } = buffers.clone();
    let normed = target.normed;
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let params = Params {
        rows: shard.layout.rows as u32,
        blocks_per_row: shard.layout.blocks_per_row as u32,
        y_first: target.y_first + shard.first_row as u32,
        y_stride: target.y_stride,
        bias_first: shard.first_row as u32,
        scales_base: (shard.layout.scales_offset_bytes() / 4) as u32,
        layer: target.layer,
        flags: flag(bias.is_some(), HAS_BIAS) | flag(target.head, HEAD),
        squares_first: normed.squares_first,
        squares: normed.squares,
        epsilon: normed.epsilon,
        padding: 0,
    };
    let tokens = if target.head {
        Extent::HeadTokens { per_group: TOKENS_PER_GROUP }
    } else {
        Extent::Tokens { per_group: TOKENS_PER_GROUP, times: 1 }
    };
    // Something has to be bound, and the status is already.
    let bias = bias.unwrap_or_else(|| status.clone());
    let (codes, scales) = (shard.buffer.clone(), shard.buffer.clone());
    let all = [step, codes, scales, x, bias, y, status];
    Call::new(Operation::Matmul(shard.layout.format), &params, all, (Extent::Rows(params.rows), tokens))
}
