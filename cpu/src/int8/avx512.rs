//! AVX-512 VNNI: `dpbusd` multiplies four unsigned by four signed bytes and adds them to a 32-bit sum. Weights become
//! unsigned by adding an offset (128 for Q8_0, 12 for MXFP4); offset · Σ x is taken off again, exactly.
#![expect(unsafe_code, reason = "loads inside slices, whose lengths are checked first")]

use std::arch::x86_64::*;

use gptoss_gguf::weight_type::{E2M1_DOUBLED, e8m0_half};

use super::{CodedRow, E8M0_NAN};

/// Added to E2M1 codes to make them unsigned.
pub(super) const MXFP4_OFFSET: i8 = 12;

/// Computes `out[r] = row r · x`. Only called at level `Isa::Avx512Vnni`.
pub(super) fn dot_rows_q8_0(weights: &[u8], x: CodedRow<'_>, out: &mut [f32]) {
    let row_bytes = x.scales.len() * 34;
    assert!(weights.len() == row_bytes * out.len() && x.codes.len() == x.scales.len() * 32);
    let (fours, rest) = out.as_chunks_mut::<4>();
    for (row, out) in fours.iter_mut().enumerate() {
        // SAFETY: the level says that the processor has the features; four whole rows and codes, as asserted.
        *out = unsafe { four_rows_q8_0(&weights[4 * row * row_bytes..], row_bytes, x) };
    }
    for (row, out) in weights[fours.len() * 4 * row_bytes..].chunks_exact(row_bytes).zip(rest) {
        // SAFETY: as above, one row.
        *out = unsafe { one_row_q8_0(row, x) };
    }
}

/// Computes `out[r] = row r · x`. Only called at level `Isa::Avx512Vnni`.
pub(super) fn dot_rows_mxfp4(weights: &[u8], x: CodedRow<'_>, out: &mut [f32]) {
    let row_bytes = x.scales.len() * 17;
    assert!(weights.len() == row_bytes * out.len() && x.codes.len() == x.scales.len() * 32);
    let (fours, rest) = out.as_chunks_mut::<4>();
    for (row, out) in fours.iter_mut().enumerate() {
        // SAFETY: the level says that the processor has the features; four whole rows and codes, as asserted.
        *out = unsafe { four_rows_mxfp4(&weights[4 * row * row_bytes..], row_bytes, x) };
    }
    for (row, out) in weights[fours.len() * 4 * row_bytes..].chunks_exact(row_bytes).zip(rest) {
        // SAFETY: as above, one row.
        *out = unsafe { one_row_mxfp4(row, x) };
    }
}

/// The doubled E2M1 values plus [`MXFP4_OFFSET`].
const MXFP4_TABLE: [i8; 16] = {
    let mut table = E2M1_DOUBLED;
    let mut code = 0;
    while code < table.len() {
        table[code] += MXFP4_OFFSET;
        code += 1;
    }
    table
};

/// [`MXFP4_TABLE`] in every 128-bit lane.
#[target_feature(enable = "avx512f")]
pub(super) fn mxfp4_table() -> __m512i {
    // SAFETY: the table has 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(MXFP4_TABLE.as_ptr().cast()) })
}

/// Multiplies four rows at once: work that depends on the activations alone is done once, and the sums across lanes
/// share their steps.
///
/// # Safety
/// `weights` begins with four rows of `row_bytes`; these and the codes have `x.scales.len()` blocks of 34 bytes and of
/// 32 codes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn four_rows_q8_0(weights: &[u8], row_bytes: usize, x: CodedRow<'_>) -> [f32; 4] {
    let blocks = x.scales.len();
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_ps(); 4];
    for pair in 0..blocks / 2 {
        // SAFETY: blocks 2 · pair and 2 · pair + 1 lie inside all rows.
        unsafe {
            let at: [*const u8; 4] = starts(weights, row_bytes, 68 * pair);
            prefetch_next_four(at, row_bytes);
            let codes = _mm512_loadu_si512(x.codes.as_ptr().add(64 * pair).cast());
            let start = minus_offset(i8::MIN, codes);
            let scales = _mm256_mul_ps(_mm256_cvtph_ps(eight_halves(at, 34)), pair_of_scales(x, pair));
            for row in 0..4 {
                let weights = _mm512_inserti64x4::<1>(
                    _mm512_castsi256_si512(_mm256_loadu_si256(at[row].add(2).cast())),
                    _mm256_loadu_si256(at[row].add(36).cast()),
                );
                let products = _mm512_dpbusd_epi32(start, _mm512_xor_si512(weights, flip), codes);
                sums[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), spread(scales, row), sums[row]);
            }
        }
    }
    let mut results = reduce(sums);
    if blocks % 2 == 1 {
        for (row, result) in results.iter_mut().enumerate() {
            // SAFETY: the last block of each row.
            *result += unsafe { last_block_q8_0(&weights[row * row_bytes..][..row_bytes], x) };
        }
    }
    results
}

/// Like [`four_rows_q8_0`], for MXFP4.
///
/// # Safety
/// As there, with blocks of 17 bytes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn four_rows_mxfp4(weights: &[u8], row_bytes: usize, x: CodedRow<'_>) -> [f32; 4] {
    let blocks = x.scales.len();
    let table = mxfp4_table();
    let mut sums = [_mm512_setzero_ps(); 4];
    for pair in 0..blocks / 2 {
        // SAFETY: blocks 2 · pair and 2 · pair + 1 lie inside all rows.
        unsafe {
            let at: [*const u8; 4] = starts(weights, row_bytes, 34 * pair);
            prefetch_next_four(at, row_bytes);
            let codes = _mm512_loadu_si512(x.codes.as_ptr().add(64 * pair).cast());
            let start = minus_offset(MXFP4_OFFSET, codes);
            let scales = _mm256_mul_ps(eight_exponents(at), pair_of_scales(x, pair));
            for row in 0..4 {
                let packed = _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadu_si128(at[row].add(1).cast())),
                    _mm_loadu_si128(at[row].add(18).cast()),
                );
                let products = _mm512_dpbusd_epi32(start, unpack_e2m1(packed, table), codes);
                sums[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), spread(scales, row), sums[row]);
            }
        }
    }
    let mut results = reduce(sums);
    if blocks % 2 == 1 {
        for (row, result) in results.iter_mut().enumerate() {
            // SAFETY: the last block of each row.
            *result += unsafe { last_block_mxfp4(&weights[row * row_bytes..][..row_bytes], x) };
        }
    }
    results
}

/// # Safety
/// A row of `x.scales.len()` blocks of 34 bytes, and as many of 32 codes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn one_row_q8_0(row: &[u8], x: CodedRow<'_>) -> f32 {
    let blocks = x.scales.len();
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sum = _mm512_setzero_ps();
    for pair in 0..blocks / 2 {
        // SAFETY: blocks 2 · pair and 2 · pair + 1 lie inside both rows.
        let (weights, codes, low, high) = unsafe {
            let at = row.as_ptr().add(68 * pair);
            let weights = _mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(_mm256_loadu_si256(at.add(2).cast())),
                _mm256_loadu_si256(at.add(36).cast()),
            );
            let codes = _mm512_loadu_si512(x.codes.as_ptr().add(64 * pair).cast());
            (weights, codes, f16_at(at), f16_at(at.add(34)))
        };
        let products = _mm512_dpbusd_epi32(minus_offset(i8::MIN, codes), _mm512_xor_si512(weights, flip), codes);
        let scale = two(low * x.scales[2 * pair], high * x.scales[2 * pair + 1]);
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum);
    }
    // SAFETY: the last block of the row.
    let last = if blocks % 2 == 1 { unsafe { last_block_q8_0(row, x) } } else { 0.0 };
    _mm512_reduce_add_ps(sum) + last
}

/// # Safety
/// A row of `x.scales.len()` blocks of 17 bytes, and as many of 32 codes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn one_row_mxfp4(row: &[u8], x: CodedRow<'_>) -> f32 {
    let blocks = x.scales.len();
    let table = mxfp4_table();
    let mut sum = _mm512_setzero_ps();
    for pair in 0..blocks / 2 {
        // SAFETY: blocks 2 · pair and 2 · pair + 1 lie inside both rows.
        let (packed, codes, low, high) = unsafe {
            let at = row.as_ptr().add(34 * pair);
            let packed = _mm256_set_m128i(_mm_loadu_si128(at.add(18).cast()), _mm_loadu_si128(at.add(1).cast()));
            let codes = _mm512_loadu_si512(x.codes.as_ptr().add(64 * pair).cast());
            (packed, codes, *at, *at.add(17))
        };
        let products = _mm512_dpbusd_epi32(minus_offset(MXFP4_OFFSET, codes), unpack_e2m1(packed, table), codes);
        let scale = two(e8m0_half(low) * x.scales[2 * pair], e8m0_half(high) * x.scales[2 * pair + 1]);
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum);
    }
    // SAFETY: the last block of the row.
    let last = if blocks % 2 == 1 { unsafe { last_block_mxfp4(row, x) } } else { 0.0 };
    _mm512_reduce_add_ps(sum) + last
}

/// Product of the last block alone.
///
/// # Safety
/// As for [`one_row_q8_0`], with at least one block.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn last_block_q8_0(row: &[u8], x: CodedRow<'_>) -> f32 {
    let last = x.scales.len() - 1;
    // SAFETY: the block lies inside the row.
    let (weights, codes, scale) = unsafe {
        let at = row.as_ptr().add(34 * last);
        let codes = _mm256_loadu_si256(x.codes.as_ptr().add(32 * last).cast());
        (_mm256_loadu_si256(at.add(2).cast()), codes, f16_at(at))
    };
    let unsigned = _mm256_xor_si256(weights, _mm256_set1_epi8(i8::MIN));
    let sum = sum_of_products(unsigned, codes) - 128 * x.sums[last];
    sum as f32 * (scale * x.scales[last])
}

/// Product of the last block alone.
///
/// # Safety
/// As for [`one_row_mxfp4`], with at least one block.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn last_block_mxfp4(row: &[u8], x: CodedRow<'_>) -> f32 {
    let last = x.scales.len() - 1;
    // SAFETY: the block lies inside the row.
    let (packed, codes, exponent) = unsafe {
        let at = row.as_ptr().add(17 * last);
        let codes = _mm256_loadu_si256(x.codes.as_ptr().add(32 * last).cast());
        (_mm_loadu_si128(at.add(1).cast()), codes, *at)
    };
    let unpacked = unpack_e2m1(_mm256_zextsi128_si256(packed), mxfp4_table());
    let sum = sum_of_products(_mm512_castsi512_si256(unpacked), codes) - i32::from(MXFP4_OFFSET) * x.sums[last];
    sum as f32 * (e8m0_half(exponent) * x.scales[last])
}

/// Σ unsigned · signed over 32 bytes.
#[target_feature(enable = "avx2,avx512f,avx512vl,avx512vnni")]
fn sum_of_products(unsigned: __m256i, signed: __m256i) -> i32 {
    let eight = _mm256_dpbusd_epi32(_mm256_setzero_si256(), unsigned, signed);
    let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

/// −offset · Σ x over each four neighbours: where a sum has to start to come out as if the weights were signed.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn minus_offset(offset: i8, codes: __m512i) -> __m512i {
    let too_much = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(offset), codes);
    _mm512_sub_epi32(_mm512_setzero_si512(), too_much)
}

/// 32 bytes of packed codes of two blocks → 64 values plus offset. Low nibbles are weights 0 to 15 of a block, high
/// ones 16 to 31: each block's 16 bytes twice, the second time shifted.
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack_e2m1(packed: __m256i, table: __m512i) -> __m512i {
    let twice = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), _mm512_castsi256_si512(packed));
    let shifted = _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
    _mm512_shuffle_epi8(table, _mm512_and_si512(shifted, _mm512_set1_epi8(15)))
}

/// Where block pair `offset` begins in each of four rows.
///
/// # Safety
/// `weights` has that many bytes.
unsafe fn starts(weights: &[u8], row_bytes: usize, offset: usize) -> [*const u8; 4] {
    let at = weights.as_ptr();
    // SAFETY: by the caller's promise.
    unsafe {
        [at.add(offset), at.add(row_bytes + offset), at.add(2 * row_bytes + offset), at.add(3 * row_bytes + offset)]
    }
}

/// Prefetches the next four rows at the same place: the processor's own prefetching stops at every page.
#[target_feature(enable = "avx2")]
fn prefetch_next_four(at: [*const u8; 4], row_bytes: usize) {
    for row in at {
        // The hint never faults, whatever the address.
        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(4 * row_bytes).cast());
    }
}

/// The halves at each of four places and `step` bytes after it: [row 0, row 0 + step, row 1, …].
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2")]
unsafe fn eight_halves(at: [*const u8; 4], step: usize) -> __m128i {
    // SAFETY: by the caller's promise.
    let half = |row: usize, offset: usize| unsafe { i32::from(at[row].add(offset).cast::<u16>().read_unaligned()) };
    let mut halves = _mm_cvtsi32_si128(half(0, 0));
    halves = _mm_insert_epi16::<1>(halves, half(0, step));
    halves = _mm_insert_epi16::<2>(halves, half(1, 0));
    halves = _mm_insert_epi16::<3>(halves, half(1, step));
    halves = _mm_insert_epi16::<4>(halves, half(2, 0));
    halves = _mm_insert_epi16::<5>(halves, half(2, step));
    halves = _mm_insert_epi16::<6>(halves, half(3, 0));
    _mm_insert_epi16::<7>(halves, half(3, step))
}

/// The scales of two MXFP4 blocks in each of four rows, like [`eight_halves`].
///
/// # Safety
/// 34 bytes can be read in each row.
#[target_feature(enable = "avx2,avx512f,avx512vl")]
unsafe fn eight_exponents(at: [*const u8; 4]) -> __m256 {
    // SAFETY: by the caller's promise.
    let byte = |row: usize, offset: usize| unsafe { i32::from(*at[row].add(offset)) };
    let mut bytes = _mm_cvtsi32_si128(byte(0, 0));
    bytes = _mm_insert_epi8::<1>(bytes, byte(0, 17));
    bytes = _mm_insert_epi8::<2>(bytes, byte(1, 0));
    bytes = _mm_insert_epi8::<3>(bytes, byte(1, 17));
    bytes = _mm_insert_epi8::<4>(bytes, byte(2, 0));
    bytes = _mm_insert_epi8::<5>(bytes, byte(2, 17));
    bytes = _mm_insert_epi8::<6>(bytes, byte(3, 0));
    let exponents = _mm256_cvtepu8_epi32(_mm_insert_epi8::<7>(bytes, byte(3, 17)));
    let one = _mm256_set1_epi32(1);
    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, one));
    let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), exponents);
    let number = _mm256_mask_blend_epi32(_mm256_cmple_epu32_mask(exponents, one), normal, subnormal);
    let is_nan = _mm256_cmpeq_epi32_mask(exponents, _mm256_set1_epi32(255));
    _mm256_castsi256_ps(_mm256_mask_blend_epi32(is_nan, number, _mm256_set1_epi32(E8M0_NAN as i32)))
}

/// The activation scales of a pair of blocks, four times.
#[target_feature(enable = "avx2")]
fn pair_of_scales(x: CodedRow<'_>, pair: usize) -> __m256 {
    let [low, high] = [x.scales[2 * pair], x.scales[2 * pair + 1]];
    _mm256_setr_ps(low, high, low, high, low, high, low, high)
}

/// The two scales of a row, each over eight lanes.
#[target_feature(enable = "avx512f")]
fn spread(scales: __m256, row: usize) -> __m512 {
    let (low, high) = (2 * row as i32, 2 * row as i32 + 1);
    let lanes =
        _mm512_setr_epi32(low, low, low, low, low, low, low, low, high, high, high, high, high, high, high, high);
    _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(scales))
}

/// The sums across the lanes of four vectors.
#[target_feature(enable = "avx2,avx512f,avx512dq")]
fn reduce(sums: [__m512; 4]) -> [f32; 4] {
    let [a, b, c, d] = sums.map(|sum| _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum)));
    let eight = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let mut results = [0.0; 4];
    // SAFETY: four floats.
    unsafe { _mm_storeu_ps(results.as_mut_ptr(), four) };
    results
}

/// A vector with one value in the lower eight lanes and another in the upper.
#[target_feature(enable = "avx512f")]
fn two(low: f32, high: f32) -> __m512 {
    _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(low), _mm512_set1_ps(high))
}

/// # Safety
/// Two bytes can be read at `at`.
#[target_feature(enable = "f16c")]
unsafe fn f16_at(at: *const u8) -> f32 {
    // SAFETY: by the caller's promise.
    let bits = unsafe { at.cast::<u16>().read_unaligned() };
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}
