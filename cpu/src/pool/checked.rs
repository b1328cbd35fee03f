//! The pool under a model checker, loom: orders in which its threads can run, and values that memory may show them. What
//! loom does not know is sequential consistency of single operations, and `team` does not need it.

use self::team::Pool;

/// loom's threads and memory.
mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use loom::thread::{Builder, JoinHandle, park};

    /// In loom, a thread that is woken knows all that was done before, even if it was awake, and which would hide what is
    /// missing. So others may run before: loom lets them where they use the same memory.
    pub(crate) fn wake(thread: &JoinHandle<()>, told: &AtomicUsize) {
        told.load(std::sync::atomic::Ordering::Relaxed);
        thread.thread().unpark();
    }

    /// A thread sleeps as soon as it finds nothing to do: spinning longer leads to no other states.
    pub(crate) struct Patience;

    impl Patience {
        pub fn new() -> Self {
            Self
        }

        pub fn is_spent(&mut self) -> bool {
            true
        }
    }
}

#[expect(clippy::duplicate_mod, reason = "the same code, with other threads and other memory")]
#[path = "team.rs"]
mod team;

/// Runs loops of these numbers of tasks one after the other. Each task adds to a cell of its own that is no atomic, so
/// that the checker finds out if two threads can have the same task, if the caller can look before all are done, and if
/// a task can run when its loop is over. A thread that is never woken is a deadlock, which it finds, too.
///
/// Threads are interrupted at most `interruptions` times in each run, anywhere; `None` has no limit.
fn check(threads: usize, loops: &'static [usize], interruptions: Option<usize>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions;
    builder.check(move || {
        let mut pool = Pool::new(threads).expect("threads");
        for &tasks in loops {
            let cells = Cells((0..tasks).map(|_| sync::UnsafeCell::new(0)).collect());
            pool.for_each(tasks, &|task, _| cells.add(task));
            for task in 0..tasks {
                assert_eq!(cells.get(task), 1, "task {task} of {tasks}");
            }
        }
    });
}

/// Numbers that tasks change without a lock. The checker fails if two threads use one and neither is after the other.
struct Cells(Vec<sync::UnsafeCell<usize>>);

// SAFETY: that the pool makes it true is what is checked, at every use.
unsafe impl Sync for Cells {}

impl Cells {
    fn add(&self, index: usize) {
        // SAFETY: as above.
        self.0[index].with_mut(|cell| unsafe { *cell += 1 });
    }

    fn get(&self, index: usize) -> usize {
        // SAFETY: as above.
        self.0[index].with(|cell| unsafe { *cell })
    }
}

// More interruptions, threads or tasks than here take minutes; each of these takes a second at most.

#[test]
fn two_threads_share_a_loop_in_every_order() {
    check(2, &[2], None);
}

#[test]
fn two_threads_share_a_loop_and_the_next() {
    check(2, &[2, 3], Some(4));
}

#[test]
fn three_threads_share_a_loop() {
    check(3, &[3], Some(2));
}
