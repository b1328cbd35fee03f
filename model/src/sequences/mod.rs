//! Many sequences in one KV cache, and the batches of rows that extend them.
//!
//! ```text
//! rows ─ Sequences::submit ─ Ticket     blocks are reserved, the tail is not committed
//!              │
//!        a backend computes the oldest batch
//!              │
//!        Sequences::finish / fail       the tail is committed, or gone
//! ```
//!
//! A sequence is its tokens and the tables of its blocks ([`KvCache`]): one for the layers that attend to everything,
//! one for those with a sliding window, which let go of blocks behind it. Blocks that are full are shared by forks and
//! counted; one that is not full has one owner, so that appending never copies. Pure bookkeeping: the same for every
//! backend, and without one.

mod blocks;
mod kv_cache;
mod usage;
mod work;

pub use self::blocks::{BLOCK_TOKENS, Block, blocks_of};
pub use self::kv_cache::{BATCHES_UNDER_WAY, BlockCopy, BlocksInUse, KvCache, KvShape, NO_BLOCK, Reach, Tables};
pub use self::work::{Pending, Sequences};

use crate::prediction::Prediction;

/// Identity of a sequence: a conversation's state in a backend. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(crate) u64);

/// Identity of a submitted batch. Tickets may be collected in any order; batches are computed in the order of
/// submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// One token of a batch: it goes to the end of its sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The sequence to extend.
    pub sequence: SequenceId,
    /// Token id.
    pub token: u32,
    /// What to compute about the token after it.
    pub wanted: Wanted,
}

/// What to compute about the token after a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Nothing: the row only fills the cache.
    Nothing,
    /// The most likely token, and what sampling needs.
    Prediction {
        /// Factor of the logits for the tempered sum: 1 / temperature.
        inverse_temperature: f32,
        /// Whether to list the [`crate::ops::sample::CANDIDATES`] most likely tokens.
        candidates: bool,
    },
    /// All logits, `[vocabulary]`.
    Logits,
}

/// What was computed about the token after a row.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The answer to [`Wanted::Prediction`].
    Prediction(Prediction),
    /// The answer to [`Wanted::Logits`], `[vocabulary]`.
    Logits(Vec<f32>),
}

impl Outcome {
    /// # Panics
    /// Logits were asked for.
    pub fn prediction(self) -> Prediction {
        match self {
            Self::Prediction(prediction) => prediction,
            Self::Logits(_) => panic!("a prediction was asked for"),
        }
    }

    /// # Panics
    /// A prediction was asked for.
    pub fn logits(self) -> Vec<f32> {
        match self {
            Self::Logits(logits) => logits,
            Self::Prediction(_) => panic!("logits were asked for"),
        }
    }
}

/// Limits for the size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Largest number of rows.
    pub rows: u32,
    /// Largest number of rows that want something.
    pub wanted: u32,
}
