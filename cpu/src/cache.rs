//! Keys and values of one layer.

use gptoss_model::CacheFormat;
use gptoss_model::ops::rope::HEAD_DIM;

use crate::isa::Level;

/// Positions that a vector of scores covers.
pub(crate) const TILE: usize = 16;

/// A value as it is stored.
pub(crate) trait Value: Copy + Default + Send + Sync {
    fn store(value: f32) -> Self;
    fn load<L: Level>(values: &[Self; TILE]) -> [f32; TILE];
}

impl Value for f32 {
    #[inline(always)]
    fn store(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn load<L: Level>(values: &[Self; TILE]) -> [f32; TILE] {
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
    fn load<L: Level>(values: &[Self; TILE]) -> [f32; TILE] {
        L::widen(values)
    }
}

/// Position p lies at p mod capacity: a ring on sliding layers.
#[derive(Debug)]
pub(crate) struct Store<V> {
    /// [kv_heads, capacity / 16, 64, 16]: sixteen positions side by side, so that one vector operation scores all of them.
    pub keys: Vec<V>,
    /// [kv_heads, capacity, 64].
    pub values: Vec<V>,
    /// In positions; a multiple of [`TILE`].
    pub capacity: usize,
}

impl<V: Value> Store<V> {
    fn new(kv_heads: usize, capacity: usize) -> Self {
        let len = kv_heads * capacity * HEAD_DIM;
        Self { keys: vec![V::default(); len], values: vec![V::default(); len], capacity }
    }

    /// Keeps the key and value, [kv_heads, 64], of a position.
    fn put(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let slot = position % self.capacity;
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

/// The cache of one layer in the format chosen at load.
#[derive(Debug)]
pub(crate) enum LayerCache {
    F16(Store<u16>),
    F32(Store<f32>),
}

impl LayerCache {
    /// `capacity` positions, rounded up to whole tiles.
    pub fn new(format: CacheFormat, kv_heads: usize, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(TILE);
        match format {
            CacheFormat::F16 => Self::F16(Store::new(kv_heads, capacity)),
            CacheFormat::F32 => Self::F32(Store::new(kv_heads, capacity)),
        }
    }

    pub fn put(&mut self, position: usize, key: &[f32], value: &[f32]) {
        match self {
            Self::F16(store) => store.put(position, key, value),
            Self::F32(store) => store.put(position, key, value),
        }
    }

    /// The largest number that a key or a value may be.
    pub fn largest(&self) -> f32 {
        match self {
            Self::F16(_) => CacheFormat::F16.largest(),
            Self::F32(_) => CacheFormat::F32.largest(),
        }
    }

    pub fn capacity(&self) -> usize {
        match self {
            Self::F16(store) => store.capacity,
            Self::F32(store) => store.capacity,
        }
    }

    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::F16(store) => 2 * size_of_val(&store.keys[..]) as u64,
            Self::F32(store) => 2 * size_of_val(&store.keys[..]) as u64,
        }
    }
}
