//! Keys and values of one layer.

use gptoss_model::CacheFormat;
use gptoss_model::ops::rope::HEAD_DIM;
use gptoss_model::sequences::{BLOCK_TOKENS, Block};

use crate::simd::Simd;

/// How many positions a vector of scores covers.
pub(crate) const TILE: usize = 16;

/// A number format of the cache.
pub(crate) trait Value: Copy + Default + Send + Sync {
    fn store(value: f32) -> Self;
    fn load<S: Simd>(values: &[Self; TILE]) -> [f32; TILE];
}

impl Value for f32 {
    #[inline(always)]
    fn store(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn load<S: Simd>(values: &[Self; TILE]) -> [f32; TILE] {
        *values
    }
}

/// The bits of an F16.
impl Value for u16 {
    #[inline(always)]
    fn store(value: f32) -> Self {
        half::f16::from_f32(value).to_bits()
    }

    #[inline(always)]
    fn load<S: Simd>(values: &[Self; TILE]) -> [f32; TILE] {
        S::widen(values)
    }
}

/// Keys and values by slot. Tables of blocks say which position of which sequence a slot has.
#[derive(Debug)]
pub(crate) struct Store<V> {
    /// [kv_heads, capacity / 16, 64, 16]: sixteen positions side by side, so that one vector operation scores all of
    /// them.
    pub keys: Vec<V>,
    /// [kv_heads, capacity, 64].
    pub values: Vec<V>,
    /// Number of positions: whole blocks.
    pub capacity: usize,
}

impl<V: Value> Store<V> {
    fn new(kv_heads: usize, capacity: usize) -> Self {
        let len = kv_heads * capacity * HEAD_DIM;
        Self { keys: vec![V::default(); len], values: vec![V::default(); len], capacity }
    }

    /// Stores a key and a value, [kv_heads, 64].
    fn put(&mut self, slot: usize, key: &[f32], value: &[f32]) {
        for (head, (key, value)) in key.chunks_exact(HEAD_DIM).zip(value.chunks_exact(HEAD_DIM)).enumerate() {
            let first = (head * self.capacity + slot) * HEAD_DIM;
            for (stored, &value) in self.values[first..][..HEAD_DIM].iter_mut().zip(value) {
                *stored = V::store(value);
            }
            let tile = (head * self.capacity + slot / TILE * TILE) * HEAD_DIM + slot % TILE;
            for (stored, &key) in self.keys[tile..].iter_mut().step_by(TILE).zip(key) {
                *stored = V::store(key);
            }
        }
    }
}

impl<V: Copy> Store<V> {
    /// Copies a block, whose positions lie together under each head.
    fn copy_block(&mut self, from: Block, to: Block) {
        let len = BLOCK_TOKENS as usize * HEAD_DIM;
        for of_head in [&mut self.keys, &mut self.values]
            .into_iter()
            .flat_map(|all| all.chunks_exact_mut(self.capacity * HEAD_DIM))
        {
            let first = from as usize * len;
            of_head.copy_within(first..first + len, to as usize * len);
        }
    }
}

/// The slot of a position, by the table of its sequence.
#[inline(always)]
pub(crate) fn slot_of(table: &[Block], position: usize) -> usize {
    let block = BLOCK_TOKENS as usize;
    table[position / block] as usize * block + position % block
}

/// The cache of one layer in the format chosen at load.
#[derive(Debug)]
pub(crate) enum LayerCache {
    F16(Store<u16>),
    F32(Store<f32>),
}

impl LayerCache {
    pub fn new(format: CacheFormat, kv_heads: usize, blocks: u32) -> Self {
        let capacity = (blocks * BLOCK_TOKENS) as usize;
        match format {
            CacheFormat::F16 => Self::F16(Store::new(kv_heads, capacity)),
            CacheFormat::F32 => Self::F32(Store::new(kv_heads, capacity)),
        }
    }

    pub fn put(&mut self, slot: usize, key: &[f32], value: &[f32]) {
        match self {
            Self::F16(store) => store.put(slot, key, value),
            Self::F32(store) => store.put(slot, key, value),
        }
    }

    pub fn copy_block(&mut self, from: Block, to: Block) {
        match self {
            Self::F16(store) => store.copy_block(from, to),
            Self::F32(store) => store.copy_block(from, to),
        }
    }

    /// The largest magnitude of a key or a value.
    pub fn largest(&self) -> f32 {
        match self {
            Self::F16(_) => CacheFormat::F16.largest(),
            Self::F32(_) => CacheFormat::F32.largest(),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::F16(store) => 2 * size_of_val(&store.keys[..]) as u64,
            Self::F32(store) => 2 * size_of_val(&store.keys[..]) as u64,
        }
    }
}
