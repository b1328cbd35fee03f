//! Any interleaving keeps what the cache promises: what a token needs is there, what is shared is whole, and blocks are
//! counted.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::*;

fn below(random: &mut SplitMix64, bound: u32) -> u32 {
    (random.next_u64() % u64::from(bound.max(1))) as u32
}

/// Contents of each block of a reach, by who wrote there last: positions with their tokens, as in a backend's memory.
type Memory = BTreeMap<(bool, Block), BTreeMap<u32, u32>>;

struct Walk {
    cache: KvCache,
    memory: Memory,
    random: SplitMix64,
}

impl Walk {
    fn copy(&mut self, copies: Vec<BlockCopy>) {
        for BlockCopy { reach, from, to } in copies {
            let content = self.memory.get(&(reach == Reach::Full, from)).cloned().unwrap_or_default();
            self.memory.insert((reach == Reach::Full, to), content);
        }
    }

    fn any(&mut self) -> Option<SequenceId> {
        let open: Vec<_> = self.cache.open_sequences().collect();
        open.get(below(&mut self.random, open.len() as u32) as usize).copied()
    }

    /// Computes a batch: writes its tokens where the tables say.
    fn write(&mut self, id: SequenceId, from: u32) {
        let sequence = self.cache.get(id).clone();
        for position in from..sequence.len() {
            let index = (position / BLOCK_TOKENS) as usize;
            for (is_full, table) in [(true, &sequence.full), (false, &sequence.sliding)] {
                if self.cache.shape.window == 0 && !is_full {
                    continue;
                }
                let pool = if is_full { &self.cache.full } else { &self.cache.sliding };
                assert!(!pool.is_shared(table[index]), "{id:?} writes what others hold");
                let token = sequence.tokens[position as usize];
                self.memory.entry((is_full, table[index])).or_default().insert(position, token);
            }
        }
    }

    fn step(&mut self) {
        let choice = below(&mut self.random, 16);
        let Some(id) = self.any() else {
            self.cache.open().expect("nobody is there");
            return;
        };
        match choice {
            0 | 1 => drop(self.cache.open()),
            2 | 3 => {
                if let Ok((_, copies)) = self.cache.fork(id) {
                    self.copy(copies);
                }
            }
            4 => self.cache.close(id),
            5 | 6 => {
                let position = below(&mut self.random, self.cache.tokens(id).len() as u32 + 1);
                let (len, is_scarce) = (self.cache.tokens(id).len() as u32, self.is_scarce());
                let (reached, copies) = self.cache.rewind(id, position);
                self.copy(copies);
                assert!(reached <= position);
                assert!(position + 1 < len || is_scarce || reached == position, "{position} of {len}");
            }
            7 => self.cache.mark_turn(id),
            _ => {
                let many = below(&mut self.random, 3) == 0;
                let count = 1 + if many { below(&mut self.random, 90) } else { below(&mut self.random, 3) };
                let tokens: Vec<u32> = (0..count).map(|_| below(&mut self.random, 9)).collect();
                let from = self.cache.len(id);
                if self.cache.append(&[(id, tokens)]).is_ok() {
                    self.write(id, from);
                    if below(&mut self.random, 5) == 0 {
                        self.cache.roll_back(id);
                    } else {
                        self.cache.commit(id, count);
                    }
                }
            }
        }
    }

    /// Whether no block is left for a copy.
    fn is_scarce(&self) -> bool {
        self.cache.full.free() == 0 || self.cache.shape.window > 0 && self.cache.sliding.free() == 0
    }

    fn check(&self) {
        let mut holders = [vec![0u32; self.cache.full.holders.len()], vec![0u32; self.cache.sliding.holders.len()]];
        for (id, sequence) in &self.cache.sequences {
            for block in &sequence.full {
                holders[0][*block as usize] += 1;
            }
            for block in sequence.sliding.iter().filter(|block| **block != NO_BLOCK) {
                holders[1][*block as usize] += 1;
            }
            let position = sequence.committed;
            let first = if self.cache.shape.window == 0 {
                position
            } else {
                (position + 1).saturating_sub(self.cache.shape.window)
            };
            for at in 0..position {
                let index = (at / BLOCK_TOKENS) as usize;
                let held = |is_full, block| self.memory[&(is_full, block)].get(&at).copied();
                let token = Some(sequence.tokens[at as usize]);
                assert_eq!(held(true, sequence.full[index]), token, "{id:?}: position {at} of {position}");
                if at >= first {
                    assert_eq!(held(false, sequence.sliding[index]), token, "{id:?}: window at {at} of {position}");
                }
            }
        }
        assert_eq!(holders, [self.cache.full.holders.clone(), self.cache.sliding.holders.clone()], "counted");
        let slots: std::collections::BTreeSet<_> = self.cache.sequences.values().map(|it| it.slot).collect();
        assert_eq!(slots.len(), self.cache.sequences.len(), "nobody shares a slot");
    }
}

#[test]
fn any_interleaving_keeps_what_is_needed_and_counts_what_is_held() {
    for seed in 0..60 {
        let window = [0, 1, 20, 64, 65, 128][seed as usize % 6];
        let context = [130, 500, 1000][seed as usize % 3];
        let shape = KvShape::new(context, window, 64, 1 + seed as u32 % 5);
        let mut walk =
            Walk { cache: KvCache::new(shape), memory: Memory::new(), random: SplitMix64::seed_from_u64(seed) };
        for _ in 0..250 {
            walk.step();
            walk.check();
        }
        for id in walk.cache.open_sequences().collect::<Vec<_>>() {
            walk.cache.close(id);
        }
        assert_eq!(walk.cache.blocks_in_use(), BlocksInUse::default(), "seed {seed}");
    }
}

/// One sequence of the whole context always fits, with two batches under way, whatever turns were marked.
#[test]
fn one_sequence_can_have_the_whole_context() {
    for (window, batch) in [(0, 64), (64, 64), (128, 64), (128, 512), (20, 7)] {
        let mut cache = KvCache::new(KvShape::new(3000, window, batch, 1));
        let id = cache.open().expect("a sequence");
        let mut under_way = 0;
        while cache.len(id) < 3000 {
            let count = batch.min(3000 - cache.len(id));
            cache.append(&[(id, vec![1; count as usize])]).unwrap_or_else(|error| panic!("{window}, {batch}: {error}"));
            under_way += count;
            if under_way > batch {
                cache.commit(id, under_way - count);
                under_way = count;
                cache.mark_turn(id);
                let committed = cache.tokens(id).len() as u32;
                assert!((committed.saturating_sub(SLACK_TOKENS)..committed).all(|back| cache.can_rewind(id, back)));
            }
        }
        assert!(matches!(cache.append(&[(id, vec![1])]), Err(EngineError::PromptTooLong { .. })));
    }
}

/// The error for a full cache says what would fit, and the contents stay.
#[test]
fn a_full_cache_says_so() {
    let mut cache = KvCache::new(KvShape::new(256, 0, 64, 3));
    let [first, second, third] = [0; 3].map(|_| cache.open().expect("a sequence"));
    assert!(matches!(cache.open(), Err(EngineError::TooManySequences { most: 3 })));
    // The pool has four blocks, and one for each fork that there may be.
    cache.append(&[(first, vec![1; 200]), (second, vec![2; 128])]).expect("six blocks");
    let refused = cache.append(&[(second, vec![2; 1]), (third, vec![3; 1])]).expect_err("no block is left");
    assert!(matches!(refused, EngineError::CacheFull { tokens: 2, free_tokens: 0, sequences: 3 }), "{refused}");
    assert!(refused.to_string().contains("2 more tokens do not fit") && !refused.advice().is_empty(), "{refused}");
    assert_eq!([first, second, third].map(|id| cache.len(id)), [200, 128, 0]);
    cache.append(&[(first, vec![1; 56])]).expect("its last block has room");
}
