//! What changes from one forward pass to the next: the step (host to GPU) and the status (GPU to host).

use bytemuck::{Pod, Zeroable};
use gptoss_model::{MAX_EXPERTS, NotFinite};

use crate::not_finite;

/// The batch that the next submission works on; a uniform of every kernel. Mirrors `Step` in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Step {
    /// Tokens in the batch.
    pub tokens: u32,
    /// Position of the first of them in the conversation.
    pub first_position: u32,
    /// First token of the batch whose logits are wanted, …
    pub head_first: u32,
    /// … and how many from there on (0: none).
    pub head_tokens: u32,
    /// Counts up with every batch; marks when an expert was last used.
    pub stamp: u32,
    /// Candidates are weighed with `exp(logit · inverse_temperature)`.
    pub inverse_temperature: f32,
    pub padding: [u32; 2],
}

/// Read back once per submission: 64 bytes. Mirrors the `STATUS_*` indices in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Status {
    /// First layer that missed an expert, or [`Status::RUNNING`].
    pub halt_layer: u32,
    /// Uses of experts that were resident, since the last reset.
    pub hits: u32,
    /// Uses that were not.
    pub misses: u32,
    /// Logits that were NaN or infinite: anything but 0 is an error.
    pub non_finite: u32,
    /// Experts missed at `halt_layer`, one bit each.
    pub missed: [u32; MAX_EXPERTS as usize / 32],
    /// The most likely token and its logit.
    pub top_token: u32,
    pub top_logit: f32,
    /// ln Σ exp(logit): at temperature 1, …
    pub log_sum_exp: f32,
    /// … and of `logit · inverse_temperature`.
    pub log_sum_exp_tempered: f32,
    /// −Σ p ln p at temperature 1, in nats.
    pub entropy_nats: f32,
    pub padding: [u32; 2],
    /// Where an activation that is not finite was found first, as [`not_finite::from_code`] reads it. Last, so that the words
    /// before it can be reset alone ([`Status::BEFORE_NOT_FINITE_BYTES`]).
    pub first_not_finite: u32,
}

impl Status {
    pub const SIZE_BYTES: u64 = size_of::<Self>() as u64;
    /// `halt_layer` while nothing was missed.
    pub const RUNNING: u32 = u32::MAX;
    /// Bytes that are reset when a batch goes on after a miss: what was found before it stays.
    pub const BEFORE_NOT_FINITE_BYTES: usize = std::mem::offset_of!(Self, first_not_finite);

    /// The state before a batch.
    pub fn running() -> Self {
        Self { halt_layer: Self::RUNNING, first_not_finite: not_finite::NONE, ..Self::zeroed() }
    }

    /// Where an activation that is not finite was found first.
    pub fn not_finite(&self) -> Option<NotFinite> {
        not_finite::from_code(self.first_not_finite)
    }

    /// The experts that `halt_layer` was missing, ascending.
    pub fn missed_experts(&self) -> impl Iterator<Item = u32> + '_ {
        (0..MAX_EXPERTS).filter(|expert| self.missed[(expert / 32) as usize] >> (expert % 32) & 1 == 1)
    }
}

const _: () = assert!(size_of::<Status>() == 64 && size_of::<Step>() == 32);
