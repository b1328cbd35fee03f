//! What becomes of a file's bytes on a bad way. Shared with the tests of the crates that make files and read them.
#![allow(dead_code, reason = "each test target uses a part of it")]

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A fault that goes on from a byte to the end of the file, or to the end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garble {
    /// So many bytes are left out; what follows comes early.
    Skip(usize),
    /// So many bytes come twice; what follows comes late.
    Repeat(usize),
    Fill(u8),
    /// A page in place of the bytes.
    Html,
    /// The bytes of the file from its begin on.
    Restart,
    Noise,
    BitsReversed,
    /// Two bytes each.
    BytesSwapped,
}

impl Garble {
    /// All but shifts.
    pub const OTHERS: [Self; 8] = [
        Self::Fill(0),
        Self::Fill(0xff),
        Self::Fill(0x55),
        Self::Html,
        Self::Restart,
        Self::Noise,
        Self::BitsReversed,
        Self::BytesSwapped,
    ];

    /// `file` with the fault from byte `from` to byte `to`.
    pub fn apply(self, file: &[u8], from: usize, to: usize) -> Vec<u8> {
        let mut out = file.to_vec();
        self.copy(file, from, to, 0, &mut out);
        out
    }

    /// Fills `target` with what comes from byte `at` on.
    pub fn copy(self, file: &[u8], from: usize, to: usize, at: usize, target: &mut [u8]) {
        for (at, byte) in (at..).zip(target) {
            *byte = if (from..to).contains(&at) { self.byte(file, from, at) } else { file[at] };
        }
    }

    /// What comes in place of byte `at`, of a fault that began at `from`.
    fn byte(self, file: &[u8], from: usize, at: usize) -> u8 {
        const PAGE: &[u8] = b"<!doctype html>\n<html lang=\"en\"><head><title>502 Bad Gateway</title></head>\n<body>\n\
            <h1>Bad Gateway</h1><p>The proxy server received an invalid response from an upstream server.</p></body></html>\n";
        match self {
            Self::Skip(bytes) => file[(at + bytes) % file.len()],
            Self::Repeat(bytes) => file[at.saturating_sub(bytes)],
            Self::Fill(byte) => byte,
            Self::Html => PAGE[(at - from) % PAGE.len()],
            Self::Restart => file[at - from],
            // A function of the place: whatever range is asked for, the same bytes come.
            Self::Noise => SplitMix64::seed_from_u64(at as u64).next_u64() as u8,
            Self::BitsReversed => file[at].reverse_bits(),
            Self::BytesSwapped => file[(at ^ 1).min(file.len() - 1)],
        }
    }
}
