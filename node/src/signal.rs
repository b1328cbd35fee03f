//! A wish that can be asked for between steps and awaited beside anything else.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Whether something is wanted: a stop, an approval, a look at the queue. Any number of futures may wait for it.
#[derive(Default)]
pub struct Signal {
    requested: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Signal {
    /// It is wanted from now on; wakes whoever waits for it.
    pub fn request(&self) {
        self.requested.set(true);
        // A waker may run its future at once, which may wait here again.
        let wakers = self.wakers.take();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// It is wanted no longer.
    pub fn clear(&self) {
        self.requested.set(false);
    }

    /// Whether it is wanted.
    pub fn is_requested(&self) -> bool {
        self.requested.get()
    }

    /// Ends when it is wanted.
    pub async fn requested(&self) {
        poll_fn(|context| {
            if self.requested.get() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Lets others on this thread have their turn: a transport that has requests, say, while an engine computes without ever waiting.
pub(crate) async fn give_turn() {
    let mut was_given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut was_given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
    fn a_request_wakes_all_who_wait_once_and_lasts_until_it_is_cleared() {
        let signal = Signal::default();
        let all: Vec<_> = (0..2).map(|_| Arc::new(Wakes(AtomicU32::new(0)))).collect();
        let wakers: Vec<_> = all.iter().map(|wakes| Waker::from(Arc::clone(wakes))).collect();
        let mut waits: Vec<_> = wakers.iter().map(|_| Box::pin(signal.requested())).collect();
        for (wait, waker) in waits.iter_mut().zip(&wakers) {
            for _ in 0..2 {
                assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
        }
        signal.request();
        assert!(all.iter().all(|wakes| wakes.0.load(Ordering::Relaxed) == 1));
        for (wait, waker) in waits.iter_mut().zip(&wakers) {
            assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
        }
        assert!(signal.is_requested());
        signal.clear();
        assert!(!signal.is_requested());
        assert!(pin!(signal.requested()).poll(&mut Context::from_waker(&wakers[0])).is_pending());
    }
}
