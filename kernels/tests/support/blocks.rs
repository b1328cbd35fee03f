//! Sequences of a batch whose keys and values are in blocks, scattered over a cache.

use std::ops::Range;

use gptoss_kernels::{ROW_WORDS, Row};

use super::random::Random;

/// Positions of a block, for indices.
pub const BLOCK_TOKENS: usize = gptoss_model::BLOCK_TOKENS as usize;
/// A block that no sequence has.
pub const OF_NOBODY: u32 = 0;
/// Words from the beginning of a sequence's tables to the one that launches are to use.
pub const TABLE_FIRST: u32 = 3;

/// Tokens of one sequence in a batch.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub first_position: usize,
    pub tokens: usize,
    /// Block by block of its positions.
    pub table: Vec<u32>,
}

impl Sequence {
    /// Positions of its tokens in the batch.
    pub fn positions(&self) -> Range<usize> {
        self.first_position..self.first_position + self.tokens
    }

    /// Where a position is in a cache, in positions; none where the table names a block of nobody.
    pub fn cached_at(&self, position: usize) -> Option<usize> {
        let block = self.table[position / BLOCK_TOKENS];
        (block != OF_NOBODY).then_some(block as usize * BLOCK_TOKENS + position % BLOCK_TOKENS)
    }
}

/// Sequences with tables in any order, and how many blocks their cache has: two more than are named. `spans`: first
/// position and tokens of each; the first `shared` blocks are those of all of them. What no token sees through `window`
/// (0: they see all) is of nobody.
pub fn scattered(seed: u64, spans: &[(usize, usize)], shared: usize, window: usize) -> (Vec<Sequence>, usize) {
    let unseen = |first: usize| if window == 0 { 0 } else { (first + 1).saturating_sub(window) / BLOCK_TOKENS };
    let blocks = |&(first, tokens): &(usize, usize)| (first + tokens).div_ceil(BLOCK_TOKENS);
    let named = shared + spans.iter().map(|span| blocks(span) - unseen(span.0).max(shared)).sum::<usize>();
    let mut order = Random::new(seed).permutation(named + 1).into_iter().map(|block| block as u32 + 1);
    let common: Vec<u32> = order.by_ref().take(shared).collect();
    let sequences = spans.iter().map(|span| {
        let mut table = common.clone();
        table.resize(unseen(span.0).max(shared), OF_NOBODY);
        table[..unseen(span.0)].fill(OF_NOBODY);
        table.extend(order.by_ref().take(blocks(span) - table.len()));
        Sequence { first_position: span.0, tokens: span.1, table }
    });
    (sequences.collect(), named + 2)
}

/// Words of the rows buffer: tables that launches are not to use name a block of nobody.
pub fn rows(sequences: &[Sequence]) -> Vec<u32> {
    let tokens: usize = sequences.iter().map(|sequence| sequence.tokens).sum();
    let (mut words, mut tables) = (Vec::new(), Vec::new());
    for sequence in sequences {
        let table = tokens as u32 * ROW_WORDS + tables.len() as u32;
        for position in sequence.positions() {
            let row = Row { position: position as u32, table, inverse_temperature: 1.0, padding: 0 };
            words.extend_from_slice(bytemuck::cast_slice(&[row]));
        }
        tables.extend([OF_NOBODY; TABLE_FIRST as usize]);
        tables.extend_from_slice(&sequence.table);
    }
    words.extend(tables);
    words
}
