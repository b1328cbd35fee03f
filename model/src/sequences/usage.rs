//! How a KV cache is used: which blocks and sequences answers need, which are there for whoever goes on, and which are free.

use gptoss_protocol::{KvBlocks, PlacesInUse};

use super::blocks::{BLOCK_TOKENS, Block};
use super::{KvCache, NO_BLOCK, Reach, SequenceId};

impl KvCache {
    /// How the cache is used, where answers are under way in the `busy` sequences. A block that a busy and an idle sequence share
    /// is busy.
    pub fn usage(&self, busy: &[SequenceId]) -> KvBlocks {
        let open: Vec<SequenceId> = self.open_sequences().collect();
        let busy: Vec<SequenceId> = open.iter().filter(|id| busy.contains(id)).copied().collect();
        let in_use = self.blocks_in_use();
        let of = |reach: Reach, in_use: u32| {
            let places = self.shape().blocks(reach);
            let (used, all) = (self.held(reach, &busy), self.held(reach, &open));
            PlacesInUse { places, busy: used, idle: all - used, free: places - in_use }
        };
        let (places, open, busy) = (self.shape().sequences, open.len() as u32, busy.len() as u32);
        KvBlocks {
            block_tokens: BLOCK_TOKENS,
            full: of(Reach::Full, in_use.full),
            sliding: of(Reach::Sliding, in_use.sliding),
            sequences: PlacesInUse { places, busy, idle: open - busy, free: places - open },
        }
    }

    /// How many blocks the tables of these sequences name; one that several of them share counts once.
    fn held(&self, reach: Reach, sequences: &[SequenceId]) -> u32 {
        let mut is_held = vec![false; self.shape().blocks(reach) as usize];
        let tables = sequences.iter().flat_map(|id| self.tables(*id).of(reach));
        let news = tables.filter(|block: &&Block| **block != NO_BLOCK);
        news.filter(|block| !std::mem::replace(&mut is_held[**block as usize], true)).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequences::KvShape;

    #[test]
    fn blocks_are_busy_idle_or_free_and_shared_ones_count_once() {
        let shape = KvShape { context_tokens: 640, window: 64, sequences: 3, full_blocks: 12, sliding_blocks: 24 };
        let mut cache = KvCache::new(shape);
        let places = |places, busy, idle, free| PlacesInUse { places, busy, idle, free };
        assert_eq!(cache.usage(&[]).full, places(12, 0, 0, 12));
        let first = cache.open().expect("there is room");
        cache.append(&[(first, vec![1; 200])]).expect("there is room");
        cache.commit(first, 200);
        assert_eq!(cache.usage(&[first]).full, places(12, 4, 0, 8));
        // Three full blocks are shared with it, and the one that is not full is copied.
        let (second, _) = cache.fork(first).expect("there is room");
        let usage = cache.usage(&[second]);
        assert_eq!((usage.full, usage.sequences), (places(12, 4, 1, 7), places(3, 1, 1, 1)));
        // The window of 64 and one block of slack reach from position 73 on: the first block was let go of.
        assert_eq!(usage.sliding, places(24, 3, 1, 20));
        cache.close(first);
        cache.close(second);
        let usage = cache.usage(&[]);
        assert_eq!((usage.full, usage.sliding), (places(12, 0, 0, 12), places(24, 0, 0, 24)));
    }
}
