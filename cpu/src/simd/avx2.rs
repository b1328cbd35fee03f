//! Vectors of 256 bits: AVX2 with and without FMA and F16C, and AVX-VNNI.
//!
//! AVX2 has no 8-bit dot product, but `maddubs`: unsigned times signed bytes, pairs added to 16 bits, which must not
//! exceed 2¹⁵. Weights of any size are taken as |w| · (x with w's sign): 2 · 128 · 127 < 2¹⁵. Narrow ones (at most 16)
//! meet unsigned activations, 2 · 16 · 255 < 2¹⁵, and are added in 16 bits over a whole block: sums may wrap on the way,
//! but what is left of them when the offset is taken off is at most 16 · 16 · 127 < 2¹⁵.

use std::arch::x86_64::*;

use gptoss_gguf::weight_type::{E2M1_DOUBLED, e8m0_half};
use half::f16;

use super::{E2M1_OFFSET, E2M1_UNSIGNED, Simd};

/// FMA stands for FMA and F16C; DOT is one of the three below.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const FMA: bool, const DOT: u8>;

/// No 8-bit dot products.
pub(crate) const NO_DOT: u8 = 0;
/// Those of AVX-VNNI.
pub(crate) const AVX_VNNI: u8 = 1;
/// Those of AVX-512 VNNI and VL: the same arithmetic in another encoding, so that tests reach what is written for
/// AVX-VNNI on processors with either.
pub(crate) const AVX512_VNNI_VL: u8 = 2;

impl<const FMA: bool, const DOT: u8> Simd for Avx2<FMA, DOT> {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if FMA { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    fn widen(halves: &[u16; 16]) -> [f32; 16] {
        let mut floats = [0.0f32; 16];
        for half in 0..2 {
            // SAFETY: only code compiled for this set uses it; the load and the store lie inside the arrays.
            unsafe {
                let packed = _mm_loadu_si128(halves.as_ptr().add(8 * half).cast());
                _mm256_storeu_ps(floats.as_mut_ptr().add(8 * half), widen_eight::<FMA>(packed));
            }
        }
        floats
    }

    #[inline(always)]
    fn widen_one(half: u16) -> f32 {
        if !FMA {
            return f16::from_bits(half).to_f32_const();
        }
        // SAFETY: only code compiled for this set uses it.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half)))) }
    }

    const STEP: usize = 1;
    type Tail = Self;
    type Codes = __m256i;
    /// The activations, and where a sum with weights that have an offset starts: in pairs of 16 bits for MXFP4 without
    /// dot products.
    type Activations = (__m256i, __m256i);
    type Floats = __m256;
    /// The scales of four rows, twice.
    type Scales = __m256;

    #[inline(always)]
    unsafe fn activations(at: *const i8) -> Self::Activations {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe {
            let codes = _mm256_loadu_si256(at.cast());
            let start = if DOT != NO_DOT { minus_offset::<DOT>(i8::MIN, codes) } else { _mm256_setzero_si256() };
            (codes, start)
        }
    }

    #[inline(always)]
    unsafe fn e2m1_activations(at: *const i8) -> Self::Activations {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe {
            let codes = _mm256_loadu_si256(at.cast());
            let start = if DOT != NO_DOT {
                minus_offset::<DOT>(E2M1_OFFSET, codes)
            } else {
                _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_maddubs_epi16(_mm256_set1_epi8(E2M1_OFFSET), codes))
            };
            (codes, start)
        }
    }

    #[inline(always)]
    unsafe fn q8_0(at: *const u8) -> __m256i {
        // SAFETY: a block of 34 bytes, by the caller's promise.
        unsafe { _mm256_loadu_si256(at.add(2).cast()) }
    }

    #[inline(always)]
    unsafe fn mxfp4(at: *const u8) -> __m256i {
        // SAFETY: a block of 17 bytes, by the caller's promise.
        unsafe { look_up(&E2M1_UNSIGNED, at.add(1)) }
    }

    #[inline(always)]
    unsafe fn products(weights: __m256i, (x, start): Self::Activations) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe {
            _mm256_cvtepi32_ps(if DOT != NO_DOT {
                let unsigned = _mm256_xor_si256(weights, _mm256_set1_epi8(i8::MIN));
                dpbusd::<DOT>(start, unsigned, x)
            } else {
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
                _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
            })
        }
    }

    #[inline(always)]
    unsafe fn e2m1_products(weights: __m256i, (x, start): Self::Activations) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe {
            _mm256_cvtepi32_ps(if DOT != NO_DOT {
                dpbusd::<DOT>(start, weights, x)
            } else {
                let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(weights, x), start);
                _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
            })
        }
    }

    #[inline(always)]
    unsafe fn q8_0_scales(at: [*const u8; 4], x: *const f32) -> __m256 {
        // SAFETY: blocks of 34 bytes and one scale, by the caller's promise.
        unsafe {
            let mut halves = _mm_cvtsi32_si128(i32::from(at[0].cast::<u16>().read_unaligned()));
            halves = _mm_insert_epi16::<1>(halves, i32::from(at[1].cast::<u16>().read_unaligned()));
            halves = _mm_insert_epi16::<2>(halves, i32::from(at[2].cast::<u16>().read_unaligned()));
            halves = _mm_insert_epi16::<3>(halves, i32::from(at[3].cast::<u16>().read_unaligned()));
            let scales = widen_eight::<FMA>(_mm_unpacklo_epi64(halves, halves));
            _mm256_mul_ps(scales, _mm256_broadcast_ss(&*x))
        }
    }

    #[inline(always)]
    unsafe fn mxfp4_scales(at: [*const u8; 4], x: *const f32) -> __m256 {
        // SAFETY: blocks of 17 bytes and one scale, by the caller's promise.
        unsafe {
            let four = _mm_setr_ps(e8m0_half(*at[0]), e8m0_half(*at[1]), e8m0_half(*at[2]), e8m0_half(*at[3]));
            _mm256_mul_ps(_mm256_set_m128(four, four), _mm256_broadcast_ss(&*x))
        }
    }

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add_scaled(products: __m256, scales: __m256, row: usize, sums: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe {
            let scale = match row {
                0 => _mm256_shuffle_ps::<0b00_00_00_00>(scales, scales),
                1 => _mm256_shuffle_ps::<0b01_01_01_01>(scales, scales),
                2 => _mm256_shuffle_ps::<0b10_10_10_10>(scales, scales),
                _ => _mm256_shuffle_ps::<0b11_11_11_11>(scales, scales),
            };
            Self::times_plus(products, scale, sums)
        }
    }

    #[inline(always)]
    unsafe fn reduce([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        let mut results = [0.0; 4];
        // SAFETY: four floats.
        unsafe {
            let eight = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            _mm_storeu_ps(results.as_mut_ptr(), four);
        }
        results
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: the hint never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    const LANES: usize = 8;
    const UNSIGNED: [bool; 2] = [DOT != NO_DOT, true];
    type Run = __m256i;
    /// The weights, and their magnitudes where those are needed.
    type Line = (__m256i, __m256i);
    /// Of 32 bits, or pairs of 16 bits for narrow weights without dot products.
    type Sums = __m256i;
    type Lanes = __m256;

    #[inline(always)]
    unsafe fn run(at: *const i8) -> __m256i {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn e2m1_run(at: *const u8) -> __m256i {
        // SAFETY: 16 bytes, by the caller's promise.
        unsafe { look_up(&E2M1_DOUBLED, at) }
    }

    #[inline(always)]
    unsafe fn interleave([a, b, c, d]: [__m256i; 4], at: *mut i8, line_bytes: usize) {
        // SAFETY: eight times 16 bytes, by the caller's promise.
        unsafe {
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            // Lower halves belong to lines 0 to 3, upper ones to lines 4 to 7.
            let lines = [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ];
            for g in 0..4 {
                _mm_storeu_si128(at.add(g * line_bytes).cast(), _mm256_castsi256_si128(lines[g]));
                _mm_storeu_si128(at.add((g + 4) * line_bytes).cast(), _mm256_extracti128_si256::<1>(lines[g]));
            }
        }
    }

    #[inline(always)]
    unsafe fn line(at: *const i8, narrow: bool) -> Self::Line {
        // SAFETY: a line of 32 bytes, by the caller's promise.
        unsafe {
            let weights = _mm256_load_si256(at.cast());
            (weights, if DOT != NO_DOT || narrow { weights } else { _mm256_abs_epi8(weights) })
        }
    }

    #[inline(always)]
    unsafe fn no_sums() -> __m256i {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn sums(at: *const i32) -> __m256i {
        // SAFETY: eight words, by the caller's promise.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn put_negated(sums: __m256i, at: *mut i32) {
        // SAFETY: eight words, by the caller's promise.
        unsafe {
            let zero = _mm256_setzero_si256();
            let negated = if DOT != NO_DOT { _mm256_sub_epi32(zero, sums) } else { _mm256_sub_epi16(zero, sums) };
            _mm256_storeu_si256(at.cast(), negated);
        }
    }

    #[inline(always)]
    unsafe fn step(sums: __m256i, (weights, sizes): Self::Line, x: *const u8, narrow: bool) -> __m256i {
        // SAFETY: four activations, by the caller's promise.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            if DOT != NO_DOT {
                dpbusd::<DOT>(sums, x, weights)
            } else if narrow {
                _mm256_add_epi16(sums, _mm256_maddubs_epi16(x, weights))
            } else {
                let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, weights));
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m256i, narrow: bool) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe {
            _mm256_cvtepi32_ps(if narrow && DOT == NO_DOT {
                _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
            } else {
                sums
            })
        }
    }

    #[inline(always)]
    unsafe fn lanes(at: *const f32) -> __m256 {
        // SAFETY: eight floats, by the caller's promise.
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn times(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn times_plus(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { if FMA { _mm256_fmadd_ps(a, b, c) } else { _mm256_add_ps(_mm256_mul_ps(a, b), c) } }
    }

    #[inline(always)]
    unsafe fn put(lanes: __m256, at: *mut f32) {
        // SAFETY: eight floats, by the caller's promise.
        unsafe { _mm256_storeu_ps(at, lanes) }
    }
}

/// Adds the products of each four neighbours, unsigned times signed.
///
/// # Safety
/// The processor has the dot products.
#[inline(always)]
unsafe fn dpbusd<const DOT: u8>(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe {
        match DOT {
            AVX_VNNI => _mm256_dpbusd_avx_epi32(sums, unsigned, signed),
            AVX512_VNNI_VL => _mm256_dpbusd_epi32(sums, unsigned, signed),
            _ => unreachable!("a set without dot products asks for none"),
        }
    }
}

/// −offset · Σ x over each four neighbours: where a sum has to start to come out as if the weights were signed.
///
/// # Safety
/// The processor has the dot products.
#[inline(always)]
unsafe fn minus_offset<const DOT: u8>(offset: i8, codes: __m256i) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe {
        let zero = _mm256_setzero_si256();
        _mm256_sub_epi32(zero, dpbusd::<DOT>(zero, _mm256_set1_epi8(offset), codes))
    }
}

/// The values of 32 nibbles of 16 bytes: low ones first, then high ones.
///
/// # Safety
/// 16 bytes can be read, and the processor has AVX2.
#[inline(always)]
pub(super) unsafe fn look_up(table: &[i8; 16], at: *const u8) -> __m256i {
    // SAFETY: by the caller's promise; the table has 16 bytes.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        let packed = _mm_loadu_si128(at.cast());
        let nibbles = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
        _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)))
    }
}

/// Converts eight halves to floats, exactly.
///
/// # Safety
/// The processor has AVX2, and F16C if so said.
#[inline(always)]
unsafe fn widen_eight<const F16C: bool>(halves: __m128i) -> __m256 {
    // SAFETY: by the caller's promise.
    unsafe {
        if F16C {
            return _mm256_cvtph_ps(halves);
        }
        // The exponent of a float is 112 higher; multiplied with 2¹¹², numbers below the normal ones come out right, too.
        let bits = _mm256_cvtepu16_epi32(halves);
        let size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fff));
        let number = _mm256_castsi256_ps(_mm256_slli_epi32::<13>(size));
        let number = _mm256_castps_si256(_mm256_mul_ps(number, _mm256_set1_ps(f32::from_bits((112 + 127) << 23))));
        let is_none = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7bff));
        let none = _mm256_and_si256(is_none, _mm256_set1_epi32(f32::INFINITY.to_bits() as i32));
        let sign = _mm256_slli_epi32::<16>(_mm256_xor_si256(bits, size));
        _mm256_castsi256_ps(_mm256_or_si256(_mm256_or_si256(number, none), sign))
    }
}
