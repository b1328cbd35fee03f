//! Threads that wait for the next parallel loop by spinning, and go to sleep only when none comes.
//!
//! A token is some 150 short loops with sequential steps between them. Waking sleeping threads for each costs more than
//! the work of small models; a thread that spins is there within a microsecond.
#![expect(unsafe_code, reason = "lends a borrowed closure to threads that outlive the call, see `for_each`")]

#[cfg(test)]
mod checked;
mod sync;
mod team;

pub(crate) use team::Pool;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::sync::SPIN;
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
