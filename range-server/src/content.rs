//! Bytes that can be served: an open file, or memory.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::Bytes;

use crate::plan::{Facts, LastModified};
use crate::platform::{self, FileIndex};

/// Something to serve. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Bytes of the program itself, or read at start.
    Memory {
        bytes: Bytes,
        etag: Arc<str>,
        /// When the bytes last changed, as far as known, and since when they have been served.
        times: Option<(SystemTime, SystemTime)>,
    },
    File(Arc<OpenFile>),
}

impl Content {
    /// Content from memory. `modified`: time of the file that the bytes were read from.
    pub(crate) fn memory(bytes: Bytes, modified: Option<SystemTime>) -> Self {
        // A hash of the bytes is a strong validator; 64 bits are plenty against chance, and nobody gains by forging
        // a match against a file that he serves himself.
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let etag = format!("\"{:x}-{:016x}\"", bytes.len(), hasher.finish());
        let times = modified.map(|modified| (modified, SystemTime::now()));
        Self::Memory { bytes, etag: etag.into(), times }
    }

    /// The version of the bytes at this moment. May block on a file.
    pub(crate) fn version(&self) -> io::Result<Version> {
        match self {
            Self::Memory { bytes, etag, times } => Ok(Version {
                len: bytes.len() as u64,
                etag: etag.to_string(),
                times: *times,
                stamp: None,
                content_name: None,
            }),
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
    pub(crate) etag: String,
    times: Option<(SystemTime, SystemTime)>,
    /// Identity of the file's state; `None` for memory.
    pub(crate) stamp: Option<Stamp>,
    /// Hash that names the contents in a hub cache.
    pub(crate) content_name: Option<String>,
}

impl Version {
    pub(crate) fn facts(&self, now: SystemTime) -> Facts {
        let modified = self.times.and_then(|(modified, since)| LastModified::new(modified, since, now));
        Facts { len: self.len, etag: self.etag.clone(), modified }
    }
}

/// Facts from the file system about a file that change with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) len: u64,
    pub(crate) modified: Option<SystemTime>,
    index: FileIndex,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let (len, modified) = (metadata.len(), metadata.modified().ok());
        Self { len, modified, index: platform::file_index(metadata) }
    }

    /// Nanoseconds since 1970; 0 where there is no such time.
    pub(crate) fn modified_ns(&self) -> u64 {
        let since_epoch = self.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        // 64 bits last until the year 2554.
        since_epoch.map_or(0, |since| since.as_nanos() as u64)
    }

    /// Length, modification time and file number, in hexadecimal.
    fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}\"", self.len, self.modified_ns(), self.index.file)
    }
}

/// A file, opened once. All facts come from the handle, never from the path again, so that headers and body agree
/// whatever happens to the name.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    opened: SystemTime,
    stamp_at_open: Stamp,
    /// A name that says what the bytes are, such as that of a blob in a hub cache, which is their hash.
    content_name: Option<String>,
}

impl OpenFile {
    /// Opens a regular file. `content_name`: a name that identifies its bytes, if it has one.
    pub(crate) fn open(path: &Path, content_name: Option<String>) -> io::Result<Self> {
        // Asked before opening too, because opening a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(not_regular());
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        Ok(Self { file, opened: SystemTime::now(), stamp_at_open: Stamp::of(&metadata), content_name })
    }

    /// The version of the file at `path`, if that is this very file at this moment.
    pub(crate) fn version_at(&self, path: &Path) -> io::Result<Option<Version>> {
        let stamp = Stamp::of(&std::fs::metadata(path)?);
        Ok((stamp.index == self.stamp_at_open.index).then(|| self.version_with(stamp)))
    }

    pub(crate) fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.file.metadata()?))
    }

    /// The version at this moment.
    pub(crate) fn version(&self) -> io::Result<Version> {
        Ok(self.version_with(self.stamp()?))
    }

    fn version_with(&self, stamp: Stamp) -> Version {
        // A file that was written to under the same name does not have the bytes of its name any more.
        let content_name = self.content_name.clone().filter(|_| stamp == self.stamp_at_open);
        let etag = content_name.as_ref().map_or_else(|| stamp.etag(), |name| format!("\"{name}\""));
        let times = stamp.modified.map(|modified| (modified, self.opened));
        Version { len: stamp.len, etag, times, stamp: Some(stamp), content_name }
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

    /// Copies bytes from `offset` on as far as they are in the system's page cache, without waiting for a disk; returns
    /// their number, 0 also if the system cannot tell.
    pub(crate) fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        platform::read_cached_at(&self.file, buffer, offset)
    }

    /// Asks the system to have these bytes at hand soon. It may or may not.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        platform::will_need(&self.file, offset, len);
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}
