//! What changes from one forward pass to the next: the step and the rows (host to GPU), and the status (GPU to host).
//!
//! # The rows buffer
//!
//! Words (u32): first a [`Row`] for each token of the batch, [`ROW_WORDS`] each, then the block tables of the
//! sequences that these tokens belong to:
//!
//! ```text
//! Row of token 0 │ Row of token 1 │ … │ tables of a sequence │ tables of another one │ …
//! ```
//!
//! The KV cache of a layer is a pool of blocks of [`gptoss_model::BLOCK_TOKENS`] positions. A table says which of them
//! a sequence has: `table[k]` is the block that holds its positions 64 · k to 64 · k + 63. Layers of different kinds
//! have tables of their own: those of one sequence follow each other, the first begins at [`Row::table`], and a launch
//! knows how many words farther on the one of its layer does (`table_first` in its parameters). Entries for blocks that
//! no token of the batch reads or writes are never looked at. Tables of several sequences may name the same block.

use bytemuck::{Pod, Zeroable};
use gptoss_model::{MAX_EXPERTS, NotFinite};

use crate::not_finite;

/// The batch that the next submission computes; a uniform of every kernel. Mirrors `Step` in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Step {
    /// Number of tokens in the batch.
    pub tokens: u32,
    /// First token of the batch whose logits are wanted.
    pub head_first: u32,
    /// How many tokens have wanted logits, from `head_first` on; may be 0.
    pub head_tokens: u32,
    /// Number of the batch, which marks when an expert was last used.
    pub stamp: u32,
}

/// A token of the batch. Mirrors the `ROW_*` indices in `rows.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Row {
    /// Position of the token in its sequence.
    pub position: u32,
    /// Where the block tables of its sequence begin in the rows buffer, in words.
    pub table: u32,
    /// Factor of the logits in the tempered sum: exp(logit · inverse_temperature).
    pub inverse_temperature: f32,
    /// Unused; makes a row 16 bytes.
    pub padding: u32,
}

/// Words of a [`Row`].
pub const ROW_WORDS: u32 = (size_of::<Row>() / 4) as u32;

/// State that a submission returns: 32 bytes. Mirrors the `STATUS_*` indices in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Status {
    /// First layer that missed an expert, or [`Status::RUNNING`].
    pub halt_layer: u32,
    /// Chosen experts that were resident since the last reset; each counts once per layer and batch.
    pub hits: u32,
    /// Chosen experts that were not resident, counted in the same way.
    pub misses: u32,
    /// Experts missed at `halt_layer`, one bit each.
    pub missed: [u32; MAX_EXPERTS as usize / 32],
    /// Where an activation that is not finite was first found, to be read with [`not_finite::from_code`]. It is the
    /// last word, so that the others can be reset alone ([`Status::BEFORE_NOT_FINITE_BYTES`]).
    pub first_not_finite: u32,
}

impl Status {
    /// Size in bytes.
    pub const SIZE_BYTES: u64 = size_of::<Self>() as u64;
    /// Value of `halt_layer` while nothing was missed.
    pub const RUNNING: u32 = u32::MAX;
    /// Bytes that are reset when a batch goes on after a miss; earlier findings stay.
    pub const BEFORE_NOT_FINITE_BYTES: usize = std::mem::offset_of!(Self, first_not_finite);

    /// The state before a batch.
    pub fn running() -> Self {
        Self { halt_layer: Self::RUNNING, first_not_finite: not_finite::NONE, ..Self::zeroed() }
    }

    /// The first place where an activation was not finite, if there is one.
    pub fn not_finite(&self) -> Option<NotFinite> {
        not_finite::from_code(self.first_not_finite)
    }

    /// The experts that `halt_layer` was missing, in ascending order.
    pub fn missed_experts(&self) -> impl Iterator<Item = u32> + '_ {
        (0..MAX_EXPERTS).filter(|expert| self.missed[(expert / 32) as usize] >> (expert % 32) & 1 == 1)
    }
}

const _: () = assert!(size_of::<Status>() == 32 && size_of::<Step>() == 16 && size_of::<Row>() == 16);
