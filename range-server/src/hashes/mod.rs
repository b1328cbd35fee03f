//! SHA-256 of files and of their chunks, so that a client can verify what it has, piece by piece, and resume.

mod compute;
mod queue;
mod store;
mod target;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use compute::{Cancelled, ComputeError, compute};
pub(crate) use queue::HashQueue;
pub use store::{HashStore, SaveError, sidecar_path};
pub use target::HashTarget;

use crate::content::Version;

/// Length of the pieces with hashes of their own, in bytes; the last one of a file may be shorter.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// The hashes of one version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHashes {
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the whole file, hexadecimal.
    pub sha256: String,
    /// Always [`CHUNK_BYTES`] as this version writes it.
    pub chunk_bytes: u64,
    /// SHA-256 of each chunk in turn, hexadecimal.
    pub chunks: Vec<String>,
}

/// The state of a file's hashes.
#[derive(Default)]
pub(crate) struct HashSlot {
    state: Mutex<Option<(Version, SlotState)>>,
}

#[derive(Clone)]
pub(crate) enum SlotState {
    Known(Arc<FileHashes>),
    /// The hashes are being computed, or wait for their turn.
    Pending(Arc<AtomicU64>),
    Failed(String),
}

impl HashSlot {
    fn lock(&self) -> MutexGuard<'_, Option<(Version, SlotState)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, version: Version, state: SlotState) {
        *self.lock() = Some((version, state));
    }

    /// Forgets a failure, so that the next request tries again.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// The state of this version's hashes, if anything is known.
    pub(crate) fn state(&self, version: &Version) -> Option<SlotState> {
        self.lock().as_ref().filter(|(of, _)| of == version).map(|(_, state)| state.clone())
    }

    /// The hashes of this version, if they are known.
    pub(crate) fn known(&self, version: &Version) -> Option<Arc<FileHashes>> {
        match self.state(version)? {
            SlotState::Known(hashes) => Some(hashes),
            _ => None,
        }
    }
}

/// Bytes hashed so far.
pub(crate) fn hashed_bytes(progress: &AtomicU64) -> u64 {
    progress.load(Ordering::Relaxed)
}
