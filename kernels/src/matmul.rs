//! Quantised matrix times activations: `y[t, r] = Σ_k W[r, k] · x[t, k] + bias[r]`; `x` as it is, or normalised on the
//! way.

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

/// Flag: add a bias. Mirrors `HAS_BIAS` in the kernel.
pub const HAS_BIAS: u32 = 1;
/// Flag: compute only the tokens whose logits are wanted. Mirrors `HEAD` in the kernel.
pub const HEAD: u32 = 2;

/// Uniform parameters of a call. Mirrors `Params` in `matmul_parts.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of this shard.
    pub rows: u32,
    /// Runs of 32 weights in a row.
    pub blocks_per_row: u32,
    /// Column of `y` that row 0 of the shard writes.
    pub y_first: u32,
    /// Columns of `y`.
    pub y_stride: u32,
    /// Index of this shard's first bias.
    pub bias_first: u32,
    /// First scale of the shard in its buffer, in words.
    pub scales_base: u32,
    /// Index of the layer: nothing is computed after an earlier one halted.
    pub layer: u32,
    /// [`HAS_BIAS`] and [`HEAD`].
    pub flags: u32,
    /// Index of the first sum of squares in `x`.
    pub squares_first: u32,
    /// Sums of squares that a token has; 0 multiplies `x` as it is.
    pub squares: u32,
    /// ε of the norm.
    pub epsilon: f32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: u32,
}

/// Access to each binding, in order.
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

/// The kernels for one format of weights, which decode a block once for all tokens of a workgroup.
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
    // The lanes that share a row are those of a shuffle.
    if lanes == 8 {
        variants.extend(both(Tier::F16Subgroups, sources::matmul_subgroups(format)));
    }
    variants
}

/// Buffers of one call: `x` [tokens, columns] F32, followed by sums of squares if it has to be normalised, `y` [tokens,
/// y_stride] F32, and a bias [rows of the matrix] F32.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Input.
    pub x: B,
    /// Bias, if the matrix has one.
    pub bias: Option<B>,
    /// Result.
    pub y: B,
    /// State of the batch, a [`crate::Status`].
    pub status: B,
}

/// Where the result of a shard goes, and how its input is scaled.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Column of `y` that row 0 of the matrix writes.
    pub y_first: u32,
    /// Columns of `y`.
    pub y_stride: u32,
    /// Index of the layer.
    pub layer: u32,
    /// Whether to compute only the tokens whose logits are wanted, and write them from row 0 on.
    pub head: bool,
    /// Sums of squares with which the norm scales `x`.
    pub normed: Normed,
}

/// The call for one shard of a matrix.
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
    // The binding needs some buffer, and the status exists in any case.
    let bias = bias.unwrap_or_else(|| status.clone());
    let (codes, scales) = (shard.buffer.clone(), shard.buffer.clone());
    let all = [step, codes, scales, x, bias, y, status];
    Call::new(Operation::Matmul(shard.layout.format), &params, all, (Extent::Rows(params.rows), tokens))
}
