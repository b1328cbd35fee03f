//! Random bytes by position: the same seed, tensor and row always give the same bytes, in any order of asking.
//!
//! SplitMix64 (Steele, Lea, Flood 2014) is a counter run through a mixing function; here the counter starts at a key.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What SplitMix64 adds to its counter before it mixes it.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// The first output for a seed: SplitMix64's mixing function of `seed + INCREMENT`.
fn first(seed: u64) -> u64 {
    SplitMix64::seed_from_u64(seed).next_u64()
}

/// SplitMix64's mixing function alone: a bijection in which every output bit depends on every input bit.
fn mix(z: u64) -> u64 {
    first(z.wrapping_sub(INCREMENT))
}

/// The key of a tensor: of its name by FNV-1a, and of the model's seed. Files whose results were recorded depend on it.
pub(crate) fn tensor_key(seed: u64, name: &str) -> u64 {
    let name = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(first(seed) ^ name)
}

/// The key of a row of a tensor.
pub(crate) fn row_key(tensor_key: u64, row: u64) -> u64 {
    mix(tensor_key ^ first(row))
}

/// Fills `out` with the bytes of `key`.
pub(crate) fn fill(key: u64, out: &mut [u8]) {
    SplitMix64::seed_from_u64(key).fill_bytes(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs for state 1234567, from the published C source of SplitMix64.
    #[test]
    fn the_stream_is_splitmix64() {
        let mut bytes = [0; 24];
        fill(1_234_567, &mut bytes);
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        assert_eq!(words, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    /// Keys from before SplitMix64 came from a crate: recorded results are of files with these keys.
    #[test]
    fn keys_stay_as_they_were() {
        let tensor = tensor_key(7, "blk.0.attn_q.weight");
        assert_eq!((tensor, row_key(tensor, 3)), (0xefb66ce3b2ee6e7a, 0x3e28c5882403ce73));
    }

    #[test]
    fn a_shorter_request_gives_a_prefix() {
        let (mut long, mut short) = ([0; 32], [0; 13]);
        fill(7, &mut long);
        fill(7, &mut short);
        assert_eq!(long[..13], short);
    }

    #[test]
    fn keys_differ_by_seed_name_and_row() {
        let keys = [
            row_key(tensor_key(0, "a"), 0),
            row_key(tensor_key(1, "a"), 0),
            row_key(tensor_key(0, "b"), 0),
            row_key(tensor_key(0, "a"), 1),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{keys:x?}");
        }
    }
}
