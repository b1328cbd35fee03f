//! A flag for a wish of the user, to stop or to go on: it can be polled between steps, and awaited.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Armed while a task runs; a request outside of that is late and means nothing.
#[derive(Default)]
pub struct Signal {
    armed: Cell<bool>,
    requested: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
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

    /// Completes when the signal is requested.
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_request_wakes_whoever_waits_and_lasts_until_the_next_task() {
        let stop = Signal::default();
        let wakes = Arc::new(Wakes(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        stop.arm();
        let mut requested = pin!(stop.requested());
        assert!(requested.as_mut().poll(&mut context).is_pending());
        stop.request();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(requested.as_mut().poll(&mut context).is_ready());
        assert!(stop.is_requested());
        stop.disarm();
        stop.arm();
        assert!(!stop.is_requested(), "the next task begins without a wish to stop");
    }

    #[test]
    fn a_late_request_means_nothing() {
        let stop = Signal::default();
        stop.request();
        assert!(!stop.is_requested());
        stop.arm();
        stop.disarm();
        stop.request();
        assert!(!stop.is_requested() && !stop.is_armed());
    }
}
