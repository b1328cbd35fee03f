//! Where in a block of each type the numbers lie that every weight of the block is multiplied with, and whether they are
//! numbers at all.
//!
//! Source of the offsets: the block structures in ggml's `ggml-common.h`; of E8M0: the OCP Microscaling specification.

use gptoss_gguf::TensorType;
use half::{bf16, f16};

/// A number in a block that must be finite; where it begins, in bytes from the begin of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    F16(usize),
    Bf16(usize),
    F32(usize),
    F64(usize),
    /// A power of two by its exponent; 255 stands for no number.
    E8m0(usize),
}

impl Number {
    /// Whether the number in `block` is finite.
    fn is_finite_in(self, block: &[u8]) -> bool {
        fn at<const N: usize>(block: &[u8], offset: usize) -> [u8; N] {
            let mut bytes = [0; N];
            bytes.copy_from_slice(&block[offset..offset + N]);
            bytes
        }
        match self {
            Self::F16(offset) => f16::from_le_bytes(at(block, offset)).is_finite(),
            Self::Bf16(offset) => bf16::from_le_bytes(at(block, offset)).is_finite(),
            Self::F32(offset) => f32::from_le_bytes(at(block, offset)).is_finite(),
            Self::F64(offset) => f64::from_le_bytes(at(block, offset)).is_finite(),
            Self::E8m0(offset) => block[offset] != 255,
        }
    }
}

/// The numbers to check in each block of a type; of a type without blocks: the element itself. `None` for types whose
/// scales are not plain numbers, or not known here.
pub fn numbers_of(kind: TensorType) -> Option<&'static [Number]> {
    use Number::{Bf16, E8m0, F16, F32, F64};
    Some(match kind {
        TensorType::F32 => &[F32(0)],
        TensorType::F16 => &[F16(0)],
        TensorType::BF16 => &[Bf16(0)],
        TensorType::F64 => &[F64(0)],
        TensorType::I8 | TensorType::I16 | TensorType::I32 | TensorType::I64 => &[],
        TensorType::Mxfp4 => &[E8m0(0)],
        TensorType::Q4_0
        | TensorType::Q5_0
        | TensorType::Q8_0
        | TensorType::Iq4Nl
        | TensorType::Iq4Xs
        | TensorType::Iq2Xxs
        | TensorType::Iq2Xs
        | TensorType::Iq2S
        | TensorType::Iq3Xxs
        | TensorType::Iq3S
        | TensorType::Iq1S => &[F16(0)],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[F16(0), F16(2)],
        TensorType::Q2K => &[F16(80), F16(82)],
        TensorType::Q3K => &[F16(108)],
        TensorType::Q6K => &[F16(208)],
        TensorType::Q8K => &[F32(0)],
        TensorType::Tq1_0 => &[F16(52)],
        TensorType::Tq2_0 => &[F16(64)],
        _ => return None,
    })
}

/// Blocks of `bytes` in which a number is not finite: how many, and the first.
pub fn bad_blocks(bytes: &[u8], block_bytes: usize, numbers: &[Number]) -> (u64, Option<u64>) {
    let (mut count, mut first) = (0, None);
    for (index, block) in (0..).zip(bytes.chunks_exact(block_bytes)) {
        if !numbers.iter().all(|number| number.is_finite_in(block)) {
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
                let (offset, size) = match *number {
                    Number::F16(offset) | Number::Bf16(offset) => (offset, 2),
                    Number::F32(offset) => (offset, 4),
                    Number::F64(offset) => (offset, 8),
                    Number::E8m0(offset) => (offset, 1),
                };
                assert!((offset + size) as u64 <= block_bytes, "{kind}: {number:?}");
                checked += 1;
            }
        }
        assert!(checked > 25, "{checked}");
    }

    #[test]
    fn what_is_no_number_is_found() {
        let mut q8_0 = [0u8; 34 * 3];
        assert_eq!(bad_blocks(&q8_0, 34, &[Number::F16(0)]), (0, None));
        q8_0[34..36].copy_from_slice(&f16::NAN.to_le_bytes());
        q8_0[68..70].copy_from_slice(&f16::NEG_INFINITY.to_le_bytes());
        assert_eq!(bad_blocks(&q8_0, 34, &[Number::F16(0)]), (2, Some(1)));
        let mut mxfp4 = [127u8; 34];
        mxfp4[17] = 255;
        assert_eq!(bad_blocks(&mxfp4, 17, &[Number::E8m0(0)]), (1, Some(1)));
        mxfp4[17] = 254;
        assert_eq!(bad_blocks(&mxfp4, 17, &[Number::E8m0(0)]), (0, None));
    }
}
