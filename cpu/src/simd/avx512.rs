//! Vectors of 512 bits: AVX-512 with and without 8-bit dot products (VNNI).
//!
//! `dpbusd` multiplies four unsigned by four signed bytes and adds them to a 32-bit sum. Rows as they are in the file get
//! unsigned by adding an offset (128 for Q8_0, 12 for MXFP4), and offset · Σ x is taken off again, exactly; in panels it
//! is the activations that are unsigned. Without VNNI it is as with AVX2, see there.

use std::arch::x86_64::*;

use super::avx2::{Avx2, NO_DOT};
use super::{E2M1_OFFSET, E2M1_UNSIGNED, Simd};

/// AVX-512 F, BW, DQ and VL, with FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const VNNI: bool>;

/// What 256 bits suffice for.
type Half = Avx2<true, NO_DOT>;

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn widen(halves: &[u16; 16]) -> [f32; 16] {
        Half::widen(halves)
    }

    #[inline(always)]
    fn widen_one(half: u16) -> f32 {
        Half::widen_one(half)
    }

    const STEP: usize = 2;
    type Tail = Half;
    type Codes = __m512i;
    /// The activations, and where a sum with weights that have an offset starts: in pairs of 16 bits for MXFP4 without
    /// VNNI.
    type Activations = (__m512i, __m512i);
    type Floats = __m512;
    /// The scales of both blocks of row 0, then of row 1, …
    type Scales = __m256;

    #[inline(always)]
    unsafe fn activations(at: *const i8) -> Self::Activations {
        // SAFETY: 64 codes, by the caller's promise.
        unsafe {
            let codes = _mm512_loadu_si512(at.cast());
            let start = if VNNI { minus_offset(i8::MIN, codes) } else { _mm512_setzero_si512() };
            (codes, start)
        }
    }

    #[inline(always)]
    unsafe fn e2m1_activations(at: *const i8) -> Self::Activations {
        // SAFETY: 64 codes, by the caller's promise.
        unsafe {
            let codes = _mm512_loadu_si512(at.cast());
            let start = if VNNI {
                minus_offset(E2M1_OFFSET, codes)
            } else {
                _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_maddubs_epi16(_mm512_set1_epi8(E2M1_OFFSET), codes))
            };
            (codes, start)
        }
    }

    #[inline(always)]
    unsafe fn q8_0(at: *const u8) -> __m512i {
        // SAFETY: two blocks of 34 bytes, by the caller's promise.
        unsafe {
            _mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(_mm256_loadu_si256(at.add(2).cast())),
                _mm256_loadu_si256(at.add(36).cast()),
            )
        }
    }

    #[inline(always)]
    unsafe fn mxfp4(at: *const u8) -> __m512i {
        // SAFETY: two blocks of 17 bytes, by the caller's promise; the table has 16 bytes.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(E2M1_UNSIGNED.as_ptr().cast()));
            let packed = _mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(_mm_loadu_si128(at.add(1).cast())),
                _mm_loadu_si128(at.add(18).cast()),
            );
            // Low nibbles are weights 0 to 15 of a block, high ones 16 to 31: each block's 16 bytes twice, the second
            // time shifted.
            let twice =
                _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), _mm512_castsi256_si512(packed));
            let shifted = _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
            _mm512_shuffle_epi8(table, _mm512_and_si512(shifted, _mm512_set1_epi8(15)))
        }
    }

    #[inline(always)]
    unsafe fn products(weights: __m512i, (x, start): Self::Activations) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe {
            _mm512_cvtepi32_ps(if VNNI {
                _mm512_dpbusd_epi32(start, _mm512_xor_si512(weights, _mm512_set1_epi8(i8::MIN)), x)
            } else {
                let signed = negated_where(_mm512_movepi8_mask(weights), x);
                _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(weights), signed), _mm512_set1_epi16(1))
            })
        }
    }

    #[inline(always)]
    unsafe fn e2m1_products(weights: __m512i, (x, start): Self::Activations) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe {
            _mm512_cvtepi32_ps(if VNNI {
                _mm512_dpbusd_epi32(start, weights, x)
            } else {
                let pairs = _mm512_add_epi16(_mm512_maddubs_epi16(weights, x), start);
                _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))
            })
        }
    }

    #[inline(always)]
    unsafe fn q8_0_scales(at: [*const u8; 4], x: *const f32) -> __m256 {
        // SAFETY: two blocks of 34 bytes each and two scales, by the caller's promise.
        unsafe {
            let mut halves = _mm_cvtsi32_si128(half(at[0]));
            halves = _mm_insert_epi16::<1>(halves, half(at[0].add(34)));
            halves = _mm_insert_epi16::<2>(halves, half(at[1]));
            halves = _mm_insert_epi16::<3>(halves, half(at[1].add(34)));
            halves = _mm_insert_epi16::<4>(halves, half(at[2]));
            halves = _mm_insert_epi16::<5>(halves, half(at[2].add(34)));
            halves = _mm_insert_epi16::<6>(halves, half(at[3]));
            halves = _mm_insert_epi16::<7>(halves, half(at[3].add(34)));
            _mm256_mul_ps(_mm256_cvtph_ps(halves), pair_of_scales(x))
        }
    }

    #[inline(always)]
    unsafe fn mxfp4_scales(at: [*const u8; 4], x: *const f32) -> __m256 {
        // SAFETY: two blocks of 17 bytes each and two scales, by the caller's promise.
        unsafe {
            let mut bytes = _mm_cvtsi32_si128(i32::from(*at[0]));
            bytes = _mm_insert_epi8::<1>(bytes, i32::from(*at[0].add(17)));
            bytes = _mm_insert_epi8::<2>(bytes, i32::from(*at[1]));
            bytes = _mm_insert_epi8::<3>(bytes, i32::from(*at[1].add(17)));
            bytes = _mm_insert_epi8::<4>(bytes, i32::from(*at[2]));
            bytes = _mm_insert_epi8::<5>(bytes, i32::from(*at[2].add(17)));
            bytes = _mm_insert_epi8::<6>(bytes, i32::from(*at[3]));
            bytes = _mm_insert_epi8::<7>(bytes, i32::from(*at[3].add(17)));
            _mm256_mul_ps(e8m0_halves(_mm256_cvtepu8_epi32(bytes)), pair_of_scales(x))
        }
    }

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add_scaled(products: __m512, scales: __m256, row: usize, sums: __m512) -> __m512 {
        let (low, high) = (2 * row as i32, 2 * row as i32 + 1);
        // SAFETY: the processor has the instructions.
        unsafe {
            let lanes = _mm512_setr_epi32(
                low, low, low, low, low, low, low, low, high, high, high, high, high, high, high, high,
            );
            _mm512_fmadd_ps(products, _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(scales)), sums)
        }
    }

    #[inline(always)]
    unsafe fn reduce([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: the processor has the instructions.
        unsafe { Half::reduce([halved(a), halved(b), halved(c), halved(d)]) }
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        Half::prefetch(at);
    }

    const LANES: usize = 16;
    const UNSIGNED: [bool; 2] = [VNNI, true];
    type Run = __m256i;
    /// The weights; without VNNI their magnitudes where they may be large, and which are negative.
    type Line = (__m512i, __mmask64);
    /// Of 32 bits, or pairs of 16 bits for narrow weights without VNNI.
    type Sums = __m512i;
    type Lanes = __m512;

    #[inline(always)]
    unsafe fn run(at: *const i8) -> __m256i {
        // SAFETY: by the caller's promise.
        unsafe { Half::run(at) }
    }

    #[inline(always)]
    unsafe fn e2m1_run(at: *const u8) -> __m256i {
        // SAFETY: by the caller's promise.
        unsafe { Half::e2m1_run(at) }
    }

    #[inline(always)]
    unsafe fn interleave(rows: [__m256i; 4], at: *mut i8, line_bytes: usize) {
        // SAFETY: by the caller's promise.
        unsafe { Half::interleave(rows, at, line_bytes) }
    }

    #[inline(always)]
    unsafe fn line(at: *const i8, narrow: bool) -> Self::Line {
        // SAFETY: a line of 64 bytes, by the caller's promise.
        unsafe {
            let weights = _mm512_load_si512(at.cast());
            if VNNI || narrow { (weights, 0) } else { (_mm512_abs_epi8(weights), _mm512_movepi8_mask(weights)) }
        }
    }

    #[inline(always)]
    unsafe fn no_sums() -> __m512i {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn sums(at: *const i32) -> __m512i {
        // SAFETY: sixteen words, by the caller's promise.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn put_negated(sums: __m512i, at: *mut i32) {
        // SAFETY: sixteen words, by the caller's promise.
        unsafe {
            let zero = _mm512_setzero_si512();
            let negated = if VNNI { _mm512_sub_epi32(zero, sums) } else { _mm512_sub_epi16(zero, sums) };
            _mm512_storeu_si512(at.cast(), negated);
        }
    }

    #[inline(always)]
    unsafe fn step(sums: __m512i, (weights, negative): Self::Line, x: *const u8, narrow: bool) -> __m512i {
        // SAFETY: four activations, by the caller's promise.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            if VNNI {
                _mm512_dpbusd_epi32(sums, x, weights)
            } else if narrow {
                _mm512_add_epi16(sums, _mm512_maddubs_epi16(x, weights))
            } else {
                let pairs = _mm512_maddubs_epi16(weights, negated_where(negative, x));
                _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m512i, narrow: bool) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe {
            _mm512_cvtepi32_ps(if narrow && !VNNI { _mm512_madd_epi16(sums, _mm512_set1_epi16(1)) } else { sums })
        }
    }

    #[inline(always)]
    unsafe fn lanes(at: *const f32) -> __m512 {
        // SAFETY: sixteen floats, by the caller's promise.
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn times(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn times_plus(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn put(lanes: __m512, at: *mut f32) {
        // SAFETY: sixteen floats, by the caller's promise.
        unsafe { _mm512_storeu_ps(at, lanes) }
    }
}

/// −offset · Σ x over each four neighbours: where a sum has to start to come out as if the weights were signed.
///
/// # Safety
/// The processor has VNNI.
#[inline(always)]
unsafe fn minus_offset(offset: i8, codes: __m512i) -> __m512i {
    // SAFETY: by the caller's promise.
    unsafe {
        let zero = _mm512_setzero_si512();
        _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(offset), codes))
    }
}

/// Activations, negated where the weights are negative.
///
/// # Safety
/// The processor has AVX-512 BW.
#[inline(always)]
unsafe fn negated_where(negative: __mmask64, x: __m512i) -> __m512i {
    // SAFETY: by the caller's promise.
    unsafe { _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x) }
}

/// The bits of a half.
///
/// # Safety
/// Two bytes can be read.
#[inline(always)]
unsafe fn half(at: *const u8) -> i32 {
    // SAFETY: by the caller's promise.
    i32::from(unsafe { at.cast::<u16>().read_unaligned() })
}

/// The activation scales of two blocks, four times.
///
/// # Safety
/// Two floats can be read.
#[inline(always)]
unsafe fn pair_of_scales(x: *const f32) -> __m256 {
    // SAFETY: by the caller's promise.
    unsafe {
        let (low, high) = (*x, *x.add(1));
        _mm256_setr_ps(low, high, low, high, low, high, low, high)
    }
}

/// Half of 2^(exponent − 127) in every lane; exponents 0 and 1 give subnormals, 255 gives NaN.
///
/// # Safety
/// The processor has AVX-512 VL.
#[inline(always)]
unsafe fn e8m0_halves(exponents: __m256i) -> __m256 {
    // SAFETY: by the caller's promise.
    unsafe {
        let one = _mm256_set1_epi32(1);
        let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, one));
        let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), exponents);
        let number = _mm256_mask_blend_epi32(_mm256_cmple_epu32_mask(exponents, one), normal, subnormal);
        let is_nan = _mm256_cmpeq_epi32_mask(exponents, _mm256_set1_epi32(255));
        _mm256_castsi256_ps(_mm256_mask_blend_epi32(is_nan, number, _mm256_set1_epi32(f32::NAN.to_bits() as i32)))
    }
}

/// The upper half of a vector added to its lower.
///
/// # Safety
/// The processor has AVX-512 DQ.
#[inline(always)]
unsafe fn halved(sum: __m512) -> __m256 {
    // SAFETY: by the caller's promise.
    unsafe { _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum)) }
}
