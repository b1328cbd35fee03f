//! The download cache: stores a model file chunk by chunk, so that nothing is fetched twice.
//!
//! A cached file consists of two files. The *data* file holds chunks of equal length, one after the other in the order in
//! which they came: browsers count a file's length against their quota, so there are no holes for what is not here yet.
//! The *journal* says which chunk is where and what its bytes hash to. A record is written after the bytes that it is
//! about, and after those were flushed; every record has a checksum of its own. What has no valid record does not
//! exist, and what does not hash to what its record says is never handed out. So a crash at any moment costs what was
//! under way and no more.
//!
//! Nothing in here knows of browsers: files come in as [`StoreFile`]s. [`CachingSource`] puts a store before another
//! source.

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

/// Bytes in a chunk, unless a test chooses otherwise; gguf-serve publishes SHA-256 of chunks of this size.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// The two files of a store, which nobody else writes to while they are open.
pub struct StoreFiles {
    /// The chunks' bytes, in slots of one chunk each.
    pub data: Box<dyn StoreFile>,
    /// Header and records that say which chunk is in which slot.
    pub journal: Box<dyn StoreFile>,
    /// Dropped after the files, when they are no longer in use: a lock, for example.
    pub guard: Option<Box<dyn std::any::Any>>,
}

/// A file that is read and written synchronously at positions.
pub trait StoreFile {
    /// Current length of the file in bytes.
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

/// Why a [`StoreFile`] operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum StoreFileError {
    /// The disk is full, or the browser's quota for this origin is used up.
    #[error("there is no room left ({detail})")]
    Full { detail: String },

    /// The operation failed for another reason.
    #[error("{action} failed: {detail}")]
    Failed { action: &'static str, detail: String },
}

/// Identity of the file that a cache is a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedFile {
    /// Address of the file; [`cached_url`] for a file from this machine's own disk.
    pub url: String,
    /// Length of the file in bytes.
    pub len_bytes: u64,
    /// A strong ETag: only that promises that equal tags mean equal bytes.
    pub etag: String,
}

/// Why nothing can be cached, or the cache cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum StoreError {
    /// The underlying files failed.
    #[error(transparent)]
    File(#[from] StoreFileError),

    /// The files were written by another version of this program.
    #[error("what is cached of {url} was written in format {got}, this page reads format {expected}", expected = FORMAT_VERSION)]
    Version { url: String, got: u32 },

    /// Another tab or worker has the files open.
    #[error("what is cached of {url} is in use by another tab")]
    InUse { url: String },

    /// The browser offers no files to this page, or they failed.
    #[error("this browser's storage cannot be used: {detail}")]
    Unavailable { detail: String },

    /// The file is longer than a journal can describe.
    #[error("{url} has {len_bytes} bytes, too many to be cached")]
    TooLong { url: String, len_bytes: u64 },
}

impl StoreError {
    /// What the user can do about it. The load itself goes on without the cache.
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

/// Prefix of the name of a file from this machine's own disk, which has no address.
pub const CACHED_SCHEME: &str = "cached:";

/// The address under which a file from this machine's own disk is cached.
pub fn cached_url(name: &str) -> String {
    format!("{CACHED_SCHEME}{name}")
}

/// Name of the folder that a URL's file is cached in.
pub fn cache_id(url: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(url.as_bytes()))
}
