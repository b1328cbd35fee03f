//! The tables of all sequences over the blocks of the KV cache.

use std::collections::BTreeMap;

use super::SequenceId;
use super::blocks::{BLOCK_TOKENS, Block, Pool, blocks_of};
use crate::error::EngineError;

/// Table entry without a block; kernels never read there.
pub const NO_BLOCK: Block = u32::MAX;
/// How many positions behind a sliding window stay in the cache: a rewind by this many is always possible.
const SLACK_TOKENS: u32 = BLOCK_TOKENS;
/// How many batches a device gets before it is waited for: a sequence's window does not run out of blocks as long as no
/// more of its batches are under way.
pub const BATCHES_UNDER_WAY: u32 = 2;
/// How many ends of turns per sequence the pool has room for, with their windows.
const TURNS_HELD: u32 = 4;

/// Size of the cache. A block has the keys and values of 64 positions in every layer of its reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Longest sequence, in tokens.
    pub context_tokens: u32,
    /// Keys that a query of a sliding layer sees, its own included; 0 where no layer has a window.
    pub window: u32,
    /// Largest number of open sequences.
    pub sequences: u32,
    /// Number of blocks for the layers that attend to everything.
    pub full_blocks: u32,
    /// Number of blocks for the layers with a window.
    pub sliding_blocks: u32,
}

impl KvShape {
    /// A cache with room for `context_tokens` in all: one sequence can use them alone, several share them.
    /// `batch_tokens`: rows of the largest batch.
    pub fn new(context_tokens: u32, window: u32, batch_tokens: u32, sequences: u32) -> Self {
        let sequences = sequences.max(1);
        let context_blocks = blocks_of(context_tokens);
        // A run of n positions touches one block more than it fills.
        let span = |tokens: u32| blocks_of(tokens.saturating_sub(1)) + 1;
        let live = span(window.saturating_add(SLACK_TOKENS).saturating_add(BATCHES_UNDER_WAY * batch_tokens));
        let sliding = live.saturating_add(TURNS_HELD * span(window.saturating_add(1))).min(context_blocks) * sequences;
        Self {
            context_tokens,
            window,
            sequences,
            // A fork has its own copy of the block that is not full.
            full_blocks: context_blocks + (sequences - 1),
            sliding_blocks: if window == 0 { 0 } else { sliding },
        }
    }

    /// Number of blocks for the layers of this reach.
    pub fn blocks(&self, reach: Reach) -> u32 {
        match reach {
            Reach::Full => self.full_blocks,
            Reach::Sliding => self.sliding_blocks,
        }
    }

    /// Number of entries of a sequence's table.
    pub fn table_blocks(&self) -> u32 {
        blocks_of(self.context_tokens)
    }
}

/// How far back a layer sees, which decides which of a sequence's two tables it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The layer sees all positions.
    Full,
    /// The layer sees a window of the latest positions.
    Sliding,
}

impl Reach {
    /// The reach of a layer with this window; 0 is full attention.
    pub const fn of_window(window: u32) -> Self {
        if window == 0 { Self::Full } else { Self::Sliding }
    }
}

/// A copy of a block's contents, in every layer of its reach, to be made before anything else happens to either block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// The layers that the copy is for.
    pub reach: Reach,
    /// Block to read.
    pub from: Block,
    /// Block to overwrite.
    pub to: Block,
}

/// Numbers of blocks that sequences hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BlocksInUse {
    /// Blocks of the layers that see everything.
    pub full: u32,
    /// Blocks of the layers with a window.
    pub sliding: u32,
}

/// Where the keys and values of a sequence are.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// Number of the sequence's place, below [`KvShape::sequences`]; open sequences have different ones.
    pub slot: u32,
    /// Changes whenever the tables change, and differs between sequences.
    pub version: u64,
    /// The block of positions 64 k to 64 k + 63 at index k, for the layers that attend to everything.
    pub full: &'a [Block],
    /// The same for the layers with a window: [`NO_BLOCK`] far behind it.
    pub sliding: &'a [Block],
}

impl<'a> Tables<'a> {
    /// The table that layers of this reach use.
    pub fn of(&self, reach: Reach) -> &'a [Block] {
        match reach {
            Reach::Full => self.full,
            Reach::Sliding => self.sliding,
        }
    }
}

/// The end of a turn, whose window stays in the cache.
#[derive(Clone, Copy, Debug)]
struct Turn {
    position: u32,
    /// Age of the turn, counted over all sequences: the oldest give way first.
    order: u64,
}

#[derive(Clone, Debug)]
struct Sequence {
    tokens: Vec<u32>,
    /// How many of the tokens are computed for certain.
    committed: u32,
    full: Vec<Block>,
    sliding: Vec<Block>,
    /// Sliding blocks before this index belong to turns only.
    behind: u32,
    turns: Vec<Turn>,
    slot: u32,
    version: u64,
}

impl Sequence {
    fn len(&self) -> u32 {
        self.tokens.len() as u32
    }

    fn has_turn_at(&self, index: u32, window: u32) -> bool {
        self.turns.iter().any(|turn| turn_blocks(turn.position, window).contains(&index))
    }
}

/// Indices of the blocks before `position` that the token there needs.
fn window_blocks(position: u32, window: u32) -> std::ops::Range<u32> {
    (position + 1).saturating_sub(window) / BLOCK_TOKENS..blocks_of(position)
}

/// Indices of the blocks that stay for a turn, so that its last token can be run again, too.
fn turn_blocks(position: u32, window: u32) -> std::ops::Range<u32> {
    window_blocks(position, window.saturating_add(1))
}

/// The tables, tokens and blocks of all sequences.
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: KvShape,
    full: Pool,
    sliding: Pool,
    sequences: BTreeMap<SequenceId, Sequence>,
    next_id: u64,
    /// Numbers turns and versions of tables.
    clock: u64,
}

impl KvCache {
    /// An empty cache of this size.
    pub fn new(shape: KvShape) -> Self {
        Self {
            full: Pool::new(shape.full_blocks),
            sliding: Pool::new(shape.sliding_blocks),
            shape,
            sequences: BTreeMap::new(),
            next_id: 0,
            clock: 0,
        }
    }

    /// Size of the cache.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// How many blocks sequences hold.
    pub fn blocks_in_use(&self) -> BlocksInUse {
        BlocksInUse { full: self.full.in_use(), sliding: self.sliding.in_use() }
    }

    /// Ids of all open sequences, oldest first.
    pub fn open_sequences(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.sequences.keys().copied()
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// There are as many as there can be.
    pub fn open(&mut self) -> Result<SequenceId, EngineError> {
        let id = SequenceId(self.next_id);
        self.open_as(id)?;
        Ok(id)
    }

    /// Like [`KvCache::open`], with an id that another cache gave.
    pub(super) fn open_as(&mut self, id: SequenceId) -> Result<(), EngineError> {
        let slot = self.free_slot()?;
        let version = self.tick();
        let sequence = Sequence {
            tokens: Vec::new(),
            committed: 0,
            full: Vec::new(),
            sliding: Vec::new(),
            behind: 0,
            turns: Vec::new(),
            slot,
            version,
        };
        self.next_id = self.next_id.max(id.0 + 1);
        self.sequences.insert(id, sequence);
        Ok(())
    }

    fn free_slot(&self) -> Result<u32, EngineError> {
        let most = self.shape.sequences;
        let is_free = |slot: &u32| self.sequences.values().all(|sequence| sequence.slot != *slot);
        (0..most).find(is_free).ok_or(EngineError::TooManySequences { most })
    }

    /// Opens a sequence with the committed tokens of another. Full blocks are shared; the one that is not full is
    /// copied, and the owner of the memory has to make that copy.
    ///
    /// # Errors
    /// There are as many sequences as there can be, or no block for the copy.
    ///
    /// # Panics
    /// `of` is not open.
    pub fn fork(&mut self, of: SequenceId) -> Result<(SequenceId, Vec<BlockCopy>), EngineError> {
        let id = SequenceId(self.next_id);
        let copies = self.fork_as(id, of)?;
        Ok((id, copies))
    }

    /// Like [`KvCache::fork`], with an id that another cache gave.
    pub(super) fn fork_as(&mut self, id: SequenceId, of: SequenceId) -> Result<Vec<BlockCopy>, EngineError> {
        let slot = self.free_slot()?;
        let sliding = u32::from(self.shape.window > 0);
        let parent = self.get(of);
        let committed = parent.committed;
        let own = u32::from(!committed.is_multiple_of(BLOCK_TOKENS));
        self.make_room(own, own * sliding, own)?;
        let mut child = self.get(of).clone();
        child.tokens.truncate(committed as usize);
        child.full.truncate(blocks_of(committed) as usize);
        child.sliding.truncate(blocks_of(committed) as usize);
        (child.slot, child.version) = (slot, self.tick());
        let mut copies = Vec::new();
        for (reach, pool, table) in
            [(Reach::Full, &mut self.full, &mut child.full), (Reach::Sliding, &mut self.sliding, &mut child.sliding)]
        {
            for (index, block) in (0..).zip(table).filter(|(_, block)| **block != NO_BLOCK) {
                if index < committed / BLOCK_TOKENS {
                    pool.share(*block);
                } else {
                    let to = pool.take().expect("there is room for the copy");
                    copies.push(BlockCopy { reach, from: *block, to });
                    *block = to;
                }
            }
        }
        self.next_id = self.next_id.max(id.0 + 1);
        self.sequences.insert(id, child);
        Ok(copies)
    }

    /// Closes a sequence and frees its blocks.
    ///
    /// # Panics
    /// It is not open.
    pub fn close(&mut self, id: SequenceId) {
        let sequence = self.sequences.remove(&id).unwrap_or_else(|| panic!("{id:?} is not open"));
        sequence.full.iter().for_each(|block| self.full.release(*block));
        sequence.sliding.iter().filter(|block| **block != NO_BLOCK).for_each(|block| self.sliding.release(*block));
    }

    /// The committed tokens of a sequence.
    ///
    /// # Panics
    /// It is not open.
    pub fn tokens(&self, id: SequenceId) -> &[u32] {
        let sequence = self.get(id);
        &sequence.tokens[..sequence.committed as usize]
    }

    /// Number of tokens of a sequence, including uncommitted ones: the position of the next one.
    pub fn len(&self, id: SequenceId) -> u32 {
        self.get(id).len()
    }

    /// The block tables of a sequence.
    pub fn tables(&self, id: SequenceId) -> Tables<'_> {
        let Sequence { slot, version, full, sliding, .. } = self.get(id);
        Tables { slot: *slot, version: *version, full, sliding }
    }

    /// The open sequence that has most committed tokens in common with the beginning of `tokens`, and how many.
    pub fn longest_prefix(&self, tokens: &[u32]) -> Option<(SequenceId, u32)> {
        let common = |id: &SequenceId| {
            self.tokens(*id).iter().zip(tokens).take_while(|(held, wanted)| held == wanted).count() as u32
        };
        self.sequences.keys().map(|id| (*id, common(id))).filter(|(_, common)| *common > 0).max_by_key(|it| it.1)
    }

    /// Appends tokens to sequences, uncommitted, with their positions and blocks: all of them or, after an error, none.
    ///
    /// # Errors
    /// A sequence is at the end of its context, or there are no blocks left.
    pub fn append(&mut self, appended: &[(SequenceId, Vec<u32>)]) -> Result<(), EngineError> {
        let mut blocks = 0;
        let mut tokens = 0;
        for (id, more) in appended {
            let len = self.len(*id) + more.len() as u32;
            if len > self.shape.context_tokens {
                let capacity = self.shape.context_tokens;
                return Err(EngineError::PromptTooLong { tokens: len, capacity, longest: capacity });
            }
            blocks += blocks_of(len) - self.get(*id).full.len() as u32;
            tokens += more.len() as u32;
        }
        let slides = self.shape.window > 0;
        self.make_room(blocks, if slides { blocks } else { 0 }, tokens)?;
        for (id, more) in appended {
            let version = self.tick();
            let sequence = self.sequences.get_mut(id).expect("its length is known");
            sequence.tokens.extend(more);
            let wanted = blocks_of(sequence.len()) as usize;
            if sequence.full.len() < wanted {
                sequence.version = version;
            }
            while sequence.full.len() < wanted {
                sequence.full.push(self.full.take().expect("there is room"));
                if slides {
                    sequence.sliding.push(self.sliding.take().expect("there is room"));
                }
            }
        }
        Ok(())
    }

    /// Makes room by dropping the windows of old turns; fails if that is not enough.
    fn make_room(&mut self, full: u32, sliding: u32, tokens: u32) -> Result<(), EngineError> {
        while self.full.free() >= full && self.sliding.free() < sliding && self.drop_oldest_turn() {}
        if self.full.free() >= full && self.sliding.free() >= sliding {
            return Ok(());
        }
        let free_blocks = self.full.free().min(if sliding > 0 { self.sliding.free() } else { u32::MAX });
        Err(self.full(tokens, free_blocks * BLOCK_TOKENS))
    }

    /// The error for tokens that do not fit.
    pub fn full(&self, tokens: u32, free_tokens: u32) -> EngineError {
        EngineError::CacheFull { tokens, free_tokens, sequences: self.sequences.len() as u32 }
    }

    fn drop_oldest_turn(&mut self) -> bool {
        let turns = self.sequences.iter().flat_map(|(id, sequence)| sequence.turns.iter().map(|turn| (*id, *turn)));
        let Some((id, turn)) = turns.min_by_key(|(_, turn)| turn.order) else { return false };
        let window = self.shape.window;
        let sequence = self.sequences.get_mut(&id).expect("it has a turn");
        sequence.turns.retain(|other| other.order != turn.order);
        for index in turn_blocks(turn.position, window).start..sequence.behind {
            if !sequence.has_turn_at(index, window) {
                release(&mut self.sliding, &mut sequence.sliding[index as usize]);
            }
        }
        true
    }

    /// Commits the first `tokens` uncommitted tokens, and frees blocks behind the window.
    pub fn commit(&mut self, id: SequenceId, tokens: u32) {
        let window = self.shape.window;
        let sequence = self.sequences.get_mut(&id).expect("a batch's sequences are open");
        sequence.committed += tokens;
        debug_assert!(sequence.committed <= sequence.len());
        if window == 0 {
            return;
        }
        let held_from = window_blocks(sequence.committed, window.saturating_add(SLACK_TOKENS)).start;
        for index in sequence.behind..held_from {
            if !sequence.has_turn_at(index, window) {
                release(&mut self.sliding, &mut sequence.sliding[index as usize]);
            }
        }
        sequence.behind = sequence.behind.max(held_from);
    }

    /// Forgets the uncommitted tokens.
    pub fn roll_back(&mut self, id: SequenceId) {
        let committed = self.get(id).committed;
        self.truncate(id, committed);
    }

    /// Keeps the window at the end of the committed tokens for as long as there is room, so that [`KvCache::rewind`]
    /// can come back here.
    pub fn mark_turn(&mut self, id: SequenceId) {
        let order = self.tick();
        let sequence = self.get_mut(id);
        let position = sequence.committed;
        sequence.turns.retain(|turn| turn.position != position);
        sequence.turns.push(Turn { position, order });
    }

    /// Positions of the turns whose windows are in the cache, in the order in which they were marked.
    pub fn turns(&self, id: SequenceId) -> impl Iterator<Item = u32> + '_ {
        self.get(id).turns.iter().map(|turn| turn.position)
    }

    /// Forgets the uncommitted tokens, and everything from `position` on. If the window at `position` is gone, goes
    /// further back, to the last turn whose window is in the cache, or to the beginning. Returns the position reached,
    /// and the copies that have to be made, because a block that becomes partly empty must not be shared.
    pub fn rewind(&mut self, id: SequenceId, position: u32) -> (u32, Vec<BlockCopy>) {
        self.roll_back(id);
        let sequence = self.get(id);
        let position = position.min(sequence.committed);
        if position == sequence.committed {
            return (position, Vec::new());
        }
        let mut turns: Vec<u32> =
            sequence.turns.iter().map(|turn| turn.position).filter(|turn| *turn < position).collect();
        turns.sort_unstable_by_key(|turn| std::cmp::Reverse(*turn));
        let candidates = [position, position / BLOCK_TOKENS * BLOCK_TOKENS].into_iter().chain(turns).chain([0]);
        let reached = candidates.into_iter().find(|position| self.can_rewind(id, *position)).expect("0 always works");
        self.truncate(id, reached);
        let index = (reached / BLOCK_TOKENS) as usize;
        let mut copies = Vec::new();
        if !reached.is_multiple_of(BLOCK_TOKENS) {
            let sequence = self.sequences.get_mut(&id).expect("it is open");
            for (reach, pool, table) in [
                (Reach::Full, &mut self.full, &mut sequence.full),
                (Reach::Sliding, &mut self.sliding, &mut sequence.sliding),
            ] {
                let Some(block) = table.get_mut(index).filter(|block| **block != NO_BLOCK) else { continue };
                if pool.is_shared(*block) {
                    let to = pool.take().expect("that is a condition of coming here");
                    copies.push(BlockCopy { reach, from: *block, to });
                    pool.release(std::mem::replace(block, to));
                }
            }
        }
        (reached, copies)
    }

    /// Whether the window at `position` is in the cache, and the block that becomes partly empty can be the sequence's
    /// own.
    ///
    /// # Panics
    /// The sequence is not open, or not as long.
    pub fn can_rewind(&self, id: SequenceId, position: u32) -> bool {
        let sequence = self.get(id);
        let is_held = |index: u32| sequence.sliding[index as usize] != NO_BLOCK;
        if self.shape.window > 0 && !window_blocks(position, self.shape.window).all(is_held) {
            return false;
        }
        let index = (position / BLOCK_TOKENS) as usize;
        let is_partial = !position.is_multiple_of(BLOCK_TOKENS);
        let can_own = |pool: &Pool, table: &[Block]| match table.get(index) {
            Some(&block) if is_partial && block != NO_BLOCK => !pool.is_shared(block) || pool.free() > 0,
            _ => true,
        };
        can_own(&self.full, &sequence.full) && can_own(&self.sliding, &sequence.sliding)
    }

    fn truncate(&mut self, id: SequenceId, position: u32) {
        let version = self.tick();
        let window = self.shape.window;
        let sequence = self.sequences.get_mut(&id).expect("it is open");
        sequence.tokens.truncate(position as usize);
        sequence.committed = sequence.committed.min(position);
        sequence.turns.retain(|turn| turn.position <= position);
        let blocks = blocks_of(position) as usize;
        sequence.version = version;
        sequence.full.drain(blocks.min(sequence.full.len())..).for_each(|block| self.full.release(block));
        for mut block in sequence.sliding.drain(blocks.min(sequence.sliding.len())..) {
            release(&mut self.sliding, &mut block);
        }
        let held_from = window_blocks(sequence.committed, window.saturating_add(SLACK_TOKENS)).start;
        sequence.behind = sequence.behind.min(held_from);
    }

    fn get(&self, id: SequenceId) -> &Sequence {
        self.sequences.get(&id).unwrap_or_else(|| panic!("{id:?} is not open"))
    }

    fn get_mut(&mut self, id: SequenceId) -> &mut Sequence {
        self.sequences.get_mut(&id).unwrap_or_else(|| panic!("{id:?} is not open"))
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// Frees the block at a place of a table, if there is one.
fn release(pool: &mut Pool, place: &mut Block) {
    if *place != NO_BLOCK {
        pool.release(std::mem::replace(place, NO_BLOCK));
    }
}

#[cfg(test)]
mod tests;
