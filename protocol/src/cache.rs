//! What an engine host says about its download cache: the models that are cached between visits.

use serde::{Deserialize, Serialize};

/// How much of one file is cached, and where its bytes came from since it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheState {
    /// Name of the file.
    pub file: String,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Bytes of the file that are cached.
    pub stored_bytes: u64,
    /// Cached bytes that were there when the load began.
    pub resumed_bytes: u64,
    /// Chunks that the file has.
    pub chunks: u32,
    /// Chunks that are cached.
    pub stored_chunks: u32,
    /// Chunks whose SHA-256 matched the one that the host published, now or in an earlier visit.
    pub verified_chunks: u32,
    /// Bytes read from the host or from a picked file.
    pub network_bytes: u64,
    /// Bytes read from the cache; reading some twice counts twice.
    pub storage_bytes: u64,
    /// Whether the host's hashes are known.
    pub hashes_known: bool,
}

/// Something about the download cache that the user should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheNotice {
    /// What happened, for programs.
    pub kind: CacheNoticeKind,
    /// Name of the file that it is about.
    pub file: String,
    /// What happened, in words.
    pub message: String,
    /// What the user can do about it.
    pub advice: String,
}

/// What happened to the download cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheNoticeKind {
    /// The cache held an earlier version of the file, or could not be read, and was discarded.
    Discarded,
    /// A cached part has changed on disk; it is fetched again.
    Damaged,
    /// A part arrived with another SHA-256 than the host publishes; it is fetched once more.
    WrongOnTheWay,
    /// Nothing more can be cached: there is no room, or the disk failed.
    NotCached,
    /// Another tab has the cached file open.
    InUse,
    /// The file cannot be cached: its host says nothing by which a changed file could be recognised.
    NoIdentity,
    /// The browser stores nothing for this page, or not in a form that is of use.
    Unavailable,
}

/// The whole download cache of this browser for this page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheReport {
    /// All cached files.
    pub models: Vec<CachedModel>,
    /// Bytes that the page's origin uses; `None` where the browser does not say.
    pub usage_bytes: Option<u64>,
    /// Bytes that the page's origin may use; `None` where the browser does not say.
    pub quota_bytes: Option<u64>,
    /// Whether the browser has promised not to delete anything by itself; `None` where it does not say.
    pub persisted: Option<bool>,
    /// Why nothing can be cached, or why the last action failed.
    pub problem: Option<String>,
}

/// One file that is cached, whole or in part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedModel {
    /// Id of the cached file, for commands about it.
    pub id: String,
    /// What is cached; `None` if this version cannot read it.
    pub contents: Option<CachedContents>,
    /// Bytes that it takes on disk.
    pub disk_bytes: u64,
    /// Time of the last addition, in milliseconds since 1970.
    pub written_ms: f64,
    /// Whether a tab has it open, this one or another.
    pub in_use: bool,
}

/// What is cached of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedContents {
    /// Address that the file came from.
    pub url: String,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Bytes of the file that are cached.
    pub stored_bytes: u64,
    /// Chunks that the file has.
    pub chunks: u32,
    /// Chunks that are cached.
    pub stored_chunks: u32,
    /// Chunks whose SHA-256 matched the one that the host published.
    pub verified_chunks: u32,
}
