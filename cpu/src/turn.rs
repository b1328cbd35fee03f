//! Turns of models that compute on the same processors.
//!
//! The threads of a pool wait for each other at the end of some 150 loops a token, by spinning. Where two pools want all
//! processors, the system takes one away from a thread that others spin for, again and again: two models together were
//! 0.53 to 0.61 times as fast as one that had both questions (docs/PERFORMANCE.md). So they compute one at a time, each
//! for a slice, and the threads of those that wait sleep.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a model computes while another one waits, to the end of the layer that is under way then.
const SLICE: Duration = Duration::from_millis(10);

/// A model that begins no step for so long has nothing to compute, and gives way before its slice is used. Between two
/// steps of an answer a token is drawn and told, which takes less.
const PAUSE: Duration = Duration::from_micros(300);

/// Who is next in line looks this often whether the one that computes has paused. Being woken at the end of each step would
/// cost more than small models' steps do.
const LOOK: Duration = Duration::from_millis(1);

/// The models of this process.
static LINE: Line = Line::new();

/// The model whose turn it was last.
static HOLDER: AtomicU64 = AtomicU64::new(0);

/// The model whose turn it is or was last, for threads that spin: they do so for nothing once it is another's.
pub(crate) fn holder() -> u64 {
    HOLDER.load(Ordering::Relaxed)
}

/// A model's place among those of this process.
#[derive(Debug)]
pub(crate) struct Place {
    /// Another one for each; `None` for a model that leaves half of the processors to others, and does not wait for any.
    id: Option<u64>,
}

impl Place {
    /// The place of a model whose pool has so many threads.
    pub fn new(threads: usize, processors: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: (2 * threads > processors).then(|| NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Waits for the model's turn, which ends when what it gives is dropped.
    pub fn turn(&self) -> Turn {
        if let Some(id) = self.id {
            LINE.take(id);
            HOLDER.store(id, Ordering::Relaxed);
        }
        Turn { id: self.id }
    }
}

/// The time in which a model computes.
#[derive(Debug)]
pub(crate) struct Turn {
    id: Option<u64>,
}

impl Turn {
    /// Lets another model compute, if one waits and the slice is used; returns when it is this one's turn again.
    pub fn pass_on(&self) {
        if let Some(id) = self.id.filter(|_| LINE.is_due()) {
            LINE.rest();
            LINE.take(id);
            HOLDER.store(id, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.id.is_some() {
            LINE.rest();
        }
    }
}

/// Models that wait, in order, and the one that computes.
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Whose turn it is or was last.
    holder: u64,
    /// Whether it computes.
    is_busy: bool,
    /// When its slice began; nobody waited before.
    begun: Option<Instant>,
    /// When its last step ended.
    rested: Option<Instant>,
    waiting: VecDeque<u64>,
}

impl State {
    fn slice_is_used(&self) -> bool {
        self.begun.is_none_or(|begun| begun.elapsed() >= SLICE)
    }

    /// Whether the one that computed last may be followed by another.
    fn gives_way(&self) -> bool {
        !self.is_busy && (self.slice_is_used() || self.rested.is_none_or(|rested| rested.elapsed() >= PAUSE))
    }

    fn begin(&mut self, id: u64) {
        if self.holder != id || self.waiting.is_empty() || self.slice_is_used() {
            self.begun = Some(Instant::now());
        }
        (self.holder, self.is_busy) = (id, true);
    }
}

impl Line {
    const fn new() -> Self {
        let state = State { holder: 0, is_busy: false, begun: None, rested: None, waiting: VecDeque::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else computes and those that came before have had their turn.
    fn take(&self, id: u64) {
        let mut state = self.state();
        let goes_on = state.holder == id && (state.waiting.is_empty() || !state.slice_is_used());
        if !state.is_busy && (goes_on || state.waiting.is_empty() && state.gives_way()) {
            return state.begin(id);
        }
        state.waiting.push_back(id);
        loop {
            let is_next = state.waiting.front() == Some(&id);
            if is_next && state.gives_way() {
                break;
            }
            // Whoever has used its slice says so; a pause is found out by looking.
            let waited = self.changed.wait_timeout(state, if is_next { LOOK } else { SLICE });
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting.pop_front();
        state.begin(id);
        drop(state);
        // The next in line looks from now on.
        self.changed.notify_all();
    }

    /// The step of the one that computes has ended.
    fn rest(&self) {
        let mut state = self.state();
        (state.is_busy, state.rested) = (false, Some(Instant::now()));
        let is_due = !state.waiting.is_empty() && state.slice_is_used();
        drop(state);
        if is_due {
            self.changed.notify_all();
        }
    }

    /// Whether somebody waits, and the slice of the one that computes is used.
    fn is_due(&self) -> bool {
        let state = self.state();
        !state.waiting.is_empty() && state.slice_is_used()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn one_computes_at_a_time_and_all_get_their_share() {
        let (line, is_taken, is_over) = (Line::new(), AtomicBool::new(false), AtomicBool::new(false));
        let worked = std::thread::scope(|scope| {
            // Steps of different lengths: what is shared is time.
            let steps = [200, 2000, 12_000].map(Duration::from_micros);
            let workers = steps.into_iter().zip(1..).map(|(step, id)| {
                let (line, is_taken, is_over) = (&line, &is_taken, &is_over);
                scope.spawn(move || {
                    let mut worked = Duration::ZERO;
                    while !is_over.load(Ordering::Relaxed) {
                        line.take(id);
                        assert!(!is_taken.swap(true, Ordering::Relaxed), "two compute");
                        let begun = Instant::now();
                        std::thread::sleep(step);
                        worked += begun.elapsed();
                        is_taken.store(false, Ordering::Relaxed);
                        line.rest();
                    }
                    worked
                })
            });
            let workers: Vec<_> = workers.collect();
            std::thread::sleep(Duration::from_millis(600));
            is_over.store(true, Ordering::Relaxed);
            workers.into_iter().map(|worker| worker.join().expect("only one computes")).collect::<Vec<_>>()
        });
        // On a machine that is busy otherwise, too, nobody has less than a third of a third.
        assert!(worked.iter().all(|time| *time > Duration::from_millis(65)), "{worked:?}");
    }

    #[test]
    fn who_has_nothing_to_compute_gives_way_and_who_is_alone_does_not_wait() {
        let line = Line::new();
        let begun = Instant::now();
        for _ in 0..1000 {
            line.take(1);
            assert!(!line.is_due());
            line.rest();
        }
        assert!(begun.elapsed() < SLICE * 50, "{:?}", begun.elapsed());
        let begun = Instant::now();
        line.take(2);
        assert!(begun.elapsed() < Duration::from_secs(5), "it waits for one that does nothing");
        line.rest();
    }

    #[test]
    fn a_turn_ends_within_a_step_when_its_slice_is_used() {
        let line = Line::new();
        line.take(1);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                line.take(2);
                line.rest();
            });
            let begun = Instant::now();
            while !line.is_due() {
                assert!(begun.elapsed() < Duration::from_secs(10), "nobody waits");
                std::thread::yield_now();
            }
            line.rest();
            line.take(1);
            other.join().expect("it had its turn");
        });
        line.rest();
    }

    #[test]
    fn a_model_that_leaves_half_of_the_processors_takes_no_turns() {
        assert!(Place::new(1, 2).id.is_none() && Place::new(8, 16).id.is_none());
        assert!(Place::new(2, 2).id.is_some() && Place::new(9, 16).id.is_some() && Place::new(1, 1).id.is_some());
    }
}
