//! Lines about requests, gathered so that they cost little.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a line about a request may wait for others, so that a thousand small requests are not a thousand writes,
/// each of which wakes whoever reads them. Not longer: what is gathered is written in one go, and the requests of that
/// moment wait for a processor.
const GATHER: Duration = Duration::from_millis(10);

/// Lines on their way to standard output, written by a thread of their own.
#[derive(Default)]
pub struct Lines {
    waiting: Mutex<String>,
    some: Condvar,
}

impl Lines {
    /// Starts the thread.
    pub fn start() -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            // Two buffers take turns: a new one would grow, and move, while requests wait to add to it.
            let mut gathered = String::new();
            loop {
                writer.wait_for_some();
                std::thread::sleep(GATHER);
                writer.flush_by(&mut gathered);
            }
        });
        lines
    }

    fn waiting(&self) -> MutexGuard<'_, String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_some(&self) {
        // Whoever flushes looks at the lines.
        drop(self.some.wait_while(self.waiting(), |waiting| waiting.is_empty()));
    }

    /// Adds a line, which is written soon.
    pub fn add(&self, line: impl Display) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        // The line is formatted before taking the lock, which all threads want.
        LINE.with_borrow_mut(|text| {
            text.clear();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
            let mut waiting = self.waiting();
            let was_empty = waiting.is_empty();
            waiting.push_str(text);
            drop(waiting);
            if was_empty {
                self.some.notify_one();
            }
        });
    }

    /// Writes what is waiting at once.
    pub fn flush(&self) {
        self.flush_by(&mut String::new());
    }

    /// Writes what is waiting, by way of `buffer`. The lock on the output keeps lines in order.
    fn flush_by(&self, buffer: &mut String) {
        let mut out = io::stdout().lock();
        buffer.clear();
        std::mem::swap(buffer, &mut *self.waiting());
        // If nobody reads the output any more, serving goes on all the same.
        let _ = out.write_all(buffer.as_bytes()).and_then(|()| out.flush());
    }
}
