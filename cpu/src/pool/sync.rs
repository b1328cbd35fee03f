//! What the pool needs of threads and of memory that they share. `checked` has the same for the model checker.

use std::time::{Duration, Instant};

use crate::turn::holder;

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(crate) use std::thread::{Builder, JoinHandle, park};

/// How long a thread spins before it sleeps: longer than the sequential steps of a token, shorter than anybody notices.
pub(crate) const SPIN: Duration = Duration::from_millis(2);

/// Wakes a thread that sleeps; one that is awake will not sleep the next time. `_told` is what the thread looks at, which
/// only the model checker needs to know.
pub(crate) fn wake(thread: &JoinHandle<()>, _told: &AtomicUsize) {
    thread.thread().unpark();
}

/// A cell that several threads use, as they have agreed among themselves.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `read` with a pointer that may be read through.
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with a pointer that may be written through.
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Says how long a thread that has nothing to do has waited. Once another model computes, it would only be in the way.
pub(crate) struct Patience {
    since: Instant,
    spins: u32,
    /// Whose turn it was.
    holder: u64,
}

impl Patience {
    pub fn new() -> Self {
        Self { since: Instant::now(), spins: 0, holder: holder() }
    }

    /// Waits for a moment; whether the thread should sleep now.
    pub fn is_spent(&mut self) -> bool {
        spin_loop();
        self.spins = self.spins.wrapping_add(1);
        self.spins.is_multiple_of(256) && (self.since.elapsed() > SPIN || self.holder != holder())
    }
}
