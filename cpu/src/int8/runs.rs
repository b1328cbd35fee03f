//! The other quantised types, one token at a time: 32 weights are unpacked to signed bytes in registers, and meet the
//! activations there. What the compiler makes of these loops is slower than the hand-written kernels and far faster
//! than decoding to floats; in the public files these types are a small part of what a token reads.

use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::{Blocks, WithBlocks};

use super::{CodedRow, unpack};
use crate::activations::BLOCK;
use crate::isa::{Isa, by_isa};
use crate::simd::Simd;

/// Multiplies a row of a quantised type with the activations.
///
/// # Panics
/// If the type is not quantised.
pub(super) fn dot(isa: Isa, format: WeightType, row: &[u8], x: CodedRow<'_>) -> f32 {
    let sum = format.with_blocks(Dot { isa, row, x });
    sum.unwrap_or_else(|| unreachable!("{format:?} is multiplied elsewhere"))
}

struct Dot<'a> {
    isa: Isa,
    row: &'a [u8],
    x: CodedRow<'a>,
}

impl WithBlocks for Dot<'_> {
    type Output = f32;

    fn with<B: Blocks>(self) -> f32 {
        dot_blocks::<B>(self.isa, self.row, self.x)
    }
}

by_isa!(dot_blocks[B: Blocks](row: &[u8], x: CodedRow<'_>) -> f32, dot_blocks_body);

#[inline(always)]
fn dot_blocks_body<L: Simd, B: Blocks>(row: &[u8], x: CodedRow<'_>) -> f32 {
    let mut sum = 0.0;
    let codes = x.codes.as_chunks::<BLOCK>().0;
    for (block, bytes) in B::blocks(row).iter().enumerate() {
        for s in 0..B::RUNS {
            let at = block * B::RUNS + s;
            let run = unpack::<B>(bytes, s);
            let products = |from: usize| -> f32 {
                let mut sum = 0;
                for j in from..from + BLOCK / 2 {
                    sum += i32::from(run.codes[j]) * i32::from(codes[at][j]);
                }
                sum as f32
            };
            let scaled = products(0) * run.scales[0] + products(BLOCK / 2) * run.scales[1];
            sum += x.scales[at] * (scaled + run.minimum * x.sums[at] as f32);
        }
    }
    sum
}
