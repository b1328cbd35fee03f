//! The hash that chunks are recognised by.

use xxhash_rust::xxh3::Xxh3Default;

use crate::Bytes;

/// Bytes that pass through the wasm heap at once; small enough to stay in a core's cache.
const PIECE_BYTES: usize = 256 << 10;

/// XXH3 (64 bits) of all bytes. It finds damage, not malice: SHA-256 of the host's is for that.
pub fn content_hash(bytes: &Bytes) -> u64 {
    let mut hasher = Xxh3Default::new();
    let mut piece = vec![0; PIECE_BYTES.min(bytes.len())];
    let mut at = 0;
    while at < bytes.len() {
        let piece_len = piece.len().min(bytes.len() - at);
        let piece = &mut piece[..piece_len];
        bytes.copy_to(at, piece);
        hasher.update(piece);
        at += piece_len;
    }
    hasher.digest()
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_as_one() {
        for len in [0, 1, 1000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 17] {
            let bytes: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
            let whole = xxhash_rust::xxh3::xxh3_64(&bytes);
            assert_eq!(content_hash(&Bytes::from_vec(bytes)), whole, "{len} bytes");
        }
    }
}
