//! From a row of logits: the most likely tokens, log-sum-exp, entropy.

use bytemuck::{Pod, Zeroable};
use gptoss_model::ops::sample::{CANDIDATES, Candidate};

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
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

/// Its kernels.
pub(crate) fn variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::sample())]
}

/// Buffers of one call: `logits` [head_tokens, vocabulary] F32, `candidates` of [`CANDIDATES_BYTES`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub logits: B,
    pub candidates: B,
    pub status: B,
}

pub fn call<B: Clone>(buffers: &Buffers<B>, vocabulary: u32) -> Call<B> {
    let Buffers { step, logits, candidates, status } = buffers.clone();
    // Nothing to do while no logits are wanted.
    let grid = (Extent::HeadTokens { per_group: u32::MAX }, Extent::ONE);
    Call::new(Operation::Sample, &Params { vocabulary, padding: [0; 3] }, [step, logits, candidates, status], grid)
}
