//! Vectors of 128 bits: AArch64's NEON alone, with 8-bit dot products, and with 8-bit products of small matrices.
//!
//! Without dot products, two products of signed bytes are added in 16 bits: 2 · 128 · 127 < 2¹⁵.

use std::arch::aarch64::*;
use std::arch::asm;

use gptoss_gguf::weight_type::{E2M1_DOUBLED, e8m0_half};

use super::Simd;

/// Neither of the following.
pub(crate) const NEON_ALONE: u8 = 0;
/// Dot products of four bytes (FEAT_DotProd).
pub(crate) const NEON_DOTPROD: u8 = 1;
/// These, and products of 2 × 8 with 8 × 2 bytes (FEAT_I8MM).
pub(crate) const NEON_I8MM: u8 = 2;

/// EXTENSION is one of the above.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const EXTENSION: u8>;

impl<const EXTENSION: u8> Simd for Neon<EXTENSION> {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn widen(halves: &[u16; 16]) -> [f32; 16] {
        let mut floats = [0.0f32; 16];
        for four in 0..4 {
            // SAFETY: every AArch64 processor has the instruction; the load and the store lie inside the arrays.
            unsafe {
                let packed = vld1_u16(halves.as_ptr().add(4 * four));
                let wide: float32x4_t;
                asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) packed, options(pure, nomem, nostack));
                vst1q_f32(floats.as_mut_ptr().add(4 * four), wide);
            }
        }
        floats
    }

    #[inline(always)]
    fn widen_one(half: u16) -> f32 {
        let wide: f32;
        // SAFETY: every AArch64 processor has the instruction.
        unsafe { asm!("fcvt {0:s}, {1:h}", out(vreg) wide, in(vreg) half, options(pure, nomem, nostack)) };
        wide
    }

    const STEP: usize = 1;
    type Tail = Self;
    type Codes = int8x16x2_t;
    type Activations = int8x16x2_t;
    type Floats = float32x4_t;
    type Scales = float32x4_t;

    #[inline(always)]
    unsafe fn activations(at: *const i8) -> int8x16x2_t {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { Self::run(at) }
    }

    #[inline(always)]
    unsafe fn e2m1_activations(at: *const i8) -> int8x16x2_t {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { Self::run(at) }
    }

    #[inline(always)]
    unsafe fn q8_0(at: *const u8) -> int8x16x2_t {
        // SAFETY: a block of 34 bytes, by the caller's promise.
        unsafe { Self::run(at.add(2).cast()) }
    }

    #[inline(always)]
    unsafe fn mxfp4(at: *const u8) -> int8x16x2_t {
        // SAFETY: a block of 17 bytes, by the caller's promise.
        unsafe { Self::e2m1_run(at.add(1)) }
    }

    #[inline(always)]
    unsafe fn products(weights: int8x16x2_t, x: int8x16x2_t) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe {
            vcvtq_f32_s32(if EXTENSION >= NEON_DOTPROD {
                dot(dot(vdupq_n_s32(0), weights.0, x.0), weights.1, x.1)
            } else {
                let first = vmull_s8(vget_low_s8(weights.0), vget_low_s8(x.0));
                let second = vmull_s8(vget_low_s8(weights.1), vget_low_s8(x.1));
                let first = vmlal_high_s8(first, weights.0, x.0);
                let second = vmlal_high_s8(second, weights.1, x.1);
                vpadalq_s16(vpaddlq_s16(first), second)
            })
        }
    }

    #[inline(always)]
    unsafe fn e2m1_products(weights: int8x16x2_t, x: int8x16x2_t) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { Self::products(weights, x) }
    }

    #[inline(always)]
    unsafe fn q8_0_scales(at: [*const u8; 4], x: *const f32) -> float32x4_t {
        // SAFETY: blocks of 34 bytes and one scale, by the caller's promise.
        unsafe {
            let halves = [
                at[0].cast::<u16>().read_unaligned(),
                at[1].cast::<u16>().read_unaligned(),
                at[2].cast::<u16>().read_unaligned(),
                at[3].cast::<u16>().read_unaligned(),
            ];
            let packed = vld1_u16(halves.as_ptr());
            let wide: float32x4_t;
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) packed, options(pure, nomem, nostack));
            vmulq_n_f32(wide, *x)
        }
    }

    #[inline(always)]
    unsafe fn mxfp4_scales(at: [*const u8; 4], x: *const f32) -> float32x4_t {
        // SAFETY: blocks of 17 bytes and one scale, by the caller's promise.
        unsafe {
            let scales = [e8m0_half(*at[0]), e8m0_half(*at[1]), e8m0_half(*at[2]), e8m0_half(*at[3])];
            vmulq_n_f32(vld1q_f32(scales.as_ptr()), *x)
        }
    }

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn add_scaled(products: float32x4_t, scales: float32x4_t, row: usize, sums: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe {
            match row {
                0 => vfmaq_laneq_f32::<0>(sums, products, scales),
                1 => vfmaq_laneq_f32::<1>(sums, products, scales),
                2 => vfmaq_laneq_f32::<2>(sums, products, scales),
                _ => vfmaq_laneq_f32::<3>(sums, products, scales),
            }
        }
    }

    #[inline(always)]
    unsafe fn reduce([a, b, c, d]: [float32x4_t; 4]) -> [f32; 4] {
        let mut results = [0.0; 4];
        // SAFETY: four floats.
        unsafe { vst1q_f32(results.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))) };
        results
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: the hint never faults, whatever the address.
        unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) at, options(nostack, preserves_flags)) };
    }

    const LANES: usize = 4;
    const UNSIGNED: [bool; 2] = [false, false];
    type Run = int8x16x2_t;
    type Line = int8x16_t;
    type Sums = int32x4_t;
    type Lanes = float32x4_t;

    #[inline(always)]
    unsafe fn run(at: *const i8) -> int8x16x2_t {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { int8x16x2_t(vld1q_s8(at), vld1q_s8(at.add(16))) }
    }

    #[inline(always)]
    unsafe fn e2m1_run(at: *const u8) -> int8x16x2_t {
        // SAFETY: 16 bytes, by the caller's promise; the table has as many.
        unsafe {
            let table = vld1q_s8(E2M1_DOUBLED.as_ptr());
            let packed = vld1q_u8(at);
            int8x16x2_t(vqtbl1q_s8(table, vandq_u8(packed, vdupq_n_u8(15))), vqtbl1q_s8(table, vshrq_n_u8::<4>(packed)))
        }
    }

    #[inline(always)]
    unsafe fn interleave([a, b, c, d]: [int8x16x2_t; 4], at: *mut i8, line_bytes: usize) {
        // SAFETY: eight times 16 bytes, by the caller's promise.
        unsafe {
            put_four_lines([a.0, b.0, c.0, d.0], at, line_bytes);
            put_four_lines([a.1, b.1, c.1, d.1], at.add(4 * line_bytes), line_bytes);
        }
    }

    #[inline(always)]
    unsafe fn line(at: *const i8, _narrow: bool) -> int8x16_t {
        // SAFETY: a line of 16 bytes, by the caller's promise.
        unsafe { vld1q_s8(at) }
    }

    #[inline(always)]
    unsafe fn no_sums() -> int32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn sums(at: *const i32) -> int32x4_t {
        // SAFETY: four words, by the caller's promise.
        unsafe { vld1q_s32(at) }
    }

    #[inline(always)]
    unsafe fn put_negated(sums: int32x4_t, at: *mut i32) {
        // SAFETY: four words, by the caller's promise.
        unsafe { vst1q_s32(at, vnegq_s32(sums)) }
    }

    #[inline(always)]
    unsafe fn step(sums: int32x4_t, line: int8x16_t, x: *const u8, _narrow: bool) -> int32x4_t {
        // SAFETY: four activations, by the caller's promise.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned()));
            if EXTENSION >= NEON_DOTPROD {
                dot(sums, line, x)
            } else {
                let low = vmull_s8(vget_low_s8(line), vget_low_s8(x));
                vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(line, x)))
            }
        }
    }

    const PAIRS: bool = EXTENSION >= NEON_I8MM;

    /// Mixed sums are those of rows 0 and 1, then those of rows 2 and 3: each row's of both tokens.
    #[inline(always)]
    unsafe fn step_of_two(
        [mut low, mut high]: [int32x4_t; 2],
        [a, b]: [int8x16_t; 2],
        x: [*const u8; 2],
        _narrow: bool,
    ) -> [int32x4_t; 2] {
        // SAFETY: eight activations of each token, by the caller's promise.
        unsafe {
            // Eight neighbouring weights of two rows: what a line has of them, and the next one.
            let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
            let (rows_low, rows_high) =
                (vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b)));
            let x = vcombine_s8(vld1_s8(x[0].cast()), vld1_s8(x[1].cast()));
            low = matrix_product(low, rows_low, x);
            high = matrix_product(high, rows_high, x);
        }
        [low, high]
    }

    #[inline(always)]
    unsafe fn part([low, high]: [int32x4_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: the processor has the instructions.
        unsafe { [vuzp1q_s32(low, high), vuzp2q_s32(low, high)] }
    }

    #[inline(always)]
    unsafe fn finish(sums: int32x4_t, _narrow: bool) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { vcvtq_f32_s32(sums) }
    }

    #[inline(always)]
    unsafe fn lanes(at: *const f32) -> float32x4_t {
        // SAFETY: four floats, by the caller's promise.
        unsafe { vld1q_f32(at) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn times(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn times_plus(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the processor has the instructions.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn put(lanes: float32x4_t, at: *mut f32) {
        // SAFETY: four floats, by the caller's promise.
        unsafe { vst1q_f32(at, lanes) }
    }
}

/// Adds the products of each four neighbours. (The intrinsic is not in stable Rust yet.)
///
/// # Safety
/// The processor has FEAT_DotProd.
#[inline(always)]
unsafe fn dot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: by the caller's promise.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) a,
            in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Adds the products of each of two rows of eight bytes in `a` with each of two in `b`: [a₀·b₀, a₀·b₁, a₁·b₀, a₁·b₁].
/// (The intrinsic is not in stable Rust yet.)
///
/// # Safety
/// The processor has FEAT_I8MM.
#[inline(always)]
unsafe fn matrix_product(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: by the caller's promise.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) a,
            in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Writes words 0 of four vectors, then words 1, …, `line_bytes` apart.
///
/// # Safety
/// 16 bytes can be written at each of the four places.
#[inline(always)]
unsafe fn put_four_lines([a, b, c, d]: [int8x16_t; 4], at: *mut i8, line_bytes: usize) {
    // SAFETY: by the caller's promise.
    unsafe {
        let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
        let (c, d) = (vreinterpretq_s32_s8(c), vreinterpretq_s32_s8(d));
        let (ab_low, ab_high) = (vreinterpretq_s64_s32(vzip1q_s32(a, b)), vreinterpretq_s64_s32(vzip2q_s32(a, b)));
        let (cd_low, cd_high) = (vreinterpretq_s64_s32(vzip1q_s32(c, d)), vreinterpretq_s64_s32(vzip2q_s32(c, d)));
        vst1q_s8(at, vreinterpretq_s8_s64(vzip1q_s64(ab_low, cd_low)));
        vst1q_s8(at.add(line_bytes), vreinterpretq_s8_s64(vzip2q_s64(ab_low, cd_low)));
        vst1q_s8(at.add(2 * line_bytes), vreinterpretq_s8_s64(vzip1q_s64(ab_high, cd_high)));
        vst1q_s8(at.add(3 * line_bytes), vreinterpretq_s8_s64(vzip2q_s64(ab_high, cd_high)));
    }
}
