//! Byte-pair merging of one piece, in O(n log n) for a piece of n bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::merges::MergeTable;
use super::vocab::Vocab;

/// "None" among links and ranks.
const NONE: u32 = u32::MAX;

/// A token of the piece as merged so far, linked to its neighbours.
struct Symbol {
    token: u32,
    previous: u32,
    next: u32,
    /// Rank of the merge with `next`, or [`NONE`].
    rank: u32,
}

/// A merge that was possible when it was queued: its rank above the index of its left symbol, so that they order as
/// they are taken, by rank and then leftmost.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
    fn new(rank: u32, left: u32) -> Candidate {
        Candidate(u64::from(rank) << 32 | u64::from(left))
    }

    fn rank(&self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn left(&self) -> usize {
        self.0 as u32 as usize
    }
}

/// Merges pieces; keeps its buffers from one piece to the next.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Appends the tokens of `piece`: single bytes, joined by the lowest-ranked merge (the leftmost of equals) until
    /// none is left. `piece` is shorter than 4 GiB.
    pub(super) fn encode(&mut self, vocab: &Vocab, merges: &MergeTable, piece: &[u8], ids: &mut Vec<u32>) {
        self.symbols.clear();
        self.symbols.extend(piece.iter().zip(0..).map(|(&byte, at): (_, u32)| Symbol {
            token: vocab.byte_token(byte),
            previous: at.checked_sub(1).unwrap_or(NONE),
            next: if at as usize + 1 < piece.len() { at + 1 } else { NONE },
            rank: NONE,
        }));
        self.queue.clear();
        for left in 0..self.symbols.len() {
            self.queue_merge(merges, left);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            // Otherwise an earlier merge took one of the two symbols.
            if self.symbols[candidate.left()].rank == candidate.rank() {
                self.merge(merges, candidate.left());
            }
        }
        // The first symbol is never the right half of a merge.
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at as usize) {
            ids.push(symbol.token);
            at = symbol.next;
        }
    }

    /// Looks up the merge of symbol `left` with the one after it, and queues it if there is one.
    fn queue_merge(&mut self, merges: &MergeTable, left: usize) {
        let next = self.symbols.get(self.symbols[left].next as usize);
        let rank = next.and_then(|next| merges.rank(self.symbols[left].token, next.token));
        self.symbols[left].rank = rank.unwrap_or(NONE);
        if let Some(rank) = rank {
            self.queue.push(Reverse(Candidate::new(rank, left as u32)));
        }
    }

    /// Joins symbol `left`, which has a merge, with the one after it.
    fn merge(&mut self, merges: &MergeTable, left: usize) {
        let Symbol { previous, next: right, rank, .. } = self.symbols[left];
        let after = self.symbols[right as usize].next;
        // The right symbol leaves the chain; its candidates are void.
        self.symbols[right as usize].rank = NONE;
        self.symbols[left].token = merges.merged(rank);
        self.symbols[left].next = after;
        if let Some(after) = self.symbols.get_mut(after as usize) {
            after.previous = left as u32;
        }
        if previous != NONE {
            self.queue_merge(merges, previous as usize);
        }
        self.queue_merge(merges, left);
    }
}
