//! The types of weights that this project computes with: one row each, from which everything else follows.
//!
//! A row names the ggml type, where a block's scales lie, what its numbers can be and how its codes are unpacked. Sizes
//! are [`TensorType`]'s. Engines, server, synthetic models and tests iterate [`WeightType::ALL`]; a new type is a row
//! here, its [`Blocks`], and a `.wgsl` file.
//!
//! Layouts: ggml's `block_*` structures in `ggml-common.h`; the OCP Microscaling (MX) specification for E2M1 and E8M0.
//! All numbers are little endian.

mod blocks;
mod encode;
mod iq3_s;
mod iq3_xxs;

pub use blocks::{Blocks, E2M1_DOUBLED, E2M1_DOUBLED_F32, Mxfp4, RUN_WEIGHTS, Run, e8m0_half};

use crate::TensorType;
use crate::numbers::{Number, numbers_of};

/// Statistics of random codes of a type, for programs that generate weights.
#[derive(Clone, Copy, Debug)]
pub struct RandomCodes {
    /// Root mean square of weights with random codes (and random inner scales in K types) in a block with scale 1.
    pub rms: f64,
    /// The minimum, in scales, that centres the weights on zero; `None` for types without a minimum.
    pub minimum: Option<f64>,
}

/// An operation on the [`Blocks`] of a type that is only known at run time: one generic function, compiled for each
/// type.
pub trait WithBlocks {
    /// What the operation returns.
    type Output;
    /// Runs the operation for the block format `B`.
    fn with<B: Blocks>(self) -> Self::Output;
}

/// Writes the enum and its lookups from one table, so that a type cannot be in one and missing in another.
macro_rules! weight_types {
    ($(
        $(#[$doc:meta])*
        $variant:ident = $kind:ident {
            scales: $scales_at:literal, $scale_bytes:literal;
            random: $rms:literal, $minimum:expr;
            file_type: $file_type:literal;
            blocks: $($blocks:ty)?;
        }
    )*) => {
        /// A type of weights that can be computed with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum WeightType {
            $($(#[$doc])* $variant,)*
        }

        impl WeightType {
            /// Every type, in the order of the table.
            pub const ALL: [Self; [$(TensorType::$kind),*].len()] = [$(Self::$variant),*];

            /// The same types as ggml's.
            pub const KINDS: [TensorType; Self::ALL.len()] = [$(TensorType::$kind),*];

            /// The weight type of a tensor's type, if it is one that can be computed with.
            pub const fn of(kind: TensorType) -> Option<Self> {
                match kind {
                    $(TensorType::$kind => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The same type as [`TensorType`], which has id, name and sizes.
            pub const fn kind(self) -> TensorType {
                match self {
                    $(Self::$variant => TensorType::$kind,)*
                }
            }

            /// Offset and length of the bytes of a block that are not codes.
            const fn scale_field(self) -> (u64, u64) {
                match self {
                    $(Self::$variant => ($scales_at, $scale_bytes),)*
                }
            }

            /// Statistics of random codes, for generated weights.
            pub const fn random_codes(self) -> RandomCodes {
                match self {
                    $(Self::$variant => RandomCodes { rms: $rms, minimum: $minimum },)*
                }
            }

            /// `general.file_type` of files with most weights of this type: llama.cpp's `llama_ftype`.
            pub const fn file_type(self) -> u32 {
                match self {
                    $(Self::$variant => $file_type,)*
                }
            }

            /// Calls `user` with the type's blocks; `None` for types that have none.
            pub fn with_blocks<W: WithBlocks>(self, user: W) -> Option<W::Output> {
                match self {
                    $($(Self::$variant => Some(user.with::<$blocks>()),)?)*
                    _ => {
                        let _ = user;
                        None
                    }
                }
            }
        }
    };
}

weight_types! {
    /// IEEE 754 single precision, without blocks.
    F32 = F32 { scales: 0, 0; random: 1.0, None; file_type: 0; blocks: ; }
    /// IEEE 754 half precision, without blocks.
    F16 = F16 { scales: 0, 0; random: 1.0, None; file_type: 1; blocks: ; }
    /// bfloat16, the upper half of an F32, without blocks.
    Bf16 = BF16 { scales: 0, 0; random: 1.0, None; file_type: 32; blocks: ; }
    /// f16 scale, then 32 signed bytes.
    Q8_0 = Q8_0 {
        scales: 0, 2;
        random: 73.9, None;
        file_type: 7;
        blocks: blocks::Q8_0;
    }
    /// E8M0 exponent, then 16 bytes of E2M1 codes; byte j holds weight j in its low nibble and weight j + 16 in its
    /// high one.
    Mxfp4 = Mxfp4 {
        scales: 0, 1;
        // RMS of the sixteen E2M1 values 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives.
        random: 2.926_174_977_679_905_7, None;
        file_type: 38;
        blocks: blocks::Mxfp4;
    }
    /// f16 scale d, then 16 bytes of nibbles as in MXFP4: d · (nibble − 8).
    Q4_0 = Q4_0 {
        scales: 0, 2;
        random: 4.637, None;
        file_type: 2;
        blocks: blocks::Q4_0;
    }
    /// f16 scale d, f16 minimum m, then nibbles: d · nibble + m.
    Q4_1 = Q4_1 {
        scales: 0, 4;
        random: 4.610, Some(-7.5);
        file_type: 3;
        blocks: blocks::Q4_1;
    }
    /// f16 scale d, 32 high bits (bit j is weight j's), then nibbles: d · (5-bit code − 16).
    Q5_0 = Q5_0 {
        scales: 0, 6;
        random: 9.247, None;
        file_type: 8;
        blocks: blocks::Q5_0;
    }
    /// f16 scale d, f16 minimum m, 32 high bits, then nibbles: d · (5-bit code) + m.
    Q5_1 = Q5_1 {
        scales: 0, 8;
        random: 9.233, Some(-15.5);
        file_type: 9;
        blocks: blocks::Q5_1;
    }
    /// 256 weights: f16 d and dmin, 8 pairs of 6-bit scales and minima in 12 bytes, then 128 bytes of nibbles. Each 32
    /// bytes hold 32 weights in the low nibbles and the next 32 in the high ones: d · scale · nibble − dmin · minimum.
    Q4K = Q4K {
        scales: 0, 16;
        random: 258.3, Some(7.5);
        file_type: 14;
        blocks: blocks::Q4K;
    }
    /// Like Q4_K, with 32 bytes of high bits before the nibbles: bit s of byte l belongs to weight l of run s.
    Q5K = Q5K {
        scales: 0, 16;
        random: 526.9, Some(15.5);
        file_type: 16;
        blocks: blocks::Q5K;
    }
    /// 256 weights: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales (one for 16 weights), and last the
    /// f16 d: d · scale · (6-bit code − 32).
    Q6K = Q6K {
        scales: 208, 2;
        random: 1365.7, None;
        file_type: 18;
        blocks: blocks::Q6K;
    }
    /// Like Q4_0, with a table of 16 unevenly spaced values: d · table\[nibble\].
    Iq4Nl = Iq4Nl {
        scales: 0, 2;
        random: 67.44, None;
        file_type: 25;
        blocks: blocks::Iq4Nl;
    }
    /// 256 weights: 32 bytes of high bits as in Q5_K, 64 bytes of low bit pairs as Q6_K has its high ones, 16 six-bit
    /// scales (one for 16 weights) in 12 bytes, and last the f16 d: d · (scale − 32) · (3-bit code − 4).
    Q3K = Q3K {
        scales: 96, 14;
        random: 43.34, None;
        file_type: 12;
        blocks: blocks::Q3K;
    }
    /// 256 weights: f16 d, 8 six-bit scales (the upper bit pairs of all in two bytes, then low nibbles in four), and
    /// 128 bytes of nibbles, each 16 as in IQ4_NL: d · (scale − 32) · table\[nibble\].
    Iq4Xs = Iq4Xs {
        scales: 0, 8;
        random: 1245.8, None;
        file_type: 30;
        blocks: blocks::Iq4Xs;
    }
    /// 256 weights: f16 d, 64 bytes of indices into a table of 512 with four magnitudes each, a ninth bit of each in
    /// eight bytes, a sign bit for each weight, and 8 four-bit scales: d · (2 · scale + 1) · ±table\[index\].
    Iq3S = Iq3S {
        // The last ten bytes of signs count as scales, so that the codes are whole vectors.
        scales: 96, 14;
        random: 140.3, None;
        file_type: 26;
        blocks: iq3_s::Iq3S;
    }
    /// 256 weights: f16 d, 64 bytes of indices into a table of 256 with four magnitudes each, and 8 words with four
    /// seven-bit numbers of signs (the eighth makes their number even) and a four-bit scale: d · (scale + ½) / 2 ·
    /// ±table\[index\].
    Iq3Xxs = Iq3Xxs {
        scales: 0, 2;
        random: 142.5, None;
        file_type: 23;
        blocks: iq3_xxs::Iq3Xxs;
    }
}

impl WeightType {
    /// ggml's name of the type, e.g. `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.kind().name()
    }

    /// Numbers of a block (of an element, for types without blocks) that weights are multiplied with. The first is the
    /// scale, the second, if any, the minimum.
    pub fn numbers(self) -> &'static [Number] {
        numbers_of(self.kind()).expect("of every type that is computed with")
    }

    /// Every name, for messages: `F32, F16, …`.
    pub fn supported_names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Weights in one block of the file; a row has a whole number of blocks. [`RUN_WEIGHTS`] for the unquantised types,
    /// which have no blocks but are processed in such runs.
    pub const fn block_weights(self) -> u64 {
        match self.kind().block_len() {
            Some(weights) if weights > 1 => weights,
            _ => RUN_WEIGHTS as u64,
        }
    }

    /// Bytes of one block in the file.
    pub const fn block_bytes(self) -> u64 {
        match (self.kind().block_len(), self.kind().block_bytes()) {
            (Some(1), Some(bytes)) => bytes * RUN_WEIGHTS as u64,
            (_, Some(bytes)) => bytes,
            (_, None) => panic!("ggml's table has every type of this one"),
        }
    }

    /// Bytes of one block's codes: everything but the scales.
    pub const fn code_bytes(self) -> u64 {
        self.block_bytes() - self.scale_bytes()
    }

    /// Where the codes of a block start, in bytes from the block's start. They are contiguous in every type.
    pub const fn codes_at(self) -> u64 {
        match self.scale_field() {
            (0, bytes) => bytes,
            _ => 0,
        }
    }

    /// Bytes of one block's scales, including minima and whatever else keeps the codes whole `vec4<u32>`; 0 for the
    /// unquantised types.
    pub const fn scale_bytes(self) -> u64 {
        self.scale_field().1
    }

    /// Where the scales of a block start, in bytes from the block's start.
    pub const fn scales_at(self) -> u64 {
        self.scale_field().0
    }

    /// Scale words (u32) of a row of `blocks` file blocks on the GPU; rows are padded to whole words.
    pub const fn scale_words(self, blocks: u64) -> u64 {
        (blocks * self.scale_bytes()).div_ceil(4)
    }

    /// Whether the type has blocks of codes and scales, which are split into planes on the way to the GPU.
    pub const fn is_quantised(self) -> bool {
        self.scale_bytes() != 0
    }

    /// Decodes a run of blocks (any number of weights for the unquantised types) exactly. It is slow and plain, because
    /// it is the specification.
    ///
    /// Scales have 11 significant bits, sub-block scales at most 7 and codes at most 8, so that products are exact in
    /// F32 in any order; only adding a minimum rounds, once. A fused multiply-add therefore gives the same bits.
    ///
    /// # Panics
    /// If `bytes` are not a whole number of blocks.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let unit = match self.is_quantised() {
            true => self.block_bytes(),
            false => self.block_bytes() / RUN_WEIGHTS as u64,
        } as usize;
        assert_eq!(bytes.len() % unit, 0, "{}: {} bytes are not a whole number of units", self.name(), bytes.len());
        let units = bytes.chunks_exact(unit);
        match self {
            Self::F32 => units.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F16 => units.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::Bf16 => units.map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            quantised => quantised.with_blocks(Decoded { bytes }).expect("quantised types have blocks"),
        }
    }
}

/// Decodes whole blocks.
struct Decoded<'a> {
    bytes: &'a [u8],
}

impl WithBlocks for Decoded<'_> {
    type Output = Vec<f32>;

    fn with<B: Blocks>(self) -> Vec<f32> {
        let blocks = B::blocks(self.bytes);
        let mut weights = Vec::with_capacity(blocks.len() * B::RUNS * RUN_WEIGHTS);
        for block in blocks {
            for s in 0..B::RUNS {
                weights.extend_from_slice(&B::values(block, s));
            }
        }
        weights
    }
}

/// The order of the codes in an MXFP4 block of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CodeOrder {
    /// ggml's order, used everywhere but in the files below: byte j holds weights j and j + 16.
    #[default]
    Halves,
    /// The order of OpenAI's files, and of Ollama's first ones, which took their codes over: byte j holds weights 2j
    /// and 2j + 1.
    Neighbours,
}

impl CodeOrder {
    /// Reorders the codes of whole MXFP4 blocks into ggml's order.
    pub fn to_halves(self, blocks: &mut [u8]) {
        if self == Self::Halves {
            return;
        }
        for block in blocks.chunks_exact_mut(WeightType::Mxfp4.block_bytes() as usize) {
            let codes: [u8; 16] = std::array::from_fn(|j| block[1 + j]);
            for i in 0..8 {
                let (low, high) = (codes[i], codes[i + 8]);
                block[1 + 2 * i] = (low & 15) | high << 4;
                block[2 + 2 * i] = low >> 4 | (high & 0xf0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table agrees with the constants of the block types.
    #[test]
    fn rows_and_blocks_agree() {
        struct Sizes;
        impl WithBlocks for Sizes {
            type Output = (usize, usize);
            fn with<B: Blocks>(self) -> (usize, usize) {
                (B::BYTES, B::RUNS * RUN_WEIGHTS)
            }
        }
        for kind in WeightType::ALL {
            let sizes = (kind.block_bytes() as usize, kind.block_weights() as usize);
            assert_eq!(kind.with_blocks(Sizes), kind.is_quantised().then_some(sizes), "{kind:?}");
            assert_eq!(WeightType::of(kind.kind()), Some(kind));
            let scales_end = kind.scales_at() + kind.scale_bytes();
            assert!(kind.scales_at() == 0 || scales_end == kind.block_bytes(), "{kind:?}: codes are contiguous");
        }
        assert_eq!(WeightType::of(TensorType::Q2K), None);
    }

    /// Codes reach the largest magnitude that is declared and never exceed it; one scale means equal ones, and types
    /// without minima have none.
    #[test]
    fn runs_are_made_of_what_is_declared() {
        struct Random;
        impl WithBlocks for Random {
            type Output = ();
            fn with<B: Blocks>(self) {
                let mut state = 20_26u64;
                let mut next = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                };
                let (mut largest, mut scales, mut minima) = (0, 1, false);
                for _ in 0..4000 {
                    let bytes: Vec<u8> = (0..B::BYTES).map(|_| next()).collect();
                    for s in 0..B::RUNS {
                        let run = B::run(&B::blocks(&bytes)[0], s);
                        largest = run.codes.iter().fold(largest, |largest, code| code.unsigned_abs().max(largest));
                        if run.scales[0].to_bits() != run.scales[1].to_bits() {
                            scales = 2;
                        }
                        minima |= run.minimum.to_bits() != (-0.0f32).to_bits();
                    }
                }
                assert_eq!((largest, scales, minima), (B::LARGEST_CODE, B::SCALES, B::MINIMA));
            }
        }
        for kind in WeightType::ALL {
            assert_eq!(kind.with_blocks(Random).is_some(), kind.is_quantised());
        }
    }
}
