//! Quantised matrix times activations: `y[t, r] = Σ_k W[r, k] · x[t, k] + bias[r]`, optionally added to `y`.

use bytemuck::{Pod, Zeroable};
use gptoss_gguf::WeightType;

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;
use crate::weights::Shard;

/// Tokens that one workgroup computes in prefill, so that a block is decoded once for all of them.
const TOKENS_PER_GROUP: u32 = 8;

pub const HAS_BIAS: u32 = 1;
pub const RESIDUAL: u32 = 2;
pub const HEAD: u32 = 4;

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

/// The compiled kernel for one weight format.
pub struct Matmul {
    kernel: Kernel,
    format: WeightType,
}

/// Buffers of one launch: `x` [tokens, columns] F32, `y` [tokens, y_stride] F32, and a bias [rows of the matrix] F32.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub x: &'a GpuBuffer,
    pub bias: Option<&'a GpuBuffer>,
    pub y: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

/// What one shard's launch does with its result.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where row 0 of the matrix goes in a row of `y`, and how long a row of `y` is.
    pub y_first: u32,
    pub y_stride: u32,
    pub layer: u32,
    /// Add to `y` instead of overwriting it.
    pub residual: bool,
    /// Only for the tokens whose logits are wanted.
    pub head: bool,
}

impl Matmul {
    pub fn new(gpu: &Gpu, format: WeightType) -> Self {
        let kernel = Kernel::batched(gpu, "matmul", &sources::matmul(format), &ACCESSES, TOKENS_PER_GROUP);
        Self { kernel, format }
    }

    /// Of the weights it multiplies with.
    pub fn format(&self) -> WeightType {
        self.format
    }

    /// The launch for one shard of a matrix.
    pub fn launch(&self, gpu: &Gpu, shard: &Shard, buffers: &Buffers<'_>, target: Target) -> Launch {
        assert_eq!(shard.layout.format, self.format, "kernel and weights differ in format");
        let rows = shard.layout.rows as u32;
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let uniform = gpu.uniform(
            "matmul",
            &Params {
                rows,
                blocks_per_row: shard.layout.blocks_per_row as u32,
                y_first: target.y_first + shard.first_row as u32,
                y_stride: target.y_stride,
                bias_first: shard.first_row as u32,
                scales_base: (shard.layout.scales_offset_bytes() / 4) as u32,
                layer: target.layer,
                flags: flag(buffers.bias.is_some(), HAS_BIAS)
                    | flag(target.residual, RESIDUAL)
                    | flag(target.head, HEAD),
            },
        );
        let bias = match buffers.bias {
            Some(bias) => bias.whole(),
            None => buffers.status.whole(),
        };
        let tokens = if target.head {
            Extent::HeadTokens { per_group: TOKENS_PER_GROUP }
        } else {
            Extent::Tokens { per_group: TOKENS_PER_GROUP, times: 1 }
        };
        self.kernel
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    shard.buffer.whole(),
                    shard.buffer.whole(),
                    buffers.x.whole(),
                    bias,
                    buffers.y.whole(),
                    buffers.status.whole(),
                ],
                Extent::Fixed(rows.div_ceil(gpu.rows_per_group())),
                tokens,
            )
            .keep(uniform)
    }
}
