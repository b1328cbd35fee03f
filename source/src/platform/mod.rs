//! The one seam between native and web: both sides offer `Bytes` with the same signatures, and their own sources.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub use native::{Bytes, FileSource, pause, sha256};
#[cfg(target_arch = "wasm32")]
pub use web::{
    BlobSource, Bytes, CACHE_FOLDER, CachedModel, CachedModels, HttpSource, StorageRoom, pause, sha256, storage_room,
    words_of,
};
