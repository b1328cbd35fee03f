use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::FileIndex;

/// Reads at a byte offset without moving any file position, so that one handle serves all requests.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

pub(crate) fn file_index(metadata: &Metadata) -> FileIndex {
    FileIndex { device: metadata.dev(), file: metadata.ino() }
}

/// Raises the number of files that this process may have open to what the system allows. Every model is an open file,
/// and so is every connection; the usual soft limit of 1024 is for programs that use `select`.
pub fn allow_many_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // If it cannot be raised, the lower limit holds, and reaching it is reported where it happens.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
