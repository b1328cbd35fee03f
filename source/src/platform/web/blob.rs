use std::cell::Cell;

use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, File};

use super::promise::{LATER, settled};
use super::{Bytes, browser_error, words_of};
use crate::store::{CachedFile, cached_url};
use crate::{ReadFuture, Source, SourceError, check_bounds};

/// A file that the user picked or dropped: read in place, nothing is copied or uploaded.
pub struct BlobSource {
    name: String,
    identity: String,
    blob: Blob,
    len_bytes: u64,
    requests: Cell<u32>,
}

impl BlobSource {
    /// A file with a name and a modification time.
    pub fn from_file(file: &File) -> Self {
        let identity = format!("file {} {} bytes modified {}", file.name(), file.size(), file.last_modified());
        Self::with_identity(file.name(), identity, file.clone().into())
    }

    /// Identity of `file`, which this source reads, for the download cache.
    pub fn cached_file(file: &File) -> CachedFile {
        let (len_bytes, modified_ms) = (file.size() as u64, file.last_modified());
        CachedFile { url: cached_url(&file.name()), len_bytes, etag: format!("\"{len_bytes}-{modified_ms}\"") }
    }

    /// Bytes without a modification time; `name` stands for them in messages.
    pub fn from_blob(name: impl Into<String>, blob: Blob) -> Self {
        let name = name.into();
        let identity = format!("blob {name} {} bytes", blob.size());
        Self::with_identity(name, identity, blob)
    }

    fn with_identity(name: String, identity: String, blob: Blob) -> Self {
        let len_bytes = blob.size() as u64; // a whole number, below 2^53
        Self { name, identity, blob, len_bytes, requests: Cell::new(0) }
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<crate::Bytes, SourceError> {
        check_bounds(&self.name, offset_bytes, len_bytes, self.len_bytes)?;
        if len_bytes == 0 {
            return Ok(crate::Bytes::from_vec(Vec::new()));
        }
        self.requests.set(self.requests.get() + 1);
        let part = self
            .blob
            .slice_with_f64_and_f64(offset_bytes as f64, (offset_bytes + len_bytes) as f64)
            .map_err(browser_error("Blob.slice"))?;
        let buffer = settled(part.array_buffer(), LATER).await.map_err(|error| self.read_error(&error))?;
        let bytes = Bytes::from_buffer(&buffer.dyn_into().map_err(browser_error("reading a Blob"))?);
        if bytes.len() as u64 != len_bytes {
            return Err(SourceError::FileShrank {
                name: self.name.clone(),
                expected_bytes: self.len_bytes,
                got_bytes: offset_bytes + bytes.len() as u64,
            });
        }
        Ok(crate::Bytes(bytes))
    }

    /// Browsers refuse to read a picked file once its size or modification time has changed (File API §4.1).
    fn read_error(&self, error: &JsValue) -> SourceError {
        let detail = words_of(error);
        if detail.starts_with("NotReadableError") || detail.starts_with("NotFoundError") {
            return SourceError::FileChanged { name: self.name.clone(), detail };
        }
        SourceError::Browser { action: "Blob.arrayBuffer", detail }
    }
}

impl Source for BlobSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(self.read_now(offset_bytes, len_bytes))
    }

    fn requests(&self) -> u32 {
        self.requests.get()
    }
}
