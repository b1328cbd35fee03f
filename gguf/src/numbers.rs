//! Where in a block of each type the numbers lie that every weight of the block is multiplied with, and what they can
//! be.
//!
//! Source of the offsets: the block structures in ggml's `ggml-common.h`; of E8M0: the OCP Microscaling specification;
//! of what is never negative: the quantisers in ggml's `ggml-quants.c`.

use crate::TensorType;

/// How a number in a block is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// IEEE 754 half precision: 1 sign, 5 exponent and 10 fraction bits.
    F16,
    /// bfloat16: the upper half of an F32.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// A power of two, given by its exponent; 255 stands for NaN (OCP Microscaling).
    E8m0,
}

impl Encoding {
    /// Length of the number in bytes.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::E8m0 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// A number in a block that must be finite, such as a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Format of the number, which also gives its width.
    pub encoding: Encoding,
    /// Where the number begins, in bytes from the start of the block.
    pub at: usize,
    /// The largest magnitude that the number is multiplied with: the largest code times the largest inner scale.
    pub reach: f64,
    /// Whether ggml's quantisers ever write a negative number here.
    pub may_be_negative: bool,
}

impl Number {
    const fn new(encoding: Encoding, at: usize, reach: f64) -> Self {
        Self { encoding, at, reach, may_be_negative: true }
    }

    const fn never_negative(self) -> Self {
        Self { may_be_negative: false, ..self }
    }

    /// The number's value in `block`; NaN if it is not a number.
    ///
    /// # Panics
    /// If `block` is shorter than the type's blocks are.
    pub fn value_in(self, block: &[u8]) -> f64 {
        fn at<const N: usize>(block: &[u8], offset: usize) -> [u8; N] {
            let mut bytes = [0; N];
            bytes.copy_from_slice(&block[offset..offset + N]);
            bytes
        }
        match self.encoding {
            Encoding::F16 => f16_value(u16::from_le_bytes(at(block, self.at))),
            Encoding::Bf16 => f32::from_bits(u32::from(u16::from_le_bytes(at(block, self.at))) << 16).into(),
            Encoding::F32 => f32::from_le_bytes(at(block, self.at)).into(),
            Encoding::F64 => f64::from_le_bytes(at(block, self.at)),
            Encoding::E8m0 if block[self.at] == 255 => f64::NAN,
            Encoding::E8m0 => power_of_two(i32::from(block[self.at]) - 127),
        }
    }
}

/// 2^exponent, for exponents of normal numbers.
pub(crate) const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The value of an IEEE 754 half.
fn f16_value(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * power_of_two(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * power_of_two(exponent - 25),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

const fn f16(at: usize, reach: f64) -> Number {
    Number::new(Encoding::F16, at, reach)
}

/// The numbers of each block of a type; for a type without blocks, the element itself. `None` for types whose scales
/// are not plain numbers, and for unknown types.
pub fn numbers_of(kind: TensorType) -> Option<&'static [Number]> {
    Some(match kind {
        TensorType::F32 => const { &[Number::new(Encoding::F32, 0, 1.0)] },
        TensorType::F16 => const { &[f16(0, 1.0)] },
        TensorType::BF16 => const { &[Number::new(Encoding::Bf16, 0, 1.0)] },
        TensorType::F64 => const { &[Number::new(Encoding::F64, 0, 1.0)] },
        TensorType::I8 | TensorType::I16 | TensorType::I32 | TensorType::I64 => &[],
        TensorType::Mxfp4 => const { &[Number::new(Encoding::E8m0, 0, 6.0)] },
        TensorType::Q4_0 => const { &[f16(0, 8.0)] },
        TensorType::Q5_0 => const { &[f16(0, 16.0)] },
        TensorType::Q8_0 => const { &[f16(0, 127.0).never_negative()] },
        TensorType::Iq4Nl => const { &[f16(0, 127.0)] },
        TensorType::Q4_1 => const { &[f16(0, 15.0).never_negative(), f16(2, 1.0)] },
        TensorType::Q5_1 => const { &[f16(0, 31.0).never_negative(), f16(2, 1.0)] },
        TensorType::Q4K => const { &[f16(0, 63.0 * 15.0).never_negative(), f16(2, 63.0).never_negative()] },
        TensorType::Q5K => const { &[f16(0, 63.0 * 31.0).never_negative(), f16(2, 63.0).never_negative()] },
        TensorType::Q6K => const { &[f16(208, 128.0 * 32.0)] },
        TensorType::Q2K => const { &[f16(80, 15.0 * 3.0).never_negative(), f16(82, 15.0).never_negative()] },
        TensorType::Q3K => const { &[f16(108, 32.0 * 4.0)] },
        TensorType::Iq4Xs => const { &[f16(0, 32.0 * 127.0)] },
        TensorType::Q8K => const { &[Number::new(Encoding::F32, 0, 127.0)] },
        TensorType::Iq3Xxs => const { &[f16(0, 7.75 * 62.0)] },
        TensorType::Iq3S => const { &[f16(0, 31.0 * 15.0)] },
        TensorType::Iq2Xxs | TensorType::Iq2Xs | TensorType::Iq2S | TensorType::Iq1S => const { &[f16(0, 1.0)] },
        TensorType::Tq1_0 => const { &[f16(52, 1.0)] },
        TensorType::Tq2_0 => const { &[f16(64, 1.0)] },
        _ => return None,
    })
}

/// Counts the blocks of `bytes` in which a number is not finite, and gives the index of the first.
pub fn bad_blocks(bytes: &[u8], block_bytes: usize, numbers: &[Number]) -> (u64, Option<u64>) {
    let (mut count, mut first) = (0, None);
    for (index, block) in (0..).zip(bytes.chunks_exact(block_bytes)) {
        if !numbers.iter().all(|number| number.value_in(block).is_finite()) {
            count += 1;
            first.get_or_insert(index);
        }
    }
    (count, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_inside_its_block() {
        let mut checked = 0;
        for &kind in TensorType::ALL {
            let block_bytes = kind.block_bytes().expect("a known type");
            for number in numbers_of(kind).unwrap_or_default() {
                assert!((number.at + number.encoding.size_bytes()) as u64 <= block_bytes, "{kind}: {number:?}");
                checked += 1;
            }
        }
        assert!(checked > 25, "{checked}");
    }

    #[test]
    fn halves_are_what_ieee_754_says() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_953_125),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x0400, 6.103_515_625e-5),
            (0x8000, 0.0),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert_eq!(f16_value(bits), value, "{bits:#x}");
        }
        assert!(f16_value(0x7e00).is_nan());
        assert_eq!((power_of_two(-127), power_of_two(3)), (2f64.powi(-127), 8.0));
    }

    #[test]
    fn what_is_no_number_is_found() {
        let q8_0 = numbers_of(TensorType::Q8_0).expect("known");
        let mut blocks = [0u8; 34 * 3];
        assert_eq!(bad_blocks(&blocks, 34, q8_0), (0, None));
        blocks[34..36].copy_from_slice(&0x7e00u16.to_le_bytes());
        blocks[68..70].copy_from_slice(&0xfc00u16.to_le_bytes());
        assert_eq!(bad_blocks(&blocks, 34, q8_0), (2, Some(1)));
        let mxfp4 = numbers_of(TensorType::Mxfp4).expect("known");
        let mut blocks = [127u8; 34];
        blocks[17] = 255;
        assert_eq!(bad_blocks(&blocks, 17, mxfp4), (1, Some(1)));
        blocks[17] = 254;
        assert_eq!(bad_blocks(&blocks, 17, mxfp4), (0, None));
    }
}
