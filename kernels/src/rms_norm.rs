//! RMSNorm: `y = x · weight / sqrt(mean(x²) + epsilon)`, over the columns of each token.

use bytemuck::{Pod, Zeroable};

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
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

/// The compiled kernel.
pub struct RmsNorm(Kernel);

/// Buffers of one launch: `x`, `y` [tokens, columns] F32, `weight` [columns] F32.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub x: &'a GpuBuffer,
    pub weight: &'a GpuBuffer,
    pub y: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl RmsNorm {
    pub fn new(gpu: &Gpu) -> Self {
        Self(Kernel::new(gpu, "rms_norm", &sources::rms_norm(), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, params: Params) -> Launch {
        let uniform = gpu.uniform("rms_norm", &params);
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.x.whole(),
                    buffers.weight.whole(),
                    buffers.y.whole(),
                    buffers.status.whole(),
                ],
                if params.head == 1 { Extent::EACH_HEAD_TOKEN } else { Extent::EACH_TOKEN },
                Extent::ONE,
            )
            .keep(uniform)
    }
}
