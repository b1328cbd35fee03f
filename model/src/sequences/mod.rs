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
//! A sequence is its tokens and the tables of its blocks ([`KvCache`]): one for the layers that attend to everything, one for
//! those with a sliding window, which let go of blocks behind it. Blocks that are full are shared by forks and counted; one that
//! is not full has one owner, so that appending never copies. Pure bookkeeping: the same for every backend, and without one.

mod blocks;
mod kv_cache;
mod work;

pub use self::blocks::{BLOCK_TOKENS, Block, blocks_of};
pub use self::kv_cache::{BATCHES_UNDER_WAY, BlockCopy, BlocksInUse, KvCache, KvShape, NO_BLOCK, Reach, Tables};
pub use self::work::{Pending, Sequences};

use crate::backend::Prediction;

/// A conversation's state in a backend. Ids are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(crate) u64);

/// A batch that was submitted. Tickets are collected in any order; batches are computed in that of their submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// One token of a batch: it goes to the end of its sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub sequence: SequenceId,
    pub token: u32,
    pub wanted: Wanted,
}

/// What is to be known of the token after a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    Nothing,
    /// The most likely one, and what sampling needs; with the [`crate::ops::sample::CANDIDATES`] most likely ones if asked for.
    Prediction {
        inverse_temperature: f32,
        candidates: bool,
    },
    /// All logits.
    Logits,
}

/// What became known of the token after a row.
#[derive(Clone, Debug)]
pub enum Outcome {
    Prediction(Prediction),
    /// \[vocabulary\]
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

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub rows: u32,
    /// Rows of which something is wanted.
    pub wanted: u32,
}
