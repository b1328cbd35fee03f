//! Block formats of weights, as they are in GGUF files, and their exact decoding.
//!
//! Layouts: ggml's `block_*` structures; the OCP Microscaling (MX) specification for E2M1 and E8M0. All numbers are
//! little endian. A block is stored as scales (and, for some, minima and high bits) and codes; this file knows their
//! sizes and places, [`Format::decode`] what they mean.

mod decode;

pub use decode::{E2M1_DOUBLED, e8m0_half};

/// Weights that the kernels decode at a time. A row is a whole number of such runs, and so is a block of any format.
pub const BLOCK_WEIGHTS: u32 = 32;

/// A weight format that the kernels can multiply with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    Bf16,
    /// f16 scale, then 32 signed bytes.
    Q8_0,
    /// E8M0 exponent, then 16 bytes of E2M1 codes; byte j holds weight j in its low nibble and weight j + 16 in its
    /// high one.
    Mxfp4,
    /// f16 scale d, then 16 bytes of nibbles as in MXFP4: d · (nibble − 8).
    Q4_0,
    /// f16 scale d, f16 minimum m, then nibbles: d · nibble + m.
    Q4_1,
    /// f16 scale d, 32 high bits (bit j is weight j's), then nibbles: d · (5-bit code − 16).
    Q5_0,
    /// f16 scale d, f16 minimum m, 32 high bits, then nibbles: d · (5-bit code) + m.
    Q5_1,
    /// 256 weights: f16 d and dmin, 8 pairs of 6-bit scales and minima in 12 bytes, then 128 bytes of nibbles. Each 32
    /// bytes hold 32 weights in the low nibbles and the next 32 in the high ones: d · scale · nibble − dmin · minimum.
    Q4K,
    /// As Q4_K, with 32 bytes of high bits before the nibbles: bit s of byte l belongs to weight l of run s.
    Q5K,
    /// 256 weights: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales (one for 16 weights), and last the
    /// f16 d: d · scale · (6-bit code − 32).
    Q6K,
    /// As Q4_0, with a table of 16 unevenly spaced values: d · table\[nibble\].
    Iq4Nl,
}

/// How the codes of an MXFP4 block lie in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CodeOrder {
    /// As ggml has it, and this project everywhere but in such files: byte j holds weights j and j + 16.
    #[default]
    Halves,
    /// As OpenAI's files have it, and Ollama's first ones that took their codes over: byte j holds weights 2j and 2j + 1.
    Neighbours,
}

impl CodeOrder {
    /// Brings the codes of whole MXFP4 blocks into ggml's order.
    pub fn to_halves(self, blocks: &mut [u8]) {
        if self == Self::Halves {
            return;
        }
        for block in blocks.chunks_exact_mut(Format::Mxfp4.block_bytes() as usize) {
            let codes: [u8; 16] = std::array::from_fn(|j| block[1 + j]);
            for i in 0..8 {
                let (low, high) = (codes[i], codes[i + 8]);
                block[1 + 2 * i] = (low & 15) | high << 4;
                block[2 + 2 * i] = low >> 4 | (high & 0xf0);
            }
        }
    }
}

/// What the sizes of a format follow from.
struct Block {
    /// The name of the format in GGUF.
    name: &'static str,
    /// Weights in one block; of formats that have none, [`BLOCK_WEIGHTS`].
    weights: u32,
    bytes: u64,
    /// First and number of the bytes that are not codes: scales, minima, and what is too short for a plane of its own.
    scale_at: u64,
    scale_bytes: u64,
}

impl Format {
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Mxfp4,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
    ];

    const fn block(self) -> Block {
        let (name, weights, bytes, scale_at, scale_bytes) = match self {
            Self::F32 => ("F32", BLOCK_WEIGHTS, 128, 0, 0),
            Self::F16 => ("F16", BLOCK_WEIGHTS, 64, 0, 0),
            Self::Bf16 => ("BF16", BLOCK_WEIGHTS, 64, 0, 0),
            Self::Q8_0 => ("Q8_0", 32, 34, 0, 2),
            Self::Mxfp4 => ("MXFP4", 32, 17, 0, 1),
            Self::Q4_0 => ("Q4_0", 32, 18, 0, 2),
            Self::Q4_1 => ("Q4_1", 32, 20, 0, 4),
            Self::Q5_0 => ("Q5_0", 32, 22, 0, 6),
            Self::Q5_1 => ("Q5_1", 32, 24, 0, 8),
            Self::Q4K => ("Q4_K", 256, 144, 0, 16),
            Self::Q5K => ("Q5_K", 256, 176, 0, 16),
            Self::Q6K => ("Q6_K", 256, 210, 208, 2),
            Self::Iq4Nl => ("IQ4_NL", 32, 18, 0, 2),
        };
        Block { name, weights, bytes, scale_at, scale_bytes }
    }

    /// The name of the format in GGUF, e.g. `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.block().name
    }

    /// The format with this GGUF name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Every name, for messages: `F32, F16, …`.
    pub fn supported_names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Weights in one block of the file: a row has a whole number of blocks. 32 also for the unquantised formats, which
    /// have no blocks: the kernels take 32 weights at a time.
    pub const fn block_weights(self) -> u64 {
        self.block().weights as u64
    }

    /// Bytes of one block in the file.
    pub const fn block_bytes(self) -> u64 {
        self.block().bytes
    }

    /// Bytes of one block's codes: everything but the scales.
    pub const fn code_bytes(self) -> u64 {
        self.block().bytes - self.block().scale_bytes
    }

    /// Where the codes of a block start, in bytes from the block's start. They are contiguous in every format.
    pub const fn codes_at(self) -> u64 {
        match self.block().scale_at {
            0 => self.block().scale_bytes,
            _ => 0,
        }
    }

    /// Bytes of one block's scales, with minima and, for Q5_0 and Q5_1, high bits; 0 for the unquantised formats.
    pub const fn scale_bytes(self) -> u64 {
        self.block().scale_bytes
    }

    /// Where the scales of a block start, in bytes from the block's start.
    pub const fn scales_at(self) -> u64 {
        self.block().scale_at
    }

    /// Scale words (u32) of a row of `blocks` file blocks on the GPU; rows are padded to whole words.
    pub const fn scale_words(self, blocks: u64) -> u64 {
        (blocks * self.block().scale_bytes).div_ceil(4)
    }

    /// True when the file's bytes are split into planes on the way to the GPU.
    pub const fn is_repacked(self) -> bool {
        self.block().scale_bytes != 0
    }

    /// Decodes a run of blocks (of the unquantised formats: of any number of weights).
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        decode::decode(self, bytes)
    }
}
