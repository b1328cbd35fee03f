//! AVX2: no 8-bit dot product, but unsigned times signed with 16-bit sums. |w| · (x with w's sign) never overflows
//! them: 2 · 128 · 127 < 2¹⁵.
#![expect(unsafe_code, reason = "loads inside slices, whose lengths are checked first")]

use std::arch::x86_64::*;

use half::f16;

use gptoss_gguf::weight_type::{E2M1_DOUBLED, e8m0_half};

use super::CodedRow;

/// Only called at level `Isa::Avx2` or above.
pub(super) fn dot_q8_0(row: &[u8], x: CodedRow<'_>) -> f32 {
    assert!(row.len() == x.scales.len() * 34 && x.codes.len() == x.scales.len() * 32);
    // SAFETY: the level says that the processor has the features; lengths as asserted.
    unsafe { dot_q8_0_avx2(row, x) }
}

/// Only called at level `Isa::Avx2` or above.
pub(super) fn dot_mxfp4(row: &[u8], x: CodedRow<'_>) -> f32 {
    assert!(row.len() == x.scales.len() * 17 && x.codes.len() == x.scales.len() * 32);
    // SAFETY: the level says that the processor has the features; lengths as asserted.
    unsafe { dot_mxfp4_avx2(row, x) }
}

/// # Safety
/// Rows of `x.scales.len()` blocks: 34 bytes of weights and 32 codes each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_q8_0_avx2(row: &[u8], x: CodedRow<'_>) -> f32 {
    let mut sums = _mm256_setzero_ps();
    for (block, &scale) in x.scales.iter().enumerate() {
        // SAFETY: block `block` lies inside both rows.
        let (weights, codes, weight_scale) = unsafe {
            let at = row.as_ptr().add(34 * block);
            let weights = _mm256_loadu_si256(at.add(2).cast());
            let codes = _mm256_loadu_si256(x.codes.as_ptr().add(32 * block).cast());
            (weights, codes, f16::from_le_bytes([*at, *at.add(1)]).to_f32())
        };
        sums = _mm256_fmadd_ps(products(weights, codes), _mm256_set1_ps(weight_scale * scale), sums);
    }
    sum_of(sums)
}

/// # Safety
/// Rows of `x.scales.len()` blocks: 17 bytes of weights and 32 codes each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_mxfp4_avx2(row: &[u8], x: CodedRow<'_>) -> f32 {
    // SAFETY: the table has 16 bytes.
    let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(E2M1_DOUBLED.as_ptr().cast()) });
    let mut sums = _mm256_setzero_ps();
    for (block, &scale) in x.scales.iter().enumerate() {
        // SAFETY: block `block` lies inside both rows.
        let (packed, codes, exponent) = unsafe {
            let at = row.as_ptr().add(17 * block);
            let codes = _mm256_loadu_si256(x.codes.as_ptr().add(32 * block).cast());
            (_mm_loadu_si128(at.add(1).cast()), codes, *at)
        };
        let nibbles = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
        let weights = _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
        sums = _mm256_fmadd_ps(products(weights, codes), _mm256_set1_ps(e8m0_half(exponent) * scale), sums);
    }
    sum_of(sums)
}

/// Σ w · x over each four neighbours, as floats.
#[target_feature(enable = "avx2")]
fn products(weights: __m256i, codes: __m256i) -> __m256 {
    let pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(weights, weights), _mm256_sign_epi8(codes, weights));
    _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2")]
fn sum_of(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
