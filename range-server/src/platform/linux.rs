use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

/// Reads what is in the page cache and nothing else: 0 if that is nothing, or if the file system does not offer it.
pub(crate) fn read_cached_at(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    // Whatever the error, the ordinary read that follows meets it again and reports it.
    preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Starts reading these bytes into the page cache.
pub(crate) fn will_need(file: &File, offset: u64, len: u64) {
    // Without a length the advice would be for all the rest of the file.
    let Some(len) = NonZeroU64::new(len) else { return };
    // That it was not taken shows in nothing but speed.
    let _ = fadvise(file, offset, Some(len), Advice::WillNeed);
}
