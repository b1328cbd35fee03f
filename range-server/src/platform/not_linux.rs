use std::fs::File;

/// Only Linux tells what is in its page cache.
pub(crate) fn read_cached_at(_file: &File, _buffer: &mut [u8], _offset: u64) -> usize {
    0
}

/// The system's own read-ahead has to do.
pub(crate) fn will_need(_file: &File, _offset: u64, _len: u64) {}

/// There are none to be told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Core {}

/// Only Linux lets a thread choose, by an interface that is the same everywhere.
pub(crate) fn cores() -> Vec<Core> {
    Vec::new()
}

/// There are no cores that this could be called with.
pub(crate) fn stay_on(_cores: &[Core]) {}

/// Only Linux can be asked.
pub(crate) fn prefer_short_turns() {}
