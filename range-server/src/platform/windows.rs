use std::fs::{File, Metadata};
use std::io;
use std::os::windows::fs::{FileExt, MetadataExt};

use super::FileIndex;

/// Reads at a byte offset. It moves the file position, which nothing here uses, so that one handle serves all requests.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

/// Windows' file index is not in stable Rust; the time of creation has to tell files apart.
pub(crate) fn file_index(metadata: &Metadata) -> FileIndex {
    FileIndex { device: 0, file: metadata.creation_time() }
}

/// Raises the number of files that this process may have open, which on Windows needs no raising.
pub fn allow_many_open_files() {}
