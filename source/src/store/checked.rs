//! A store whose chunks are checked against the hashes that their host publishes.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use super::{CachedFile, ChunkHashes, ChunkRead, ChunkStore, Chunks, StoreFileError, StoreTotals};
use crate::{Bytes, SourceError, platform};

/// A store that may be closed at any time, with the hashes that the file's host published, once they are known.
pub struct CheckedStore {
    chunks: Chunks,
    store: RefCell<Option<ChunkStore>>,
    hashes: RefCell<Option<Rc<ChunkHashes>>>,
    /// Number of chunks whose SHA-256 was computed and found right.
    checked_chunks: Cell<u32>,
}

/// The outcome of reading a chunk.
#[derive(Debug)]
pub enum CachedChunk {
    /// The chunk is not cached.
    Absent,
    /// The bytes that were asked for, checked.
    Bytes(Bytes),
    /// The chunk was cached but is not what it should be, and has been dropped. The text says what differs.
    Damaged(String),
}

impl CheckedStore {
    /// Wraps `store`; without one every chunk is absent and nothing is cached.
    pub fn new(chunks: Chunks, store: Option<ChunkStore>) -> Self {
        Self { chunks, store: RefCell::new(store), hashes: RefCell::new(None), checked_chunks: Cell::new(0) }
    }

    /// How the file is cut.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The file that this is a cache of; `None` without a store.
    pub fn file(&self) -> Option<CachedFile> {
        self.store.borrow().as_ref().map(|store| store.file().clone())
    }

    /// Sets the hashes that chunks are checked against from now on. `false` if they are of a file that is cut
    /// differently.
    pub fn set_hashes(&self, hashes: Rc<ChunkHashes>) -> bool {
        let fit = hashes.fit(&self.chunks);
        if fit {
            *self.hashes.borrow_mut() = Some(hashes);
        }
        fit
    }

    /// Whether the host's hashes are known.
    pub fn has_hashes(&self) -> bool {
        self.hashes.borrow().is_some()
    }

    /// Chunks whose SHA-256 was computed since this was made and matched the one that the host published.
    pub fn checked_chunks(&self) -> u32 {
        self.checked_chunks.get()
    }

    /// Whether a chunk is cached.
    pub fn holds(&self, chunk: u32) -> bool {
        self.store.borrow().as_ref().is_some_and(|store| store.holds(chunk))
    }

    /// Whether new chunks can be cached.
    pub fn is_writable(&self) -> bool {
        self.store.borrow().as_ref().is_some_and(ChunkStore::is_writable)
    }

    /// Counters of the store; zero without one.
    pub fn totals(&self) -> StoreTotals {
        let none =
            StoreTotals { chunks: self.chunks.count(), file_bytes: self.chunks.file_bytes(), ..Default::default() };
        self.store.borrow().as_ref().map_or(none, ChunkStore::totals)
    }

    /// Indices of the cached chunks, in ascending order.
    pub fn held(&self) -> Vec<u32> {
        self.store.borrow().as_ref().map(ChunkStore::held).unwrap_or_default()
    }

    /// Reads a whole chunk, like [`CheckedStore::read_part`].
    pub async fn read(&self, chunk: u32) -> Result<CachedChunk, SourceError> {
        self.read_part(chunk, 0..self.chunks.len_bytes(chunk)).await
    }

    /// Reads some bytes of a chunk, if it is cached and unchanged. A chunk whose SHA-256 was not compared yet must
    /// match the host's.
    pub async fn read_part(&self, chunk: u32, part: Range<u64>) -> Result<CachedChunk, SourceError> {
        let read = |part| self.store.borrow_mut().as_mut().map_or(ChunkRead::Absent, |store| store.read(chunk, part));
        let whole = 0..self.chunks.len_bytes(chunk);
        // Only a whole chunk can be compared.
        let to_be_compared = self.has_hashes() && !self.is_verified(chunk);
        let read = read(if to_be_compared { whole } else { part.clone() });
        let (bytes, verified) = match read {
            ChunkRead::Absent => return Ok(CachedChunk::Absent),
            ChunkRead::Damaged(detail) => return Ok(CachedChunk::Damaged(detail)),
            ChunkRead::Bytes { bytes, verified } => (bytes, verified),
        };
        if verified || !to_be_compared {
            return Ok(CachedChunk::Bytes(bytes));
        }
        match self.matches(chunk, &bytes).await? {
            None => {}
            Some(true) => self.with_store(|store| store.mark_verified(chunk)),
            Some(false) => {
                self.with_store(|store| store.forget(chunk));
                return Ok(CachedChunk::Damaged("its SHA-256 is not the one that the host publishes".to_owned()));
            }
        }
        Ok(CachedChunk::Bytes(bytes.slice(part.start as usize..part.end as usize)))
    }

    fn is_verified(&self, chunk: u32) -> bool {
        self.store.borrow().as_ref().is_some_and(|store| store.is_verified(chunk))
    }

    /// Whether the SHA-256 of a chunk is the one that the host published; `None` if none is known.
    pub async fn matches(&self, chunk: u32, bytes: &Bytes) -> Result<Option<bool>, SourceError> {
        let hashes = self.hashes.borrow().clone();
        let Some(expected) = hashes.as_ref().and_then(|hashes| hashes.chunks.get(chunk as usize)) else {
            return Ok(None);
        };
        let matches = platform::sha256(bytes).await? == *expected;
        if matches {
            self.checked_chunks.set(self.checked_chunks.get() + 1);
        }
        Ok(Some(matches))
    }

    /// Writes a chunk, see [`ChunkStore::put`].
    pub fn put(&self, chunk: u32, bytes: &Bytes, verified: bool) -> Result<(), StoreFileError> {
        self.store.borrow_mut().as_mut().map_or(Ok(()), |store| store.put(chunk, bytes, verified))
    }

    /// Makes written chunks permanent, see [`ChunkStore::commit`].
    pub fn commit(&self) -> Result<(), StoreFileError> {
        self.store.borrow_mut().as_mut().map_or(Ok(()), ChunkStore::commit)
    }

    /// Drops unverified chunks, see [`ChunkStore::forget_unverified`].
    pub fn forget_unverified(&self) {
        self.with_store(ChunkStore::forget_unverified);
    }

    /// Whether the whole file is cached or can still become so.
    pub fn can_hold_all(&self) -> bool {
        let totals = self.totals();
        self.is_writable() || totals.stored_chunks == totals.chunks
    }

    /// Number of records that wait to be committed.
    pub fn pending(&self) -> usize {
        self.store.borrow().as_ref().map_or(0, ChunkStore::pending)
    }

    /// Closes the files, for example so that they can be deleted.
    pub fn close(&self) {
        *self.store.borrow_mut() = None;
    }

    fn with_store(&self, action: impl FnOnce(&mut ChunkStore)) {
        if let Some(store) = self.store.borrow_mut().as_mut() {
            action(store);
        }
    }
}
