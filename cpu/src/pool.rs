//! Threads that wait for the next parallel loop by spinning, and go to sleep only when none comes.
//!
//! A token is some 150 short loops with sequential steps between them. Waking sleeping threads for each costs more than
//! the work of small models; a thread that spins is there within a microsecond.
#![expect(unsafe_code, reason = "lends a borrowed closure to threads that outlive the call, see `for_each`")]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps: longer than the sequential steps of a token, shorter than anybody notices.
const SPIN: Duration = Duration::from_millis(2);

/// The body of a loop: task index and number of the worker, from 0 to `threads`.
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A fixed set of threads, one of which is the caller's.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Counts loops; odd while one is open for workers to join. The upper bits are the loop's number.
    state: AtomicUsize,
    /// Number of workers inside the open loop.
    inside: AtomicUsize,
    next_task: AtomicUsize,
    tasks: UnsafeCell<usize>,
    body: UnsafeCell<Option<*const Body<'static>>>,
    panicked: AtomicBool,
    quit: AtomicBool,
}

// SAFETY: `tasks` and `body` are written by the one thread that owns the pool, and only while no worker is inside a loop.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `body` is used inside loops only, while what it points to is borrowed by `for_each`.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads` threads, including the caller's.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            next_task: AtomicUsize::new(0),
            tasks: UnsafeCell::new(0),
            body: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        });
        let workers = (1..threads.max(1))
            .map(|worker| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("cpu {worker}")).spawn(move || shared.work(worker))
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
        let shared = &self.shared;
        // SAFETY: the lifetime is only erased: `close` below waits until no worker is inside the loop any more, also when
        // the caller's own tasks panic, and workers use the pointer inside only.
        #[expect(clippy::transmute_ptr_to_ptr, reason = "a cast cannot extend the lifetime")]
        let erased: *const Body<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(body)) };
        // SAFETY: no loop is open and `inside` is 0: no worker looks at these. `&mut self` keeps other callers out.
        unsafe {
            *shared.tasks.get() = tasks;
            *shared.body.get() = Some(erased);
        }
        shared.next_task.store(0, Ordering::Relaxed);
        shared.state.fetch_add(1, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
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
        self.0.state.fetch_add(1, Ordering::SeqCst);
        while self.0.inside.load(Ordering::SeqCst) != 0 {
            std::hint::spin_loop();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker that panicked has been reported by `for_each`.
            drop(worker.join());
        }
    }
}

impl Shared {
    fn work(&self, worker: usize) {
        let mut last = 0;
        let mut idle_since = Instant::now();
        let mut spins = 0u32;
        while !self.quit.load(Ordering::Relaxed) {
            let state = self.state.load(Ordering::SeqCst);
            if state != last && state % 2 == 1 {
                last = state;
                // Join, then look again: a loop that was closed in between must not be entered.
                self.inside.fetch_add(1, Ordering::SeqCst);
                let leaving = Leaving(self);
                if self.state.load(Ordering::SeqCst) == state {
                    self.run_tasks(worker);
                }
                drop(leaving);
                idle_since = Instant::now();
                spins = 0;
                continue;
            }
            std::hint::spin_loop();
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(256) && idle_since.elapsed() > SPIN {
                std::thread::park();
                idle_since = Instant::now();
            }
        }
    }

    fn run_tasks(&self, worker: usize) {
        // SAFETY: the loop is open (for the caller) or was joined (for workers): nobody writes these now, and the closure
        // is borrowed until everybody has left.
        let (tasks, body) = unsafe { (*self.tasks.get(), &*(*self.body.get()).expect("a loop has a body")) };
        loop {
            let task = self.next_task.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            body(task, worker);
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
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_over_many_loops() {
        let mut pool = Pool::new(4).expect("threads");
        for round in 0..2000 {
            let tasks = round % 37;
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(tasks, &|task, worker| {
                assert!(worker < 4);
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
        }
    }

    #[test]
    fn sleeping_threads_wake_for_the_next_loop() {
        let mut pool = Pool::new(2).expect("threads");
        for _ in 0..3 {
            std::thread::sleep(5 * SPIN);
            let workers = [AtomicBool::new(false), AtomicBool::new(false)];
            pool.for_each(64, &|_, worker| {
                workers[worker].store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            });
            assert!(workers[1].load(Ordering::Relaxed), "the second thread had 64 ms to come");
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller() {
        let mut pool = Pool::new(3).expect("threads");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.for_each(100, &|task, _| assert!(task != 57, "task 57"));
        }));
        assert!(result.is_err());
    }
}
