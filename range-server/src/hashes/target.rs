use std::io;
use std::path::Path;

use gptoss_finder::is_sha256;

use super::{Cancelled, ComputeError, FileHashes, compute};
use crate::catalogue::open_file;
use crate::content::{OpenFile, Stamp};

/// A file to be hashed, opened.
#[derive(Debug)]
pub struct HashTarget {
    file: OpenFile,
    stamp: Stamp,
    named: Option<String>,
}

impl HashTarget {
    /// Opens a regular file.
    ///
    /// # Errors
    /// If there is none at `path`, or it may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_file(path)?;
        let version = file.version()?;
        Ok(Self { stamp: file.stamp()?, named: version.content_name.filter(|name| is_sha256(name)), file })
    }

    /// Length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.stamp.len
    }

    /// Modification time in nanoseconds since 1970.
    pub fn modified_ns(&self) -> u64 {
        self.stamp.modified_ns()
    }

    /// The SHA-256 that a hub cache calls the file by, if it lies in one.
    pub fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Hashes it; `advance` hears how many bytes are done.
    ///
    /// # Errors
    /// A [`ComputeError`] if it cannot be read, changes meanwhile, or `advance` says so.
    pub fn hash(&self, advance: impl FnMut(u64) -> Result<(), Cancelled>) -> Result<FileHashes, ComputeError> {
        let hashes = compute(self.stamp.len, |buffer, offset| self.file.read_exact_at(buffer, offset), advance)?;
        if self.file.stamp()? != self.stamp {
            return Err(io::Error::other("the file changed while it was being hashed").into());
        }
        Ok(hashes)
    }
}
