use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Reads at a byte offset without moving any file position, so that one handle serves all requests.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// A number that differs between files of one file system.
pub(crate) fn file_index(metadata: &Metadata) -> u64 {
    metadata.ino()
}
