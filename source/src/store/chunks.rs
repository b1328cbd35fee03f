//! A file as a row of chunks.

use std::ops::RangeInclusive;

use super::block_hashes::BLOCKS;

/// How a file is cut: chunks of equal length, the last of which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    file_bytes: u64,
    chunk_bytes: u64,
}

impl Chunks {
    /// `None` if chunks would have no bytes, or would be too many to number with 32 bits.
    pub fn new(file_bytes: u64, chunk_bytes: u64) -> Option<Self> {
        (chunk_bytes > 0 && u32::try_from(file_bytes.div_ceil(chunk_bytes)).is_ok())
            .then_some(Self { file_bytes, chunk_bytes })
    }

    /// Number of chunks.
    pub fn count(&self) -> u32 {
        self.file_bytes.div_ceil(self.chunk_bytes) as u32 // checked when made
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Length of all chunks but the last, in bytes.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Length of the pieces of a chunk that can be read and checked by themselves, in bytes.
    pub(super) fn block_bytes(&self) -> u64 {
        self.chunk_bytes.div_ceil(BLOCKS as u64)
    }

    /// Position of the chunk's first byte in the file.
    pub fn offset_bytes(&self, chunk: u32) -> u64 {
        u64::from(chunk) * self.chunk_bytes
    }

    /// Length of chunk `chunk`; zero for one that the file does not have.
    pub fn len_bytes(&self, chunk: u32) -> u64 {
        self.file_bytes.saturating_sub(self.offset_bytes(chunk)).min(self.chunk_bytes)
    }

    /// The chunks that hold a range which lies inside the file and has at least one byte.
    pub fn holding(&self, offset_bytes: u64, len_bytes: u64) -> RangeInclusive<u32> {
        let last = offset_bytes + len_bytes - 1;
        (offset_bytes / self.chunk_bytes) as u32..=(last / self.chunk_bytes) as u32
    }
}

/// SHA-256 of every chunk of a file, as its host publishes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHashes {
    /// Length of all chunks but the last, in bytes.
    pub chunk_bytes: u64,
    /// One hash for each chunk, in order.
    pub chunks: Vec<[u8; 32]>,
}

impl ChunkHashes {
    /// Whether there is one hash for each of these chunks.
    pub fn fit(&self, chunks: &Chunks) -> bool {
        self.chunk_bytes == chunks.chunk_bytes && self.chunks.len() == chunks.count() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_one_chunk() {
        for (file_bytes, chunk_bytes, count) in [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (12, 4, 3)] {
            let chunks = Chunks::new(file_bytes, chunk_bytes).expect("few");
            assert_eq!(chunks.count(), count);
            assert_eq!((0..count).map(|chunk| chunks.len_bytes(chunk)).sum::<u64>(), file_bytes);
            assert_eq!(chunks.len_bytes(count), 0);
        }
        let chunks = Chunks::new(10, 4).expect("few");
        for (offset, len, holding) in [(0, 1, 0..=0), (3, 1, 0..=0), (3, 2, 0..=1), (0, 10, 0..=2), (8, 2, 2..=2)] {
            assert_eq!(chunks.holding(offset, len), holding, "{offset}+{len}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_numbered_are_refused() {
        assert_eq!(Chunks::new(5, 0), None);
        assert_eq!(Chunks::new(u64::MAX, 4 << 20), None);
        assert!(Chunks::new(64_000_000_000, 4 << 20).is_some());
    }

    #[test]
    fn hashes_fit_only_the_same_cut() {
        let hashes = ChunkHashes { chunk_bytes: 4, chunks: vec![[0; 32]; 3] };
        let fits = |file, chunk| hashes.fit(&Chunks::new(file, chunk).expect("few"));
        assert!(fits(10, 4) && !fits(10, 5) && !fits(13, 4));
    }
}
