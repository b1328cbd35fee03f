//! Buffers that go round: from a read to a socket and back.
//!
//! A fresh buffer of this size costs a page fault for every 4 KiB of it, about as much as copying the bytes.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Large enough that neither system calls nor changes between server and client on a core matter, small enough to stay
/// in a core's second-level cache between read and send, and that all clients that may connect can stop reading.
pub(crate) const BUFFER_BYTES: usize = 512 << 10;

/// Buffers a thread keeps for itself: those that it used last, which its core's cache still holds. Another thread's
/// would have to come from another core, which takes longer than filling them.
const KEPT_PER_THREAD: usize = 2;

/// Buffers that all threads keep together. More may be in use; those are freed.
const KEPT: usize = 16;

thread_local! {
    static OWN: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

static SHARED: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

fn shared() -> MutexGuard<'static, Vec<Box<[u8]>>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of [`BUFFER_BYTES`] that returns to its pool when dropped.
pub(crate) struct Buffer {
    /// Empty only while dropping.
    memory: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    pub(crate) fn take() -> Self {
        let kept = OWN.with_borrow_mut(Vec::pop).or_else(|| shared().pop());
        Self { memory: kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice()), filled: 0 }
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
        let mut memory = Some(std::mem::take(&mut self.memory));
        // A thread that ends has no buffers of its own any more.
        let _ = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            if own.len() < KEPT_PER_THREAD {
                own.extend(memory.take());
            }
        });
        let mut shared = match memory {
            None => return,
            Some(_) => shared(),
        };
        if shared.len() < KEPT {
            shared.extend(memory);
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
