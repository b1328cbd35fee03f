//! Rounding weights to the types that this project writes. The bytes are those of gguf-py's quantisers (`quants.py`),
//! which are ggml's: `model/tests/goldens/quantised.json` holds both against each other.

use half::{bf16, f16};

use super::{E2M1_DOUBLED_F32, RUN_WEIGHTS, WeightType, e8m0_half};

/// The largest code of Q8_0.
const Q8_0_CODES: f32 = 127.0;

/// E2M1 codes without the sign bit.
const E2M1_MAGNITUDES: usize = 8;

/// The bit of an E2M1 code that makes it negative.
const E2M1_SIGN: u8 = 8;

impl WeightType {
    /// The types that weights can be rounded to.
    pub const WRITTEN: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Mxfp4];

    /// The largest weight that one of [`WeightType::WRITTEN`] can hold. Half a step above it, rounding gives infinity.
    pub const fn largest_written(self) -> f32 {
        match self {
            Self::F16 => f16::MAX.to_f32_const(),
            Self::Bf16 => bf16::MAX.to_f32_const(),
            Self::Q8_0 => Q8_0_CODES * f16::MAX.to_f32_const(),
            _ => f32::MAX,
        }
    }

    /// Rounds `weights` to this type and appends the bytes to `out`.
    ///
    /// The weights must be finite. One that is too large for a half, or for the half that is the scale of Q8_0, makes
    /// that number infinite, which [`bad_blocks`](crate::numbers::bad_blocks) finds.
    ///
    /// # Panics
    /// For types other than [`WeightType::WRITTEN`], and if the weights are not a whole number of blocks.
    pub fn encode(self, weights: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(weights.iter().flat_map(|weight| weight.to_le_bytes())),
            Self::F16 => out.extend(weights.iter().flat_map(|&weight| f16::from_f32(weight).to_le_bytes())),
            Self::Bf16 => out.extend(weights.iter().flat_map(|&weight| bf16::from_f32(weight).to_le_bytes())),
            Self::Q8_0 => blocks(weights).iter().for_each(|block| out.extend(q8_0(block))),
            Self::Mxfp4 => blocks(weights).iter().for_each(|block| out.extend(mxfp4(block))),
            other => panic!("weights are not rounded to {}", other.name()),
        }
    }
}

fn blocks(weights: &[f32]) -> &[[f32; RUN_WEIGHTS]] {
    let (blocks, rest) = weights.as_chunks();
    assert!(rest.is_empty(), "{} weights are not whole blocks", weights.len());
    blocks
}

fn largest(weights: &[f32; RUN_WEIGHTS]) -> f32 {
    weights.iter().fold(0.0, |largest, weight| largest.max(weight.abs()))
}

/// The codes are made with the scale in F32, before it is rounded to a half.
fn q8_0(weights: &[f32; RUN_WEIGHTS]) -> [u8; 34] {
    let scale = largest(weights) / Q8_0_CODES;
    // A scale of zero has no inverse, and neither has one below 2⁻¹²⁸, which is zero as a half.
    let inverse = Some(1.0 / scale).filter(|inverse| inverse.is_finite()).unwrap_or(0.0);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (code, weight) in block[2..].iter_mut().zip(weights) {
        *code = (weight * inverse).round() as i8 as u8;
    }
    block
}

/// The exponent makes 4 of the power of two below the largest weight, so that weights up to 1.5 times that power are
/// codes up to 6 and larger ones are cut to 6; each weight gets the nearest code, of two equally near ones the smaller.
fn mxfp4(weights: &[f32; RUN_WEIGHTS]) -> [u8; 17] {
    let exponent = match largest(weights) {
        0.0 => 0,
        // The logarithm is rounded to F32 as in gguf-py and ggml: a weight up to 44 representable numbers below a power
        // of two counts as that power. Below 2⁻¹²⁵ both leave the exponent's range; here it ends at zero.
        largest => ((f64::from(largest).log2() as f32).floor() - 2.0 + 127.0) as u8,
    };
    let magnitudes: [f32; E2M1_MAGNITUDES] = std::array::from_fn(|code| e8m0_half(exponent) * E2M1_DOUBLED_F32[code]);
    // Distances from the codes fall up to the nearest one and do not fall from there on, so that its number is that of
    // the steps that bring something. Counted so, it takes a twentieth of the time of looking for the least.
    let codes = weights.map(|weight| {
        let is_nearer = |step: &[f32]| (step[1] - weight.abs()).abs() < (step[0] - weight.abs()).abs();
        magnitudes.windows(2).map(|step| u8::from(is_nearer(step))).sum::<u8>()
    });
    let nibble = |weight: usize| match codes[weight] {
        0 => 0,
        code if weights[weight] < 0.0 => code | E2M1_SIGN,
        code => code,
    };
    let mut block = [0; 17];
    block[0] = exponent;
    for (j, byte) in block[1..].iter_mut().enumerate() {
        *byte = nibble(j) | nibble(j + RUN_WEIGHTS / 2) << 4;
    }
    block
}
