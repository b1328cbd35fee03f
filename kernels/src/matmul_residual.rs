//! Quantised matrix times activations, added to the residual stream: `x[t, r] += Σ_k W[r, k] · a[t, k] + bias[r]`, with
//! the first half of the norm that follows ([`crate::norm`]).

use bytemuck::{Pod, Zeroable};
use gptoss_gguf::WeightType;

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::matmul::TOKENS_PER_GROUP;
use crate::operation::{Geometry, Operation, Variant};
use crate::sources;
use crate::weights::{Matrix, Shard};

/// Uniform parameters of a call. Mirrors `Params` in `matmul_residual.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of this shard.
    pub rows: u32,
    /// Runs of 32 weights in a row.
    pub blocks_per_row: u32,
    /// First scale of the shard in its buffer, in words.
    pub scales_base: u32,
    /// Index of the layer: nothing is computed after an earlier one halted.
    pub layer: u32,
    /// Width of the residual stream.
    pub columns: u32,
    /// Column of the residual stream that row 0 of the shard adds to.
    pub first_row: u32,
    /// Index of the first sum of squares in `normed`.
    pub squares_first: u32,
    /// Sums of squares that all shards together give a token.
    pub squares: u32,
    /// Index of this shard's first sum among them.
    pub first_square: u32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: [u32; 3],
}

/// Access to each binding, in order.
pub const ACCESSES: [Access; 9] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::ReadWrite,
    Access::Read,
];

/// The kernels for one format of weights.
pub(crate) fn variants(format: WeightType, geometry: Geometry) -> Vec<Variant> {
    let kernel = || Variant::baseline(sources::matmul_residual(format)).with("LANES_PER_ROW", geometry.lanes_per_row);
    vec![
        Variant { tokens: 1..=1, ..kernel().with("TOKENS_PER_GROUP", 1) },
        Variant { tokens: 2..=u32::MAX, ..kernel().with("TOKENS_PER_GROUP", TOKENS_PER_GROUP) },
    ]
}

/// Buffers of one call, all F32: `x` [tokens, inputs], `vectors` bias and next norm's weight, `[columns]` each,
/// `residual` [tokens, columns], `normed` [tokens, columns] and behind it the sums of squares, [tokens, [`squares`]].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Input.
    pub x: B,
    /// Bias, followed by the weight of the next norm.
    pub vectors: B,
    /// Residual stream, which the products are added to.
    pub residual: B,
    /// Residual stream times the weight of the next norm, followed by sums of squares.
    pub normed: B,
    /// State of the batch, a [`crate::Status`].
    pub status: B,
}

/// How many sums of squares all shards of a matrix together give for each token.
pub fn squares<B>(matrix: &Matrix<B>, rows_per_group: u32) -> u32 {
    matrix.shards.iter().map(|shard| groups(shard, rows_per_group)).sum()
}

fn groups<B>(shard: &Shard<B>, rows_per_group: u32) -> u32 {
    (shard.layout.rows as u32).div_ceil(rows_per_group)
}

/// One call for each shard of a matrix whose rows are the columns of the residual stream. `squares_first`: index of the
/// first sum in `normed`. `rows_per_group`: see [`crate::Limits`].
pub fn calls<B: Clone>(
    matrix: &Matrix<B>,
    buffers: &Buffers<B>,
    layer: u32,
    squares_first: u32,
    rows_per_group: u32,
) -> Vec<Call<B>> {
    let squares = squares(matrix, rows_per_group);
    let mut first_square = 0;
    let call = |shard: &Shard<B>| {
        let Buffers { step, x, vectors, residual, normed, status } = buffers.clone();
        let params = Params {
            rows: shard.layout.rows as u32,
            blocks_per_row: shard.layout.blocks_per_row as u32,
            scales_base: (shard.layout.scales_offset_bytes() / 4) as u32,
            layer,
            columns: matrix.rows as u32,
            first_row: shard.first_row as u32,
            squares_first,
            squares,
            first_square,
            padding: [0; 3],
        };
        first_square += groups(shard, rows_per_group);
        let (codes, scales) = (shard.buffer.clone(), shard.buffer.clone());
        let all = [step, codes, scales, x, vectors, residual, normed, status];
        let tokens = Extent::Tokens { per_group: TOKENS_PER_GROUP, times: 1 };
        Call::new(Operation::MatmulResidual(matrix.format), &params, all, (Extent::Rows(params.rows), tokens))
    };
    matrix.shards.iter().map(call).collect()
}
