//! Block formats of weights, as they are in GGUF files, and their exact decoding.
//!
//! Layouts: ggml's `block_q8_0` and `block_mxfp4`; the OCP Microscaling (MX) specification for E2M1 and E8M0.

/// Weights per block in every format here; a row is a whole number of blocks.
pub const BLOCK_WEIGHTS: u32 = 32;

/// A weight format that the kernels can multiply with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    Bf16,
    /// 34 bytes for 32 weights: f16 scale, then 32 signed bytes.
    Q8_0,
    /// 17 bytes for 32 weights: E8M0 exponent, then 16 bytes of E2M1 codes; byte j holds weight j in its low nibble and
    /// weight j + 16 in its high one.
    Mxfp4,
}

impl Format {
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Mxfp4];

    /// Bytes of one block of 32 weights in the file.
    pub const fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 128,
            Self::F16 | Self::Bf16 => 64,
            Self::Q8_0 => 34,
            Self::Mxfp4 => 17,
        }
    }

    /// Bytes of the codes of one block on the GPU (everything but the scale).
    pub const fn code_bytes(self) -> u64 {
        match self {
            Self::F32 => 128,
            Self::F16 | Self::Bf16 => 64,
            Self::Q8_0 => 32,
            Self::Mxfp4 => 16,
        }
    }

    /// Scale words (u32) of a row of `blocks` on the GPU; rows are padded to whole words.
    pub const fn scale_words(self, blocks: u64) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 0,
            Self::Q8_0 => blocks.div_ceil(2),
            Self::Mxfp4 => blocks.div_ceil(4),
        }
    }

    /// True when the file's bytes are split into planes on the way to the GPU.
    pub const fn is_repacked(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Mxfp4)
    }

    /// Decodes a run of blocks (of the unquantised formats: of any number of weights).
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let unit = match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 | Self::Mxfp4 => self.block_bytes() as usize,
        };
        assert_eq!(bytes.len() % unit, 0, "{self:?}: {} bytes are not a whole number of units", bytes.len());
        let units = bytes.chunks_exact(unit);
        match self {
            Self::F32 => units.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F16 => units.map(|b| f16_value(b[0], b[1])).collect(),
            Self::Bf16 => units.map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::Q8_0 => units
                .flat_map(|block| {
                    let scale = f16_value(block[0], block[1]);
                    block[2..].iter().map(move |&code| f32::from(code as i8) * scale)
                })
                .collect(),
            Self::Mxfp4 => units
                .flat_map(|block| {
                    let half_scale = e8m0_half(block[0]);
                    let low = block[1..].iter().map(|&byte| byte & 15);
                    let high = block[1..].iter().map(|&byte| byte >> 4);
                    low.chain(high).map(move |code| E2M1_DOUBLED[usize::from(code)] * half_scale)
                })
                .collect(),
        }
    }
}

/// Twice the value of each E2M1 code: all are whole numbers.
pub const E2M1_DOUBLED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, -0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

fn f16_value(low: u8, high: u8) -> f32 {
    half::f16::from_le_bytes([low, high]).to_f32()
}

/// Half of 2^(exponent − 127), which makes up for the doubled codes.
pub fn e8m0_half(exponent: u8) -> f32 {
    match exponent {
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        _ => f32::from_bits((u32::from(exponent) - 1) << 23),
    }
}
