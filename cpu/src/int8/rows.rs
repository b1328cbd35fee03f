//! Rows as they are in the file times one token's activations: what decode does, bound by the memory's speed.
#![expect(unsafe_code, reason = "loads inside slices, whose lengths are checked first")]

use super::CodedRow;
use crate::isa::by_isa;
use crate::simd::Simd;

/// A format whose blocks of 32 are multiplied in registers.
pub(crate) trait RowFormat {
    /// Bytes of a block.
    const BYTES: usize;

    /// Activations as the products take them.
    ///
    /// # Safety
    /// As [`Simd::activations`].
    unsafe fn activations<S: Simd>(at: *const i8) -> S::Activations;

    /// Products of the blocks at `at`.
    ///
    /// # Safety
    /// The blocks of a step can be read.
    unsafe fn products<S: Simd>(at: *const u8, x: S::Activations) -> S::Floats;

    /// Scales of the blocks at four places, times those of the activations.
    ///
    /// # Safety
    /// The blocks and scales of a step can be read.
    unsafe fn scales<S: Simd>(at: [*const u8; 4], x: *const f32) -> S::Scales;
}

pub(crate) struct Q8_0;

impl RowFormat for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    unsafe fn activations<S: Simd>(at: *const i8) -> S::Activations {
        // SAFETY: by the caller's promise.
        unsafe { S::activations(at) }
    }

    #[inline(always)]
    unsafe fn products<S: Simd>(at: *const u8, x: S::Activations) -> S::Floats {
        // SAFETY: by the caller's promise.
        unsafe { S::products(S::q8_0(at), x) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(at: [*const u8; 4], x: *const f32) -> S::Scales {
        // SAFETY: by the caller's promise.
        unsafe { S::q8_0_scales(at, x) }
    }
}

pub(crate) struct Mxfp4;

impl RowFormat for Mxfp4 {
    const BYTES: usize = 17;

    #[inline(always)]
    unsafe fn activations<S: Simd>(at: *const i8) -> S::Activations {
        // SAFETY: by the caller's promise.
        unsafe { S::e2m1_activations(at) }
    }

    #[inline(always)]
    unsafe fn products<S: Simd>(at: *const u8, x: S::Activations) -> S::Floats {
        // SAFETY: by the caller's promise.
        unsafe { S::e2m1_products(S::mxfp4(at), x) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(at: [*const u8; 4], x: *const f32) -> S::Scales {
        // SAFETY: by the caller's promise.
        unsafe { S::mxfp4_scales(at, x) }
    }
}

by_isa!(
    /// Computes `out[r] = row r · x`.
    dot_rows[F: RowFormat](weights: &[u8], x: CodedRow<'_>, out: &mut [f32]), dot_rows_body);

#[inline(always)]
pub(super) fn dot_rows_body<S: Simd, F: RowFormat>(weights: &[u8], x: CodedRow<'_>, out: &mut [f32]) {
    let row_bytes = x.scales.len() * F::BYTES;
    assert!(weights.len() == row_bytes * out.len() && x.codes.len() == x.scales.len() * 32);
    let (fours, rest) = out.as_chunks_mut::<4>();
    let first_of_rest = fours.len() * 4 * row_bytes;
    for (index, out) in fours.iter_mut().enumerate() {
        // SAFETY: four whole rows and codes, as asserted; `by_isa` calls this where the set's instructions are.
        *out = unsafe { some_rows::<S, F, 4>(weights[4 * index * row_bytes..].as_ptr(), row_bytes, x) };
    }
    for (row, out) in weights[first_of_rest..].chunks_exact(row_bytes).zip(rest) {
        // SAFETY: as above, one row.
        *out = unsafe { some_rows::<S, F, 1>(row.as_ptr(), row_bytes, x) }[0];
    }
}

/// Multiplies R rows; the first R results count.
///
/// # Safety
/// R rows of `row_bytes` can be read; they and the codes have `x.scales.len()` blocks.
#[inline(always)]
unsafe fn some_rows<S: Simd, F: RowFormat, const R: usize>(
    weights: *const u8,
    row_bytes: usize,
    x: CodedRow<'_>,
) -> [f32; 4] {
    let blocks = x.scales.len();
    let (codes, scales) = (x.codes.as_ptr(), x.scales.as_ptr());
    // SAFETY: whole steps inside the rows; then, if a block is left, that one.
    unsafe {
        let mut results = steps::<S, F, R>(weights, row_bytes, codes, scales, blocks / S::STEP);
        if !blocks.is_multiple_of(S::STEP) {
            let last = blocks - 1;
            let (weights, codes, scales) = (weights.add(last * F::BYTES), codes.add(32 * last), scales.add(last));
            let of_last = steps::<S::Tail, F, R>(weights, row_bytes, codes, scales, 1);
            for row in 0..R {
                results[row] += of_last[row];
            }
        }
        results
    }
}

/// Products of the first `count` steps of R rows.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn steps<S: Simd, F: RowFormat, const R: usize>(
    weights: *const u8,
    row_bytes: usize,
    codes: *const i8,
    scales: *const f32,
    count: usize,
) -> [f32; 4] {
    // SAFETY: step `step` lies inside the rows.
    unsafe {
        let mut sums = [S::zero(); 4];
        for step in 0..count {
            // Rows that are not there are the first one, once more.
            let mut at = [weights.add(step * S::STEP * F::BYTES); 4];
            for row in 1..R {
                at[row] = at[0].add(row * row_bytes);
            }
            S::prefetch_share(weights.wrapping_add(R * row_bytes), step, R * S::STEP * F::BYTES);
            let x = F::activations::<S>(codes.add(step * S::STEP * 32));
            let scales = F::scales::<S>(at, scales.add(step * S::STEP));
            for row in 0..R {
                sums[row] = S::add_scaled(F::products::<S>(at[row], x), scales, row, sums[row]);
            }
        }
        S::reduce(sums)
    }
}
