//! Keeping a model file, chunk by chunk, so that what was fetched once need not be fetched again.
//!
//! A file is cached in two others. The *data* file holds chunks of equal length, one after the other in the order in which
//! they came: browsers count a file's length against their quota, so there are no holes for what is not here yet. The
//! *journal* says which chunk is where and what its bytes hash to. A record is written after the bytes that it is about,
//! and after those were flushed; every record has a checksum of its own. What has no valid record does not exist, and what
//! does not hash to what its record says is never handed out. So a crash at any moment costs what was under way and no more.
//!
//! Nothing in here knows of browsers: files come in as [`StoreFile`]s. [`CachingSource`] puts a store before another source.

mod block_hashes;
mod caching_source;
mod checked;
mod chunk_store;
mod chunks;
mod journal;
mod only_cached;

#[cfg(all(test, not(target_arch = "wasm32")))]
mod faulty_files;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;

use thiserror::Error;

use crate::Bytes;

pub use caching_source::{CachingSource, StoreNews, StoreProgress};
pub use checked::{CachedChunk, CheckedStore};
pub use chunk_store::{ChunkRead, ChunkStore, Opening, StoreTotals};
pub use chunks::{ChunkHashes, Chunks};
pub use journal::{FORMAT_VERSION, JournalSummary, summarise};
pub use only_cached::OnlyCached;

/// Bytes in a chunk, unless a test chooses otherwise: what gguf-serve publishes SHA-256 of.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// Two files of this store's own, that nobody else writes to while they are open.
pub struct StoreFiles {
    pub data: Box<dyn StoreFile>,
    pub journal: Box<dyn StoreFile>,
    /// Kept for as long as the files are in use, and dropped after them: a lock, for example.
    pub guard: Option<Box<dyn std::any::Any>>,
}

/// A file that is read and written at positions, without waiting.
pub trait StoreFile {
    fn len_bytes(&self) -> Result<u64, StoreFileError>;

    /// Reads exactly `len_bytes` bytes; fewer are an error.
    fn read_at(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, StoreFileError>;

    /// Writes all of `bytes`, making the file longer where necessary.
    fn write_at(&self, offset_bytes: u64, bytes: &Bytes) -> Result<(), StoreFileError>;

    /// Cuts the file to `len_bytes`.
    fn truncate(&self, len_bytes: u64) -> Result<(), StoreFileError>;

    /// Returns once everything that was written would survive a loss of power.
    fn flush(&self) -> Result<(), StoreFileError>;
}

/// Why a [`StoreFile`] could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreFileError {
    /// The disk is full, or what the browser lets this origin use of it.
    #[error("there is no room left ({detail})")]
    Full { detail: String },

    #[error("{action} failed: {detail}")]
    Failed { action: &'static str, detail: String },
}

/// What a cached file is a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedFile {
    /// Where it came from; of a file from this machine's own disk [`cached_url`].
    pub url: String,
    pub len_bytes: u64,
    /// A strong ETag: only that promises that equal means equal in every byte.
    pub etag: String,
}

/// Why nothing can be cached, or what is cached cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error(transparent)]
    File(#[from] StoreFileError),

    /// The files were written by another version of this program.
    #[error("what is cached of {url} was written in format {got}, this page reads format {expected}", expected = FORMAT_VERSION)]
    Version { url: String, got: u32 },

    /// Another tab or worker has them open.
    #[error("what is cached of {url} is in use by another tab")]
    InUse { url: String },

    /// The browser offers no files to this page, or they failed.
    #[error("this browser's storage cannot be used: {detail}")]
    Unavailable { detail: String },

    /// Lengths that no journal can hold.
    #[error("{url} has {len_bytes} bytes, too many to be cached")]
    TooLong { url: String, len_bytes: u64 },
}

impl StoreError {
    /// What the user can do about it. The load itself goes on without the store.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::File(StoreFileError::Full { .. }) => {
                "Free disk space, or let this site store more; then load again to cache this one."
            }
            Self::File(StoreFileError::Failed { .. }) => {
                "If it happens again, delete the cached copy under Download cache and load the model once more."
            }
            Self::Version { .. } => "Delete the cached copy under Download cache; the next load caches a new one.",
            Self::InUse { .. } => {
                "Close the other tab if this one is to use the cached copy; two tabs cannot share it."
            }
            Self::Unavailable { .. } => {
                "Models are fetched anew each time. Private windows and blocked site data cache nothing."
            }
            Self::TooLong { .. } => "The file is read without being cached.",
        }
    }
}

/// Stands before the name of a file from this machine's own disk, which has no address.
pub const CACHED_SCHEME: &str = "cached:";

/// The address that a file from this machine's own disk is cached under.
pub fn cached_url(name: &str) -> String {
    format!("{CACHED_SCHEME}{name}")
}

/// A name for the folder that a URL's file is cached in.
pub fn cache_id(url: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(url.as_bytes()))
}
