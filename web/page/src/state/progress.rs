//! How far things are, as the page was told last.

use gptoss_protocol::StageStatus;
use serde::{Deserialize, Serialize};

/// Progress of a load or download, as [`Event::Fetch`](gptoss_protocol::Event::Fetch) last reported it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchProgress {
    /// Bytes of the model received so far.
    pub fetched_bytes: u64,
    /// Bytes that the load or download needs in all.
    pub needed_bytes: u64,
    /// Requests made so far, repeated ones included, for the header too.
    pub requests: u32,
    /// Bytes that came over the wire, those of the header included; `None` where there is no wire.
    pub wire_bytes: Option<u64>,
    /// Average rate since fetching them began; `None` before there is anything to measure.
    pub bytes_per_second: Option<f64>,
}

/// How much of a header is here, as [`Event::Header`](gptoss_protocol::Event::Header) last reported it. How long it is shows when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderProgress {
    /// Bytes that are here.
    pub fetched_bytes: u64,
    /// Bytes that will be here once the read under way ends; more reads may follow.
    pub asked_bytes: u64,
    /// Average rate since reading the header began; `None` before there is anything to measure.
    pub bytes_per_second: Option<f64>,
}

/// A lost GPU that is being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Counts the recoveries of this load or answer, from 1 to `most`.
    pub attempt: u32,
    /// The work fails with the loss that comes after so many recoveries.
    pub most: u32,
    /// How long there has been no other GPU; `None` before an attempt to open one failed, and once one is open.
    pub waiting: Option<Waiting>,
}

/// How long something has been waited for, and how long it will be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Time since the wait began.
    pub waited_ms: f64,
    /// The work fails once it has waited for so long.
    pub patience_ms: f64,
}

/// A tensor that is where it belongs: on the GPU, or in host memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrivedTensor {
    /// Name of the tensor in the file, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Name of its format in the file, such as `MXFP4`.
    pub format: String,
    /// Length of the tensor in the file.
    pub bytes: u64,
    /// Tensors of this load that arrived before it.
    pub index: u32,
}

/// What became of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    /// Whether it runs, or how it ended; `None` before it begins.
    pub status: Option<StageStatus>,
    /// How long it took; `None` until it ends.
    pub elapsed_ms: Option<f64>,
    /// When it began, by the clock of the teller; `None` before.
    #[serde(default)]
    pub begun_at_ms: Option<f64>,
}

/// Fill of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvUse {
    /// Tokens that the answer's sequence holds.
    pub used_tokens: u32,
    /// Tokens that a sequence has room for.
    pub capacity_tokens: u32,
    /// Size of the whole KV cache, of all sequences together, filled or not.
    pub bytes: u64,
}
