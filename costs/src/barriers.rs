//! Where one dispatch has to wait for others.

use std::collections::HashSet;

/// Counts the barriers between dispatches: one before each dispatch that uses a buffer written since the last barrier,
/// or that writes a buffer read since then. A driver that looks at buffers alone cannot do with less.
#[derive(Debug, Default)]
pub struct Barriers {
    /// Buffers read since the last barrier, by index in the recipe.
    read: HashSet<usize>,
    written: HashSet<usize>,
    count: u64,
}

impl Barriers {
    /// Adds the next dispatch, with every buffer that it binds and whether it may write it.
    pub fn dispatch(&mut self, uses: impl IntoIterator<Item = (usize, bool)>) {
        let uses: Vec<_> = uses.into_iter().collect();
        let waits = |&(buffer, writes): &(usize, bool)| {
            self.written.contains(&buffer) || (writes && self.read.contains(&buffer))
        };
        if uses.iter().any(waits) {
            self.count += 1;
            self.read.clear();
            self.written.clear();
        }
        for (buffer, writes) in uses {
            if writes {
                self.written.insert(buffer)
            } else {
                self.read.insert(buffer)
            };
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of barriers between dispatches, which are given as (buffer, writes).
    fn barriers(dispatches: &[&[(usize, bool)]]) -> u64 {
        let mut barriers = Barriers::default();
        dispatches.iter().for_each(|uses| barriers.dispatch(uses.iter().copied()));
        barriers.count()
    }

    #[test]
    fn what_was_written_is_waited_for_once() {
        let (writes, reads) = ((0, true), (0, false));
        assert_eq!(barriers(&[&[writes], &[reads]]), 1);
        assert_eq!(barriers(&[&[writes], &[writes]]), 1);
        assert_eq!(barriers(&[&[writes], &[reads], &[reads]]), 1, "one barrier serves both");
    }

    #[test]
    fn readers_are_waited_for_before_a_write() {
        assert_eq!(barriers(&[&[(0, false)], &[(0, true)]]), 1);
        assert_eq!(barriers(&[&[(0, false)], &[(0, false)], &[(1, true)]]), 0);
    }

    #[test]
    fn a_barrier_covers_all_buffers() {
        let first: &[_] = &[(0, true), (1, true)];
        assert_eq!(barriers(&[first, &[(0, false)], &[(1, false)]]), 1);
    }
}
