use super::CachedFile;
use crate::{ReadFuture, Source, SourceError, check_bounds};

/// What stands behind a store when there is nothing behind it: of the file only that exists which is cached.
pub struct OnlyCached {
    name: String,
    identity: String,
    len_bytes: u64,
}

impl OnlyCached {
    /// `name` stands for `file` in messages.
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

    /// Whoever asks has not found these bytes in the store.
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
