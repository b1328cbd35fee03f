//! The user's wish to stop, asked for by the engine between steps and awaited beside what cannot be asked.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Armed while a task runs; a request outside of that is late and means nothing.
#[derive(Default)]
pub struct StopSignal {
    armed: Cell<bool>,
    requested: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl StopSignal {
    pub fn arm(&self) {
        self.armed.set(true);
        self.requested.set(false);
    }

    pub fn disarm(&self) {
        self.armed.set(false);
        self.waker.take();
    }

    pub fn is_armed(&self) -> bool {
        self.armed.get()
    }

    pub fn is_requested(&self) -> bool {
        self.requested.get()
    }

    pub fn request(&self) {
        if self.armed.get() {
            self.requested.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends when a stop is requested.
    pub async fn requested(&self) {
        poll_fn(|context| {
            if self.requested.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
