//! From a row of logits: the most likely tokens, log-sum-exp, entropy.

use bytemuck::{Pod, Zeroable};
use gptoss_model::ops::sample::{CANDIDATES, Candidate};

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;

/// Bytes of the candidates buffer.
pub const CANDIDATES_BYTES: u64 = (CANDIDATES * size_of::<Candidate>()) as u64;

/// Mirrors `Params` in `sample.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub vocabulary: u32,
    pub padding: [u32; 3],
}

pub const ACCESSES: [Access; 5] =
    [Access::Uniform, Access::Uniform, Access::Read, Access::ReadWrite, Access::ReadWrite];

/// The compiled kernel.
pub struct Sample(Kernel);

/// Buffers of one launch: `logits` [head_tokens, vocabulary] F32, `candidates` of [`CANDIDATES_BYTES`].
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub logits: &'a GpuBuffer,
    pub candidates: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Sample {
    pub fn new(gpu: &Gpu) -> Self {
        Self(Kernel::new(gpu, "sample", &sources::sample(), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, vocabulary: u32) -> Launch {
        let uniform = gpu.uniform("sample", &Params { vocabulary, padding: [0; 3] });
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.logits.whole(),
                    buffers.candidates.whole(),
                    buffers.status.whole(),
                ],
                // Nothing to do while no logits are wanted.
                Extent::HeadTokens { per_group: u32::MAX },
                Extent::ONE,
            )
            .keep(uniform)
    }
}
