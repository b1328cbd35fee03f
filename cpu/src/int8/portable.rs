//! Plain loops; the compiler makes vector code of them.

use half::f16;

use gptoss_gguf::weight_type::{E2M1_DOUBLED, e8m0_half};

use super::CodedRow;
use crate::activations::BLOCK;

pub(super) fn dot_q8_0(row: &[u8], x: CodedRow<'_>) -> f32 {
    let mut sum = 0.0;
    for (block, (weights, codes)) in row.chunks_exact(34).zip(x.codes.as_chunks::<BLOCK>().0).enumerate() {
        let products: i32 =
            weights[2..].iter().zip(codes).map(|(&w, &x)| i32::from(i16::from(w as i8) * i16::from(x))).sum();
        let scale = f16::from_le_bytes([weights[0], weights[1]]).to_f32();
        sum += products as f32 * (scale * x.scales[block]);
    }
    sum
}

pub(super) fn dot_mxfp4(row: &[u8], x: CodedRow<'_>) -> f32 {
    let mut sum = 0.0;
    for (block, (weights, codes)) in row.chunks_exact(17).zip(x.codes.as_chunks::<BLOCK>().0).enumerate() {
        let (low, high) = codes.split_at(BLOCK / 2);
        let mut products = 0;
        for (&packed, (&low, &high)) in weights[1..].iter().zip(low.iter().zip(high)) {
            products += i32::from(E2M1_DOUBLED[usize::from(packed & 15)]) * i32::from(low)
                + i32::from(E2M1_DOUBLED[usize::from(packed >> 4)]) * i32::from(high);
        }
        sum += products as f32 * (e8m0_half(weights[0]) * x.scales[block]);
    }
    sum
}
