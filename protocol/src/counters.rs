//! What is counted since the load, for experts and for the engine's own work.

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// Counters of the expert cache since the load. Uses are counted in experts that a batch chose, each once a layer: as
/// often as one has to be read if it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCounters {
    /// Uses of experts that were on the GPU already.
    pub hits: u64,
    /// Uses of experts that had to be read because a token needed them.
    pub misses: u64,
    /// Experts that gave up their slot for another.
    pub evictions: u64,
    /// Experts that are on the GPU now, of all layers together.
    pub resident: u32,
    /// Experts that the GPU has room for, of all layers together.
    pub slots: u32,
    /// Bytes in the file of the experts that were read one by one, needed or prefetched.
    pub loaded_bytes: u64,
}

impl Add for CacheCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            resident: self.resident + other.resident,
            slots: self.slots + other.slots,
            loaded_bytes: self.loaded_bytes + other.loaded_bytes,
        }
    }
}

/// What the engine did since the load, counted at the calls themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkCounters {
    /// Submissions to the queue of the GPU.
    pub submits: u64,
    /// Dispatches of a kernel.
    pub dispatches: u64,
    /// GPU buffers that were created, those included that are gone again.
    pub buffers_created: u64,
    /// Bind groups that were created.
    pub bind_groups_created: u64,
    /// Pipelines that were compiled.
    pub pipelines_created: u64,
    /// Bytes of status that were read back: a few for each batch and, with paged experts, when each expert was used
    /// last.
    pub status_readback_bytes: u64,
    /// Bytes of candidates or logits that were read back because someone wants to see or sample from them.
    pub sampling_readback_bytes: u64,
    /// Bytes that were read back for those who [`crate::Watch`].
    #[serde(default)]
    pub watched_readback_bytes: u64,
    /// Weight bytes received from the source.
    pub weights_fetched_bytes: u64,
    /// Weight bytes that were put to use; equal to `weights_fetched_bytes` when nothing was fetched twice or thrown
    /// away.
    pub weights_used_bytes: u64,
}

impl Add for WorkCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            submits: self.submits + other.submits,
            dispatches: self.dispatches + other.dispatches,
            buffers_created: self.buffers_created + other.buffers_created,
            bind_groups_created: self.bind_groups_created + other.bind_groups_created,
            pipelines_created: self.pipelines_created + other.pipelines_created,
            status_readback_bytes: self.status_readback_bytes + other.status_readback_bytes,
            sampling_readback_bytes: self.sampling_readback_bytes + other.sampling_readback_bytes,
            watched_readback_bytes: self.watched_readback_bytes + other.watched_readback_bytes,
            weights_fetched_bytes: self.weights_fetched_bytes + other.weights_fetched_bytes,
            weights_used_bytes: self.weights_used_bytes + other.weights_used_bytes,
        }
    }
}
