//! Where one dispatch has to wait for others.

use std::collections::HashSet;

/// Dispatches in their order, with a barrier before each that uses a buffer which one since the last barrier wrote, or that
/// writes a buffer which one since then read. That is the least that a driver can do by buffers alone.
#[derive(Debug, Default)]
pub struct Barriers {
    /// Since the last barrier, by place in the recipe.
    read: HashSet<usize>,
    written: HashSet<usize>,
    count: u64,
}

impl Barriers {
    /// The next dispatch, with every buffer that it binds and whether it may write it.
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

    /// Barriers between dispatches, each as (buffer, writes).
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
