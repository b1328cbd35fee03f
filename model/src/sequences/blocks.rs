//! A pool of blocks of the KV cache: which are free, and how many sequences hold each of the others.

/// Positions in a block of the KV cache.
pub const BLOCK_TOKENS: u32 = 64;

/// How many blocks a number of positions takes.
pub const fn blocks_of(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// One block: its place in the cache of every layer that the pool is for.
pub type Block = u32;

/// Blocks and their holders. A block that several sequences hold is full and never written again.
#[derive(Clone, Debug)]
pub struct Pool {
    /// How many sequences hold each block.
    pub(super) holders: Vec<u32>,
    /// Blocks that nobody holds; the last one is given next.
    free: Vec<Block>,
}

impl Pool {
    pub fn new(blocks: u32) -> Self {
        Self { holders: vec![0; blocks as usize], free: (0..blocks).rev().collect() }
    }

    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    pub fn in_use(&self) -> u32 {
        self.holders.len() as u32 - self.free()
    }

    /// Takes a free block for one sequence.
    pub fn take(&mut self) -> Option<Block> {
        let block = self.free.pop()?;
        self.holders[block as usize] = 1;
        Some(block)
    }

    /// Counts one more holder.
    pub fn share(&mut self, block: Block) {
        debug_assert!(self.holders[block as usize] > 0, "block {block} is free");
        self.holders[block as usize] += 1;
    }

    pub fn is_shared(&self, block: Block) -> bool {
        self.holders[block as usize] > 1
    }

    /// Counts one holder less; a block without holders is free.
    pub fn release(&mut self, block: Block) {
        let holders = &mut self.holders[block as usize];
        *holders = holders.checked_sub(1).expect("a block that is released is held");
        if *holders == 0 {
            self.free.push(block);
        }
    }
}
