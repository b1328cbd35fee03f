//! A source whose reads end only while somebody waits for them, as those of a slow network would.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use gptoss_model::{AwaitPoint, Host};
use gptoss_protocol::Event;
use gptoss_source::{MemorySource, ReadFuture, Source, SourceError};

pub struct GatedSource {
    inner: MemorySource,
    open: Cell<bool>,
    /// Reads that are under way while the gate is shut fail.
    pub fails_when_shut: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    /// Offsets of the reads that began.
    pub begun: RefCell<Vec<u64>>,
    pub under_way: Rc<Cell<u32>>,
    /// Reads that were dropped before they ended.
    pub dropped: Rc<Cell<u32>>,
    pub failed: Cell<u32>,
}

/// Counts a read for as long as it lives.
struct Alive {
    under_way: Rc<Cell<u32>>,
    dropped: Rc<Cell<u32>>,
    ended: Cell<bool>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.under_way.set(self.under_way.get() - 1);
        self.dropped.set(self.dropped.get() + u32::from(!self.ended.get()));
    }
}

impl GatedSource {
    /// A source whose gate is open.
    pub fn new(name: &str, file: &[u8]) -> Rc<Self> {
        Rc::new(Self {
            inner: MemorySource::new(name, file.to_vec()),
            open: Cell::new(true),
            fails_when_shut: Cell::new(false),
            waiting: RefCell::default(),
            begun: RefCell::default(),
            under_way: Rc::default(),
            dropped: Rc::default(),
            failed: Cell::new(0),
        })
    }

    /// Opens the gate or shuts it.
    pub fn set_open(&self, open: bool) {
        self.open.set(open);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl Source for GatedSource {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        self.begun.borrow_mut().push(offset_bytes);
        self.under_way.set(self.under_way.get() + 1);
        let (under_way, dropped) = (Rc::clone(&self.under_way), Rc::clone(&self.dropped));
        let alive = Alive { under_way, dropped, ended: Cell::new(false) };
        Box::pin(async move {
            let failed = poll_fn(|context| {
                if self.open.get() {
                    return Poll::Ready(false);
                }
                if self.fails_when_shut.get() {
                    return Poll::Ready(true);
                }
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            });
            let failed = failed.await;
            alive.ended.set(true);
            if failed {
                self.failed.set(self.failed.get() + 1);
                return Err(SourceError::OutOfBounds {
                    name: "a test's".into(),
                    offset_bytes,
                    len_bytes,
                    file_bytes: 0,
                });
            }
            self.inner.read(offset_bytes, len_bytes).await
        })
    }

    fn requests(&self) -> u32 {
        self.inner.requests()
    }
}

/// Opens the gate when weights are waited for, and shuts it when the GPU is.
pub struct Gatekeeper<E> {
    pub source: Rc<GatedSource>,
    pub events: RefCell<Vec<Event>>,
    /// Whether to stop from now on, told of every event.
    pub stops: E,
    pub stopped: Cell<bool>,
}

impl<E: Fn(&Event) -> bool> Gatekeeper<E> {
    pub fn new(source: &Rc<GatedSource>, stops: E) -> Self {
        Self { source: Rc::clone(source), events: RefCell::default(), stops, stopped: Cell::new(false) }
    }
}

impl<E: Fn(&Event) -> bool> Host for Gatekeeper<E> {
    fn emit(&self, event: Event) {
        self.stopped.set(self.stopped.get() || (self.stops)(&event));
        self.events.borrow_mut().push(event);
    }

    fn cancelled(&self) -> bool {
        self.stopped.get()
    }

    fn awaiting(&self, at: AwaitPoint) {
        match at {
            AwaitPoint::Weights => self.source.set_open(true),
            AwaitPoint::Batch => self.source.set_open(false),
            _ => {}
        }
    }
}
