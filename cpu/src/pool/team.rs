//! Threads and the loops that they share. The model checker compiles this file once more, with `sync` of its own
//! (`checked`): it uses nothing of `std` that runs or orders threads.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Builder, JoinHandle, Patience, UnsafeCell, park, spin_loop, wake,
};

/// The body of a loop: task index and number of the worker, from 0 to `threads`.
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A fixed set of threads, one of which is the caller's.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Parts of [`Shared::state`]: how many workers are inside of the open loop …
const ONE_INSIDE: usize = 1;
const INSIDE: usize = OPEN - 1;
/// … whether a loop is open for workers to join …
const OPEN: usize = 1 << 16;
/// … whether the pool ends …
const QUIT: usize = 1 << 17;
/// … and, in the upper bits, how many loops there were. A worker that joins a loop only if the whole word is what it
/// read cannot join one that was closed meanwhile.
const ONE_LOOP: usize = 1 << 18;

struct Shared {
    state: AtomicUsize,
    /// One for each thread.
    spans: Vec<Span>,
    body: UnsafeCell<Option<*const Body<'static>>>,
    panicked: AtomicBool,
}

// SAFETY: `body` is written by the one thread that owns the pool, and only while no worker is inside a loop.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `body` is used inside loops only, while what it points to is borrowed by `for_each`.
unsafe impl Send for Shared {}

/// The tasks of a thread that nobody has begun, as a range of 32-bit numbers: its own thread takes the first, others
/// the last. So a thread's tasks follow each other, and so do the bytes that they read. Each is in cache lines of its
/// own, two because processors fetch them in pairs.
#[repr(align(128))]
struct Span(AtomicU64);

impl Span {
    /// Only while no worker is inside a loop.
    fn set(&self, tasks: Range<usize>) {
        self.0.store((tasks.start as u64) << 32 | tasks.end as u64, Ordering::Relaxed);
    }

    fn take_first(&self) -> Option<usize> {
        self.take(|Range { start, end }| (start, start + 1..end))
    }

    fn take_last(&self) -> Option<usize> {
        self.take(|Range { start, end }| (end - 1, start..end - 1))
    }

    /// Takes the task that `choose` says, and leaves the rest.
    fn take(&self, choose: impl Fn(Range<u64>) -> (u64, Range<u64>)) -> Option<usize> {
        let mut span = self.0.load(Ordering::Relaxed);
        loop {
            let tasks = span >> 32..span & u64::from(u32::MAX);
            if tasks.is_empty() {
                return None;
            }
            let (task, rest) = choose(tasks);
            // What tasks read was published when the loop was opened: here nothing but the numbers matters.
            let exchanged =
                self.0.compare_exchange_weak(span, rest.start << 32 | rest.end, Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return Some(task as usize),
                Err(now) => span = now,
            }
        }
    }
}

impl Pool {
    /// Starts `threads` threads, including the caller's.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        if threads > INSIDE {
            return Err(std::io::Error::other(format!("a pool has at most {INSIDE} threads")));
        }
        let shared = Arc::new(Shared {
            state: AtomicUsize::new(0),
            spans: (0..threads).map(|_| Span(AtomicU64::new(0))).collect(),
            body: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map(|worker| {
                let shared = Arc::clone(&shared);
                Builder::new().name(format!("cpu {worker}")).spawn(move || shared.work(worker))
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { shared, workers })
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body(task, worker)` for every task, in any order, on all threads; returns when all are done.
    ///
    /// # Panics
    /// When a task did.
    pub fn for_each(&mut self, tasks: usize, body: &Body<'_>) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(|task| body(task, 0));
            return;
        }
        assert!(u32::try_from(tasks).is_ok(), "{tasks} tasks in a loop");
        let shared = &*self.shared;
        // SAFETY: the lifetime is only erased: `Closing` below waits until no worker is inside the loop any more, also when
        // the caller's own tasks panic, and workers use the pointer inside only.
        #[expect(clippy::transmute_ptr_to_ptr, reason = "a cast cannot extend the lifetime")]
        let erased: *const Body<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(body)) };
        // SAFETY: no loop is open and nobody is inside one: no worker looks at it. `&mut self` keeps other callers out.
        shared.body.with_mut(|body| unsafe { *body = Some(erased) });
        let threads = self.threads();
        for (thread, span) in shared.spans.iter().enumerate() {
            span.set(tasks * thread / threads..tasks * (thread + 1) / threads);
        }
        shared.state.fetch_add(ONE_LOOP | OPEN, Ordering::Release);
        for worker in &self.workers {
            wake(worker, &shared.state);
        }
        let closing = Closing(shared);
        shared.run_tasks(0);
        drop(closing);
        assert!(!shared.panicked.load(Ordering::Relaxed), "a task of a parallel loop panicked");
    }
}

/// Closes the loop when the caller leaves it, by returning or by panicking.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::Relaxed);
        // Acquires what each worker did inside, which its leaving released.
        while self.0.state.load(Ordering::Acquire) & INSIDE != 0 {
            spin_loop();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.fetch_or(QUIT, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            wake(&worker, &self.shared.state);
            // A worker that panicked has been reported by `for_each`.
            drop(worker.join());
        }
    }
}

impl Shared {
    fn work(&self, worker: usize) {
        let mut last_loop = 0;
        let mut patience = Patience::new();
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state & QUIT != 0 {
                return;
            }
            if state & OPEN == 0 || state / ONE_LOOP == last_loop {
                if patience.is_spent() {
                    park();
                    patience = Patience::new();
                }
                continue;
            }
            let joined = state + ONE_INSIDE;
            // Acquires what the caller wrote before it opened the loop.
            if self.state.compare_exchange_weak(state, joined, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                last_loop = state / ONE_LOOP;
                let leaving = Leaving(self);
                self.run_tasks(worker);
                drop(leaving);
                patience = Patience::new();
            }
        }
    }

    /// Runs the thread's own tasks, then what others have left.
    fn run_tasks(&self, worker: usize) {
        // SAFETY: the loop is open (for the caller) or was joined (for workers): nobody writes it now, and the closure is
        // borrowed until everybody has left.
        let body = self.body.with(|body| unsafe { &*(*body).expect("a loop has a body") });
        while let Some(task) = self.spans[worker].take_first() {
            body(task, worker);
        }
        let threads = self.spans.len();
        for other in (1..threads).map(|step| (worker + step) % threads) {
            while let Some(task) = self.spans[other].take_last() {
                body(task, worker);
            }
        }
    }
}

/// Counts a worker out of the loop when it leaves, by returning or by panicking.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
        self.0.state.fetch_sub(ONE_INSIDE, Ordering::Release);
    }
}
