//! Random bytes by position: the same seed, tensor and row always give the same bytes, in any order of asking.
//!
//! SplitMix64 (Steele, Lea, Flood 2014) is a counter run through a mixing function; here the counter starts at a key.

/// SplitMix64's odd increment, 2^64 divided by the golden ratio.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function: a bijection in which every output bit depends on every input bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The key of a tensor: of its name by FNV-1a, and of the model's seed.
pub(crate) fn tensor_key(seed: u64, name: &str) -> u64 {
    let name = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(mix(seed.wrapping_add(INCREMENT)) ^ name)
}

/// The key of a row of a tensor.
pub(crate) fn row_key(tensor_key: u64, row: u64) -> u64 {
    mix(tensor_key ^ mix(row.wrapping_add(INCREMENT)))
}

/// Fills `out` with the bytes of `key`.
pub(crate) fn fill(key: u64, out: &mut [u8]) {
    let mut counter = key;
    let mut next = || {
        counter = counter.wrapping_add(INCREMENT);
        mix(counter).to_le_bytes()
    };
    let (words, rest) = out.as_chunks_mut::<8>();
    for word in words {
        *word = next();
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&next()[..rest.len()]);
    }
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
