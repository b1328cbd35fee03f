//! Buffers that go round: from a read to a socket and back.
//!
//! A fresh buffer of this size costs a page fault for every 4 KiB of it, about as much as copying the bytes.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Large enough that system calls do not matter, small enough to stay in a core's cache between read and send, and
/// that hundreds of clients that stopped reading cost little.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Buffers kept for reuse. More may be in use; those are freed.
const KEPT: usize = 32;

static IDLE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Memory of [`BUFFER_BYTES`] that finds its way back when dropped.
pub(crate) struct Buffer {
    /// Empty only while dropping.
    memory: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    pub(crate) fn take() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { memory: idle.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice()), filled: 0 }
    }

    /// The first `len` bytes, to be written to.
    pub(crate) fn space(&mut self, len: usize) -> &mut [u8] {
        &mut self.memory[..len]
    }

    /// The first `filled` bytes, without copying them.
    pub(crate) fn into_bytes(mut self, filled: usize) -> Bytes {
        self.filled = filled;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_filled_is_seen() {
        let mut buffer = Buffer::take();
        buffer.space(8).copy_from_slice(b"old news");
        assert_eq!(buffer.into_bytes(8), "old news");
        let mut buffer = Buffer::take();
        buffer.space(3).copy_from_slice(b"new");
        assert_eq!(buffer.into_bytes(3), "new");
    }
}
