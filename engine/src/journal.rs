//! What happened to reads and experts since somebody was told. Those who move them write it down, and those who have a
//! host tell it: a few times a second at most, since there may be thousands of reads in a second.

use std::time::Duration;

use gptoss_model::Host;
use gptoss_protocol::{Event, ExpertMoves, ExpertPlace, FileRange, Reads};
use web_time::Instant;

/// Least time between two events while more is to come.
const PAUSE: Duration = Duration::from_millis(100);

/// What is not told yet, see the [module](self).
#[derive(Default)]
pub struct Journal {
    reads: Reads,
    /// Whether a read began or ended since the last event.
    reads_changed: bool,
    /// In the order in which things happened: an expert that goes the same way again does so in the next entry.
    moves: Vec<ExpertMoves>,
    told: Option<Instant>,
}

impl Journal {
    /// A read begins.
    pub fn begins(&mut self, range: FileRange) {
        self.reads.under_way.push(range);
        self.reads_changed = true;
    }

    /// A read ended, and its bytes are where they belong.
    pub fn came(&mut self, range: FileRange) {
        self.ended(range);
        match self.reads.arrived.last_mut() {
            // One range says it, where reads follow each other in the file.
            Some(last) if last.offset_bytes + last.bytes == range.offset_bytes => last.bytes += range.bytes,
            _ => self.reads.arrived.push(range),
        }
    }

    /// A read ended otherwise: it failed, or nobody wants it any more.
    pub fn ended(&mut self, range: FileRange) {
        if let Some(at) = self.reads.under_way.iter().position(|read| *read == range) {
            self.reads.under_way.remove(at);
        }
        self.reads_changed = true;
    }

    /// All reads under way are dropped.
    pub fn none_is_read(&mut self) {
        self.reads_changed |= !self.reads.under_way.is_empty();
        self.reads.under_way.clear();
    }

    /// Number of reads under way.
    pub fn under_way(&self) -> usize {
        self.reads.under_way.len()
    }

    /// An expert gave up its slot, or will not come to the one that it has.
    pub fn evicted(&mut self, layer: usize, expert: u32) {
        let place = place(layer, expert);
        let is_later = self.moves.last().is_some_and(|last| {
            [&last.evicted, &last.missed, &last.awaited, &last.arrived].into_iter().any(|list| list.contains(&place))
        });
        self.entry(is_later).evicted.push(place);
    }

    /// A batch needed an expert that was not there.
    pub fn missed(&mut self, layer: usize, expert: u32) {
        self.entry(false).missed.push(place(layer, expert));
    }

    /// An expert has a slot now, to which its bytes are on their way.
    pub fn awaited(&mut self, layer: usize, expert: u32) {
        let place = place(layer, expert);
        let is_later = self.moves.last().is_some_and(|last| last.awaited.contains(&place));
        self.entry(is_later).awaited.push(place);
    }

    /// An expert is on the GPU now.
    pub fn arrived(&mut self, layer: usize, expert: u32) {
        self.entry(false).arrived.push(place(layer, expert));
    }

    fn entry(&mut self, new: bool) -> &mut ExpertMoves {
        if new || self.moves.is_empty() {
            self.moves.push(ExpertMoves::default());
        }
        self.moves.last_mut().expect("there is one now")
    }

    /// Tells what happened, unless that was done a moment ago.
    pub fn tell(&mut self, host: &dyn Host) {
        if self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            self.tell_all(host);
        }
    }

    /// Tells what happened, if anything did.
    pub fn tell_all(&mut self, host: &dyn Host) {
        if self.reads_changed {
            let arrived = std::mem::take(&mut self.reads.arrived);
            host.emit(Event::Reads(Reads { under_way: self.reads.under_way.clone(), arrived }));
        }
        for moves in std::mem::take(&mut self.moves) {
            host.emit(Event::ExpertMoves(moves));
        }
        self.reads_changed = false;
        self.told = Some(Instant::now());
    }
}

fn place(layer: usize, expert: u32) -> ExpertPlace {
    ExpertPlace { layer: layer as u32, expert }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Ears(RefCell<Vec<Event>>);

    impl Host for Ears {
        fn emit(&self, event: Event) {
            self.0.borrow_mut().push(event);
        }

        fn cancelled(&self) -> bool {
            false
        }
    }

    fn range(offset_bytes: u64, bytes: u64) -> FileRange {
        FileRange { offset_bytes, bytes }
    }

    #[test]
    fn what_is_not_told_at_once_is_told_later_and_nothing_twice() {
        let (ears, mut journal) = (Ears::default(), Journal::default());
        journal.begins(range(0, 8));
        journal.tell(&ears);
        journal.begins(range(8, 8));
        journal.came(range(0, 8));
        journal.tell(&ears);
        journal.came(range(8, 8));
        journal.tell_all(&ears);
        journal.tell_all(&ears);
        let reads = |under_way: &[FileRange], arrived: &[FileRange]| {
            Event::Reads(Reads { under_way: under_way.to_vec(), arrived: arrived.to_vec() })
        };
        assert_eq!(ears.0.take(), [reads(&[range(0, 8)], &[]), reads(&[], &[range(0, 16)])]);
        journal.begins(range(3, 1));
        journal.ended(range(3, 1));
        journal.begins(range(4, 1));
        journal.none_is_read();
        journal.tell_all(&ears);
        assert_eq!(ears.0.take(), [reads(&[], &[])], "what did not come is not told to have come");
    }

    /// An expert that came and went before anybody was told is not there.
    #[test]
    fn an_expert_that_goes_the_same_way_twice_does_so_in_order() {
        let (ears, mut journal) = (Ears::default(), Journal::default());
        journal.missed(2, 5);
        journal.awaited(2, 5);
        journal.arrived(2, 5);
        journal.evicted(2, 5);
        journal.awaited(2, 6);
        journal.evicted(2, 6);
        journal.awaited(2, 6);
        journal.tell_all(&ears);
        let moves = |lists: [&[u32]; 4]| {
            let [evicted, missed, awaited, arrived] =
                lists.map(|list| list.iter().map(|&expert| ExpertPlace { layer: 2, expert }).collect());
            Event::ExpertMoves(ExpertMoves { evicted, missed, awaited, arrived })
        };
        let first = moves([&[], &[5], &[5], &[5]]);
        assert_eq!(ears.0.take(), [first, moves([&[5], &[], &[6], &[]]), moves([&[6], &[], &[6], &[]])]);
    }
}
