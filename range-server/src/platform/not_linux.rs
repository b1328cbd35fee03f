use std::fs::File;

/// Reads nothing: only Linux tells what is in its page cache.
pub(crate) fn read_cached_at(_file: &File, _buffer: &mut [u8], _offset: u64) -> usize {
    0
}

/// Does nothing: the system's own read-ahead has to suffice.
pub(crate) fn will_need(_file: &File, _offset: u64, _len: u64) {}

/// Does nothing: only Linux can be asked.
pub(crate) fn prefer_short_turns() {}
