//! Batches on their way: submitted, computed in order, collected.

use std::collections::{BTreeMap, VecDeque};

use super::{BatchLimits, BlockCopy, KvCache, Outcome, Row, SequenceId, Ticket, Wanted};
use crate::error::EngineError;

/// A batch that is not computed yet, or whose result is not known.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Ticket that the caller holds.
    pub ticket: Ticket,
    /// The rows as they were submitted: in the order of a sequence's tokens.
    submitted: Vec<Row>,
    /// The rows in computing order: those that want nothing come first, otherwise as submitted.
    pub rows: Vec<Row>,
    /// Position of each row in its sequence.
    pub positions: Vec<u32>,
}

impl Pending {
    /// Number of rows that want something; they are the last ones.
    pub fn wanted(&self) -> usize {
        self.rows.iter().filter(|row| row.wanted != Wanted::Nothing).count()
    }

    /// Smallest position of the rows, and the number of positions from it to the last, for messages.
    pub fn span(&self) -> (u32, u32) {
        let (first, last) = (self.positions.iter().min(), self.positions.iter().max());
        let (first, last) = (*first.expect("batches have rows"), *last.expect("batches have rows"));
        (first, last - first + 1)
    }

    /// The batch's sequences, each with its number of rows.
    fn sequences(&self) -> BTreeMap<SequenceId, u32> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.sequence).or_insert(0) += 1;
        }
        counts
    }
}

/// The sequences of a backend, and the batches that extend them.
#[derive(Debug)]
pub struct Sequences {
    /// Blocks and tables of the sequences.
    pub cache: KvCache,
    vocabulary: u32,
    limits: BatchLimits,
    pending: VecDeque<Pending>,
    done: BTreeMap<Ticket, Result<Vec<Outcome>, EngineError>>,
    next_ticket: u64,
}

impl Sequences {
    /// No sequences and no batches yet. `vocabulary`: number of token ids.
    pub fn new(cache: KvCache, vocabulary: u32, limits: BatchLimits) -> Self {
        Self { cache, vocabulary, limits, pending: VecDeque::new(), done: BTreeMap::new(), next_ticket: 0 }
    }

    /// Moves everything out, for another backend that takes over; nothing is open here afterwards.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        let empty = Self::new(KvCache::new(*self.cache.shape()), self.vocabulary, self.limits);
        std::mem::replace(self, empty)
    }

    /// Limits for the size of a batch.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Batches that are not computed yet, in the order of computation.
    pub fn pending(&self) -> &VecDeque<Pending> {
        &self.pending
    }

    /// Reserves positions and blocks for a batch, and puts it at the end of the line.
    ///
    /// # Errors
    /// No rows; a token that is not in the vocabulary; no room in a sequence or in the cache.
    ///
    /// # Panics
    /// A sequence is not open, or the batch is larger than [`Sequences::limits`].
    pub fn submit(&mut self, rows: &[Row]) -> Result<Ticket, EngineError> {
        let ticket = Ticket(self.next_ticket);
        self.submit_as(ticket, rows)?;
        self.next_ticket += 1;
        Ok(ticket)
    }

    fn submit_as(&mut self, ticket: Ticket, rows: &[Row]) -> Result<(), EngineError> {
        let (nothing, wanting): (Vec<Row>, Vec<Row>) = rows.iter().partition(|row| row.wanted == Wanted::Nothing);
        assert!(
            !rows.is_empty() && rows.len() <= self.limits.rows as usize && wanting.len() <= self.limits.wanted as usize,
            "a batch of {} rows, {} wanted, of at most {:?}",
            rows.len(),
            wanting.len(),
            self.limits
        );
        if let Some(row) = rows.iter().find(|row| row.token >= self.vocabulary) {
            return Err(EngineError::Token { id: row.token, vocabulary: self.vocabulary });
        }
        let mut appended: Vec<(SequenceId, Vec<u32>)> = Vec::new();
        let mut position_of = Vec::with_capacity(rows.len());
        for row in rows {
            let known = appended.iter().position(|(id, _)| *id == row.sequence);
            let at = known.unwrap_or_else(|| {
                appended.push((row.sequence, Vec::new()));
                appended.len() - 1
            });
            position_of.push(self.cache.len(row.sequence) + appended[at].1.len() as u32);
            appended[at].1.push(row.token);
        }
        self.cache.append(&appended)?;
        let placed = |wants: bool| {
            let of_kind =
                rows.iter().zip(&position_of).filter(move |(row, _)| (row.wanted != Wanted::Nothing) == wants);
            of_kind.map(|(_, position)| *position)
        };
        let positions = placed(false).chain(placed(true)).collect();
        self.pending.push_back(Pending {
            ticket,
            submitted: rows.to_vec(),
            rows: [nothing, wanting].concat(),
            positions,
        });
        Ok(())
    }

    /// Records the results of the oldest batch: outcomes of the rows that want something, in their order.
    pub fn finish(&mut self, outcomes: Vec<Outcome>) {
        let pending = self.pending.pop_front().expect("a batch that was computed was pending");
        debug_assert_eq!(outcomes.len(), pending.wanted());
        for (id, tokens) in pending.sequences() {
            self.cache.commit(id, tokens);
        }
        self.done.insert(pending.ticket, Ok(outcomes));
    }

    /// Records that a batch failed with `error`.
    pub fn fail(&mut self, ticket: Ticket, error: EngineError) {
        self.drop_batch(ticket);
        self.done.insert(ticket, Err(error));
    }

    /// Drops a batch. Uncommitted tokens of its sequences are forgotten, with all batches that contain them.
    pub fn drop_batch(&mut self, ticket: Ticket) {
        if let Some(dropped) = self.pending.iter().find(|pending| pending.ticket == ticket) {
            self.drop_all_of(dropped.sequences().into_keys().collect());
        }
    }

    /// Drops all batches of these sequences, and of sequences that share a batch with them.
    fn drop_all_of(&mut self, mut dropped: Vec<SequenceId>) {
        let mut looked_at = 0;
        while looked_at < dropped.len() {
            let id = dropped[looked_at];
            looked_at += 1;
            let (gone, left): (VecDeque<_>, VecDeque<_>) =
                self.pending.drain(..).partition(|pending| pending.rows.iter().any(|row| row.sequence == id));
            self.pending = left;
            for other in gone.iter().flat_map(|pending| &pending.rows).map(|row| row.sequence) {
                if !dropped.contains(&other) {
                    dropped.push(other);
                }
            }
        }
        for id in dropped {
            self.cache.roll_back(id);
        }
    }

    /// Drops the pending batches of a sequence.
    fn drop_batches(&mut self, id: SequenceId) {
        if self.pending.iter().any(|pending| pending.rows.iter().any(|row| row.sequence == id)) {
            self.drop_all_of(vec![id]);
        }
    }

    /// Closes a sequence and drops its batches.
    ///
    /// # Panics
    /// It is not open.
    pub fn close(&mut self, id: SequenceId) {
        self.drop_batches(id);
        self.cache.close(id);
    }

    /// Like [`KvCache::rewind`]; also drops the sequence's batches.
    pub fn rewind(&mut self, id: SequenceId, position: u32) -> (u32, Vec<BlockCopy>) {
        self.drop_batches(id);
        self.cache.rewind(id, position)
    }

    /// Takes the result of a batch, which is given out once.
    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Vec<Outcome>, EngineError>> {
        self.done.remove(&ticket)
    }

    /// The oldest pending batch, if `ticket` is pending.
    pub fn oldest_before(&self, ticket: Ticket) -> Option<Ticket> {
        let is_pending = self.pending.iter().any(|pending| pending.ticket == ticket);
        self.pending.front().filter(|_| is_pending).map(|pending| pending.ticket)
    }

    /// Continues the work of `lost` after its committed tokens were computed again: takes over its batches.
    ///
    /// # Errors
    /// There is less room than there was.
    pub fn take_over(&mut self, lost: &mut Self) -> Result<(), EngineError> {
        let ids: Vec<_> = self.cache.open_sequences().collect();
        debug_assert!(ids.iter().all(|id| self.cache.tokens(*id) == lost.cache.tokens(*id)));
        for pending in &lost.pending {
            self.submit_as(pending.ticket, &pending.submitted)?;
        }
        (self.done, self.next_ticket) = (std::mem::take(&mut lost.done), lost.next_ticket);
        Ok(())
    }

    /// Opens a sequence with the id that it had in another cache, sharing what another sequence has of `tokens`.
    /// Returns how many tokens it has, and the copies that have to be made.
    ///
    /// # Errors
    /// There are as many sequences as there can be, or no blocks.
    pub fn reopen(&mut self, id: SequenceId, tokens: &[u32]) -> Result<(u32, Vec<BlockCopy>), EngineError> {
        let Some((like, common)) = self.cache.longest_prefix(tokens) else {
            self.cache.open_as(id)?;
            return Ok((0, Vec::new()));
        };
        let mut copies = self.cache.fork_as(id, like)?;
        let (reached, more) = self.cache.rewind(id, common);
        copies.extend(more);
        Ok((reached, copies))
    }
}
