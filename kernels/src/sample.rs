//! From every row of logits that is wanted: the most likely tokens, log-sum-exp, entropy.

use bytemuck::{Pod, Zeroable};
use gptoss_model::ops::sample::{CANDIDATES, Candidate};

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// What becomes of one row of logits: 544 bytes. Mirrors `Sampled` in `sample.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Sampled {
    /// Logits that were NaN or infinite: anything but 0 is an error.
    pub non_finite: u32,
    /// The most likely token and its logit.
    pub top_token: u32,
    pub top_logit: f32,
    /// ln Σ exp(logit): at temperature 1, …
    pub log_sum_exp: f32,
    /// … and of `logit · inverse_temperature` of the row's token.
    pub log_sum_exp_tempered: f32,
    /// −Σ p ln p at temperature 1, in nats.
    pub entropy_nats: f32,
    pub padding: [u32; 2],
    /// The most likely tokens, best first. Of a smaller vocabulary only as many are written.
    pub candidates: [Candidate; CANDIDATES],
}

impl Sampled {
    pub const SIZE_BYTES: u64 = size_of::<Self>() as u64;
    /// Bytes before the candidates.
    pub const SUMS_BYTES: u64 = std::mem::offset_of!(Self, candidates) as u64;
}

const _: () = assert!(Sampled::SIZE_BYTES == 544 && Sampled::SUMS_BYTES == 32);

/// Mirrors `Params` in `sample.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub vocabulary: u32,
    pub padding: [u32; 3],
}

pub const ACCESSES: [Access; 5] = [Access::Uniform, Access::Uniform, Access::Read, Access::Read, Access::ReadWrite];

/// Its kernels.
pub(crate) fn variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::sample())]
}

/// Buffers of one call: `logits` [head_tokens, vocabulary] F32, `rows` as [`crate::step`] has it, `sampled`
/// \[head_tokens\] of [`Sampled`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    pub step: B,
    pub logits: B,
    pub rows: B,
    pub sampled: B,
}

pub fn call<B: Clone>(buffers: &Buffers<B>, vocabulary: u32) -> Call<B> {
    let Buffers { step, logits, rows, sampled } = buffers.clone();
    let grid = (Extent::EACH_HEAD_TOKEN, Extent::ONE);
    Call::new(Operation::Sample, &Params { vocabulary, padding: [0; 3] }, [step, logits, rows, sampled], grid)
}
