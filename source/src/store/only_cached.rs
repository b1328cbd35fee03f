use super::CachedFile;
use crate::{ReadFuture, Source, SourceError, check_bounds};

/// The source behind a cache that has to do alone: it has no bytes, so that only what is cached can be read.
pub struct OnlyCached {
    name: String,
    identity: String,
    len_bytes: u64,
}

impl OnlyCached {
    /// Stands in for `file`, which messages call `name`.
    pub fn new(name: &str, file: &CachedFile) -> Self {
        let identity = format!("cached {} {} {} bytes", file.url, file.etag, file.len_bytes);
        Self { name: name.to_owned(), identity, len_bytes: file.len_bytes }
    }
}

impl Source for OnlyCached {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    /// Always fails: whoever asks has not found these bytes in the cache.
    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        let inside = check_bounds(&self.name, offset_bytes, len_bytes, self.len_bytes);
        let (first, end) = (offset_bytes, offset_bytes.saturating_add(len_bytes));
        Box::pin(async move {
            inside?;
            Err(SourceError::NotCached { name: self.name.clone(), first, last: end.saturating_sub(1) })
        })
    }

    fn requests(&self) -> u32 {
        0
    }
}
