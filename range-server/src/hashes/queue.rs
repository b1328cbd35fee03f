//! Hashing in the background, one file at a time: several at once would only make the disk jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::{Cancelled, ComputeError, HashStore, SlotState, compute};
use crate::catalogue::ServedFile;
use crate::content::{Content, Version};

/// The background hashing of a server.
pub(crate) struct HashQueue {
    store: HashStore,
    turn: Arc<Semaphore>,
    closing: Arc<AtomicBool>,
}

impl HashQueue {
    pub(crate) fn new(store: HashStore) -> Self {
        Self { store, turn: Arc::new(Semaphore::new(1)), closing: Arc::default() }
    }

    /// What is known of this version of a file; looks at what was kept, but starts nothing. Blocks.
    pub(crate) fn look_up(&self, file: &ServedFile, version: &Version) -> Option<SlotState> {
        if let Some(state) = file.hashes.state(version) {
            return Some(state);
        }
        let kept = self.store.find(file.path()?, version.len, version.stamp?.modified_ns())?;
        let state = SlotState::Known(Arc::new(kept));
        file.hashes.set(version.clone(), state.clone());
        Some(state)
    }

    /// What is known of this version of a file; if nothing is, it is computed from now on. Blocks.
    pub(crate) fn request(&self, file: &Arc<ServedFile>, content: Content, version: Version) -> SlotState {
        if let Some(state) = self.look_up(file, &version) {
            return state;
        }
        let progress = Arc::new(AtomicU64::new(0));
        let state = SlotState::Pending(Arc::clone(&progress));
        file.hashes.set(version.clone(), state.clone());
        let (store, turn, closing) = (self.store.clone(), Arc::clone(&self.turn), Arc::clone(&self.closing));
        let file = Arc::clone(file);
        tokio::spawn(async move {
            // Waiting here takes no thread. The semaphore is never closed.
            let _turn = turn.acquire_owned().await;
            let work = move || run(&store, &file, &content, version, &progress, &closing);
            // It fails only when the runtime ends, and nobody is left to tell.
            let _ = tokio::task::spawn_blocking(work).await;
        });
        state
    }
}

impl HashQueue {
    /// Ends what is under way, and starts nothing more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

fn run(
    store: &HashStore,
    file: &ServedFile,
    content: &Content,
    version: Version,
    progress: &AtomicU64,
    closing: &AtomicBool,
) {
    let outcome = hash(content, &version, progress, closing);
    if let (Ok(hashes), Some(path), Some(stamp)) = (&outcome, file.path(), version.stamp) {
        // If they are not saved, the hashes are computed again after the next start; the answer is the same.
        let _ = store.save(path, stamp.modified_ns(), hashes);
    }
    let state = match outcome {
        Ok(hashes) => SlotState::Known(Arc::new(hashes)),
        Err(error) => SlotState::Failed(error.to_string()),
    };
    file.hashes.set(version, state);
}

fn hash(
    content: &Content,
    version: &Version,
    progress: &AtomicU64,
    closing: &AtomicBool,
) -> Result<super::FileHashes, ComputeError> {
    let advance = |done| {
        progress.store(done, Ordering::Relaxed);
        if closing.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    };
    let hashes = compute(version.len, |buffer, offset| content.read_exact_at(buffer, offset), advance)?;
    if content.version()? != *version {
        return Err(std::io::Error::other("the file changed while it was being hashed").into());
    }
    Ok(hashes)
}
