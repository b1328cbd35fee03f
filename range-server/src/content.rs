//! Bytes that can be served: an open file, or memory.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::Bytes;

use crate::plan::{Facts, LastModified};
use crate::platform;

/// Something to serve. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Bytes of the program itself, or read at start; with their entity tag.
    Memory {
        bytes: Bytes,
        etag: Arc<str>,
    },
    File(Arc<OpenFile>),
}

impl Content {
    pub(crate) fn memory(bytes: Bytes) -> Self {
        // A hash of the bytes is a strong validator; 64 bits are plenty against chance, and nobody gains by forging
        // a match against a file that he serves himself.
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let etag = format!("\"{:x}-{:016x}\"", bytes.len(), hasher.finish());
        Self::Memory { bytes, etag: etag.into() }
    }

    /// What the bytes are at this moment. May block on a file.
    pub(crate) fn version(&self) -> io::Result<Version> {
        match self {
            Self::Memory { bytes, etag } => {
                Ok(Version { len: bytes.len() as u64, etag: etag.to_string(), modified: None, served_since: None })
            }
            Self::File(file) => file.version(),
        }
    }

    /// Fills `buffer` from `offset` on. Blocks.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Memory { bytes, .. } => {
                let from = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)?.get(..buffer.len()));
                buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file) => file.read_exact_at(buffer, offset),
        }
    }
}

/// A state of some content. Equal versions have equal bytes, as far as the file system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) len: u64,
    etag: String,
    modified: Option<SystemTime>,
    served_since: Option<SystemTime>,
}

impl Version {
    pub(crate) fn facts(&self, now: SystemTime) -> Facts {
        let modified = self.modified.zip(self.served_since);
        let modified = modified.and_then(|(modified, since)| LastModified::new(modified, since, now));
        Facts { len: self.len, etag: self.etag.clone(), modified }
    }
}

/// A file, opened once. All facts come from the handle, never from the path again, so that headers and body agree
/// whatever happens to the name.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    opened: SystemTime,
}

impl OpenFile {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening too, because opening a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file, opened: SystemTime::now() })
    }

    /// The version at this moment.
    pub(crate) fn version(&self) -> io::Result<Version> {
        let metadata = self.file.metadata()?;
        let modified = metadata.modified().ok();
        let served_since = Some(self.opened);
        Ok(Version { len: metadata.len(), etag: etag(&metadata, modified), modified, served_since })
    }

    /// Fills `buffer` from `offset` on. Blocks.
    pub(crate) fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match platform::read_at(&self.file, buffer, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Length, modification time in nanoseconds and file number, in hexadecimal.
fn etag(metadata: &Metadata, modified: Option<SystemTime>) -> String {
    let since_epoch = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let nanoseconds = since_epoch.map_or(0, |since| since.as_nanos());
    format!("\"{:x}-{nanoseconds:x}-{:x}\"", metadata.len(), platform::file_index(metadata))
}
