//! The hashes that the bytes of a chunk are recognised by.
//!
//! A chunk has several, so that a part of it can be read and checked without the rest: an expert's matrix begins and
//! ends somewhere in the middle of chunks.

use xxhash_rust::xxh3::xxh3_64;

use crate::Bytes;

/// Blocks in a chunk: 256 KiB each of 4 MiB, which stay in a core's cache on their way through the wasm heap.
pub(super) const BLOCKS: usize = 16;

/// XXH3 (64 bits) of every block of `bytes`, the last of which may be shorter. It finds damage, not malice; the host's
/// SHA-256 is for malice.
pub(super) fn block_hashes(bytes: &Bytes, block_bytes: u64) -> Vec<u64> {
    let len = bytes.len();
    // No longer than the bytes, which fit a usize.
    let block_len = block_bytes.min(len as u64).max(1) as usize;
    let mut block = vec![0; block_len];
    let hash = |begin: usize| {
        let block = &mut block[..block_len.min(len - begin)];
        bytes.copy_to(begin, block);
        xxh3_64(block)
    };
    (0..len).step_by(block_len).map(hash).collect()
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_own() {
        let bytes: Vec<u8> = (0..1000).map(|index| (index % 251) as u8).collect();
        for block_len in [1, 7, 250, 999, 1000, 1001, 5000] {
            let expected: Vec<u64> = bytes.chunks(block_len).map(xxh3_64).collect();
            assert_eq!(block_hashes(&Bytes::from_vec(bytes.clone()), block_len as u64), expected, "{block_len}");
        }
        assert_eq!(block_hashes(&Bytes::from_vec(Vec::new()), 4), []);
    }
}
