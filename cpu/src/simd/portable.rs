//! Plain Rust, of which the compiler makes what vector code the target has.

use gptoss_gguf::weight_type::{E2M1_DOUBLED, e8m0_half};
use half::f16;

use super::Simd;

const LANES: usize = 4;

/// Every processor.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn widen(halves: &[u16; 16]) -> [f32; 16] {
        let mut floats = [0.0; 16];
        for (float, &bits) in floats.iter_mut().zip(halves) {
            *float = Self::widen_one(bits);
        }
        floats
    }

    #[inline(always)]
    fn widen_one(half: u16) -> f32 {
        f16::from_bits(half).to_f32_const()
    }

    const STEP: usize = 1;
    type Tail = Self;
    type Codes = [i8; 32];
    type Activations = [i8; 32];
    type Floats = f32;
    type Scales = [f32; 4];

    #[inline(always)]
    unsafe fn activations(at: *const i8) -> [i8; 32] {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { at.cast::<[i8; 32]>().read() }
    }

    #[inline(always)]
    unsafe fn e2m1_activations(at: *const i8) -> [i8; 32] {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { at.cast::<[i8; 32]>().read() }
    }

    #[inline(always)]
    unsafe fn q8_0(at: *const u8) -> [i8; 32] {
        // SAFETY: a block of 34 bytes, by the caller's promise.
        unsafe { at.add(2).cast::<[i8; 32]>().read() }
    }

    #[inline(always)]
    unsafe fn mxfp4(at: *const u8) -> [i8; 32] {
        // SAFETY: a block of 17 bytes, by the caller's promise.
        unsafe { Self::e2m1_run(at.add(1)) }
    }

    #[inline(always)]
    unsafe fn products(weights: [i8; 32], x: [i8; 32]) -> f32 {
        let mut sum = 0;
        for i in 0..32 {
            sum += i32::from(i16::from(weights[i]) * i16::from(x[i]));
        }
        sum as f32
    }

    #[inline(always)]
    unsafe fn e2m1_products(weights: [i8; 32], x: [i8; 32]) -> f32 {
        // SAFETY: nothing is read.
        unsafe { Self::products(weights, x) }
    }

    #[inline(always)]
    unsafe fn q8_0_scales(at: [*const u8; 4], x: *const f32) -> [f32; 4] {
        let mut scales = [0.0; 4];
        for (scale, at) in scales.iter_mut().zip(at) {
            // SAFETY: blocks of 34 bytes and one scale, by the caller's promise.
            *scale = unsafe { Self::widen_one(u16::from_le_bytes(at.cast::<[u8; 2]>().read())) * *x };
        }
        scales
    }

    #[inline(always)]
    unsafe fn mxfp4_scales(at: [*const u8; 4], x: *const f32) -> [f32; 4] {
        let mut scales = [0.0; 4];
        for (scale, at) in scales.iter_mut().zip(at) {
            // SAFETY: blocks of 17 bytes and one scale, by the caller's promise.
            *scale = unsafe { e8m0_half(*at) * *x };
        }
        scales
    }

    #[inline(always)]
    unsafe fn zero() -> f32 {
        0.0
    }

    #[inline(always)]
    unsafe fn add_scaled(products: f32, scales: [f32; 4], row: usize, sums: f32) -> f32 {
        sums + products * scales[row]
    }

    #[inline(always)]
    unsafe fn reduce(sums: [f32; 4]) -> [f32; 4] {
        sums
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}

    const LANES: usize = LANES;
    const UNSIGNED: [bool; 2] = [false, false];
    type Run = [i8; 32];
    type Line = [i8; 4 * LANES];
    type Sums = [i32; LANES];
    type Lanes = [f32; LANES];

    #[inline(always)]
    unsafe fn run(at: *const i8) -> [i8; 32] {
        // SAFETY: 32 codes, by the caller's promise.
        unsafe { at.cast::<[i8; 32]>().read() }
    }

    #[inline(always)]
    unsafe fn e2m1_run(at: *const u8) -> [i8; 32] {
        // SAFETY: 16 bytes, by the caller's promise.
        let packed = unsafe { at.cast::<[u8; 16]>().read() };
        let mut codes = [0; 32];
        for (j, byte) in packed.into_iter().enumerate() {
            codes[j] = E2M1_DOUBLED[usize::from(byte & 15)];
            codes[j + 16] = E2M1_DOUBLED[usize::from(byte >> 4)];
        }
        codes
    }

    #[inline(always)]
    unsafe fn interleave(rows: [[i8; 32]; 4], at: *mut i8, line_bytes: usize) {
        for g in 0..8 {
            for (row, codes) in rows.iter().enumerate() {
                // SAFETY: by the caller's promise; four bytes inside the codes.
                unsafe {
                    let word = codes.as_ptr().add(4 * g).cast::<u32>().read_unaligned();
                    at.add(g * line_bytes + 4 * row).cast::<u32>().write_unaligned(word);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn line(at: *const i8, _narrow: bool) -> [i8; 4 * LANES] {
        // SAFETY: a line, by the caller's promise.
        unsafe { at.cast::<[i8; 4 * LANES]>().read() }
    }

    #[inline(always)]
    unsafe fn no_sums() -> [i32; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn sums(at: *const i32) -> [i32; LANES] {
        // SAFETY: by the caller's promise.
        unsafe { at.cast::<[i32; LANES]>().read() }
    }

    #[inline(always)]
    unsafe fn put_negated(_: [i32; LANES], _: *mut i32) {
        unreachable!("activations are signed")
    }

    #[inline(always)]
    unsafe fn step(mut sums: [i32; LANES], line: [i8; 4 * LANES], x: *const u8, _narrow: bool) -> [i32; LANES] {
        // SAFETY: four activations, by the caller's promise.
        let x = unsafe { x.cast::<[i8; 4]>().read() };
        for lane in 0..LANES {
            for k in 0..4 {
                sums[lane] += i32::from(i16::from(line[4 * lane + k]) * i16::from(x[k]));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish(sums: [i32; LANES], _narrow: bool) -> [f32; LANES] {
        let mut floats = [0.0; LANES];
        for lane in 0..LANES {
            floats[lane] = sums[lane] as f32;
        }
        floats
    }

    #[inline(always)]
    unsafe fn lanes(at: *const f32) -> [f32; LANES] {
        // SAFETY: by the caller's promise.
        unsafe { at.cast::<[f32; LANES]>().read() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn times(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        let mut product = [0.0; LANES];
        for lane in 0..LANES {
            product[lane] = a[lane] * b[lane];
        }
        product
    }

    #[inline(always)]
    unsafe fn times_plus(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        let mut sum = [0.0; LANES];
        for lane in 0..LANES {
            sum[lane] = a[lane] * b[lane] + c[lane];
        }
        sum
    }

    #[inline(always)]
    unsafe fn put(lanes: [f32; LANES], at: *mut f32) {
        // SAFETY: by the caller's promise.
        unsafe { at.cast::<[f32; LANES]>().write(lanes) }
    }
}
