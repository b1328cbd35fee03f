//! From every row of logits that is wanted: the most likely tokens, log-sum-exp, entropy.

use bytemuck::{Pod, Zeroable};
use gptoss_model::ops::sample::{CANDIDATES, Candidate};

use crate::gpu::Access;
use crate::launch::{Call, Extent};
use crate::operation::{Operation, Variant};
use crate::sources;

/// Statistics of one row of logits: 544 bytes. Mirrors `Sampled` in `sample.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Sampled {
    /// Number of logits that were NaN or infinite: anything but 0 is an error.
    pub non_finite: u32,
    /// The most likely token; the lowest id of equals.
    pub top_token: u32,
    /// Logit of that token.
    pub top_logit: f32,
    /// ln Σ exp(logit), at temperature 1.
    pub log_sum_exp: f32,
    /// ln Σ exp(logit · `inverse_temperature` of the row's token).
    pub log_sum_exp_tempered: f32,
    /// Entropy at temperature 1, −Σ p ln p, in nats.
    pub entropy_nats: f32,
    /// Unused; aligns the candidates.
    pub padding: [u32; 2],
    /// The most likely tokens, best first. A smaller vocabulary fills only as many as it has.
    pub candidates: [Candidate; CANDIDATES],
}

impl Sampled {
    /// Size of one row's statistics, in bytes.
    pub const SIZE_BYTES: u64 = size_of::<Self>() as u64;
    /// Size of what comes before the candidates, in bytes.
    pub const SUMS_BYTES: u64 = std::mem::offset_of!(Self, candidates) as u64;
}

const _: () = assert!(Sampled::SIZE_BYTES == 544 && Sampled::SUMS_BYTES == 32);

/// Uniform parameters of a call. Mirrors `Params` in `sample.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of logits in a row.
    pub vocabulary: u32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: [u32; 3],
}

/// Access to each binding, in order: the step, the parameters, and the other fields of [`Buffers`].
pub const ACCESSES: [Access; 5] = [Access::Uniform, Access::Uniform, Access::Read, Access::Read, Access::ReadWrite];

/// The only variant of the kernel.
pub(crate) fn variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::sample())]
}

/// Buffers of one call: `logits` [head_tokens, vocabulary] F32, `rows` as [`crate::step`] has it, `sampled`
/// `[head_tokens]` of [`Sampled`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Logits of the tokens whose logits are wanted.
    pub logits: B,
    /// Rows of the batch, with their temperatures.
    pub rows: B,
    /// Result: statistics of each row.
    pub sampled: B,
}

/// One call for all rows.
pub fn call<B: Clone>(buffers: &Buffers<B>, vocabulary: u32) -> Call<B> {
    let Buffers { step, logits, rows, sampled } = buffers.clone();
    let grid = (Extent::EACH_HEAD_TOKEN, Extent::ONE);
    Call::new(Operation::Sample, &Params { vocabulary, padding: [0; 3] }, [step, logits, rows, sampled], grid)
}
