//! What an engine host says about the models that it keeps between visits.

use serde::{Deserialize, Serialize};

/// What is cached of one file, and where its bytes came from since it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheState {
    pub file: String,
    pub file_bytes: u64,
    pub stored_bytes: u64,
    /// Of those, how many were there when the load began.
    pub resumed_bytes: u64,
    pub chunks: u32,
    pub stored_chunks: u32,
    /// Chunks whose SHA-256 was found to be the one that the host published, now or in an earlier visit.
    pub verified_chunks: u32,
    /// Read from the host or from a picked file.
    pub network_bytes: u64,
    /// Read from what is cached; what is read twice counts twice.
    pub storage_bytes: u64,
    /// Whether the host's hashes are known.
    pub hashes_known: bool,
}

/// Something about keeping that is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheNotice {
    pub kind: CacheNoticeKind,
    pub file: String,
    /// What happened.
    pub message: String,
    /// What the user can do about it.
    pub advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheNoticeKind {
    /// What was kept is of an earlier version of the file, or cannot be read, and was discarded.
    Discarded,
    /// A part that was kept is not what it was; it is fetched again.
    Damaged,
    /// A part came with another SHA-256 than the host publishes; it is fetched once more.
    WrongOnTheWay,
    /// Nothing more can be kept: no room, or the disk failed.
    NotCached,
    /// Another tab has what is cached.
    InUse,
    /// The file cannot be kept: the host says nothing that a changed file could be told by.
    NoIdentity,
    /// The browser keeps nothing, or not in this form.
    Unavailable,
}

/// Everything that a browser keeps for this page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheReport {
    pub models: Vec<CachedModel>,
    /// What all of this page's origin takes, and may take; `None` where the browser does not say.
    pub usage_bytes: Option<u64>,
    pub quota_bytes: Option<u64>,
    /// True: the browser deletes nothing of it by itself.
    pub persisted: Option<bool>,
    /// Why nothing can be kept, or why the last action came to nothing.
    pub problem: Option<String>,
}

/// One file that is cached, whole or in part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedModel {
    pub id: String,
    /// `None` when what is cached cannot be read by this version.
    pub contents: Option<CachedContents>,
    /// What it takes of the disk.
    pub disk_bytes: u64,
    /// When it was last added to, in milliseconds since 1970.
    pub written_ms: f64,
    /// A tab has it open, this one or another.
    pub in_use: bool,
}

/// What is cached of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedContents {
    pub url: String,
    pub file_bytes: u64,
    pub stored_bytes: u64,
    pub chunks: u32,
    pub stored_chunks: u32,
    /// Chunks whose SHA-256 was found to be the one that the host published.
    pub verified_chunks: u32,
}
