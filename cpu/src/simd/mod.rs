//! What kernels need of an instruction set: one file of primitives for each. The loops over them are written once, in
//! `vector`, `float`, `attention` and `int8`, and compiled for every set by `by_isa`.
//!
//! Primitives are `#[inline(always)]`, because a function with instructions of its own would not be inlined into a
//! generic kernel.
#![expect(unsafe_code, reason = "primitives load and store through pointers, and use instructions that were found")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use avx2::AVX512_VNNI_VL;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{AVX_VNNI, Avx2, NO_DOT};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{NEON_ALONE, NEON_DOTPROD, NEON_I8MM, Neon};
pub(crate) use portable::Portable;

#[cfg(target_arch = "x86_64")]
use gptoss_gguf::weight_type::E2M1_DOUBLED;

/// Number of rows in a panel, whatever the instruction set.
pub(crate) const PANEL_ROWS: usize = 16;

/// Added to doubled E2M1 codes to make them unsigned.
#[cfg(target_arch = "x86_64")]
const E2M1_OFFSET: i8 = 12;

/// The doubled E2M1 values plus [`E2M1_OFFSET`].
#[cfg(target_arch = "x86_64")]
const E2M1_UNSIGNED: [i8; 16] = {
    let mut table = E2M1_DOUBLED;
    let mut code = 0;
    while code < table.len() {
        table[code] += E2M1_OFFSET;
        code += 1;
    }
    table
};

/// A set of instructions. Its types hold vectors; blocks are the 32 activations that share a scale.
///
/// # Safety
/// Of all functions: the processor has the instructions, and pointers can be read or written for as long as is said.
pub(crate) trait Simd: Copy {
    /// Computes `a · b + c`; fused where the processor does that in one instruction (elsewhere `mul_add` is a slow
    /// function).
    fn mul_add(a: f32, b: f32, c: f32) -> f32;

    /// Converts sixteen halves to floats.
    fn widen(halves: &[u16; 16]) -> [f32; 16];

    /// Converts one half to a float.
    fn widen_one(half: u16) -> f32;

    // Rows as they are in the file times one token. Four rows go together: what depends on the activations is done
    // once, and so is what has four values.

    /// Blocks that one step takes.
    const STEP: usize;
    /// The set that multiplies the last block when a row has an odd number of them and steps take two.
    type Tail: Simd;
    /// 32 · STEP weights.
    type Codes: Copy;
    /// As many activations, and what else their products need.
    type Activations: Copy;
    /// Running sums of one row.
    type Floats: Copy;
    /// Scale of weights times scale of activations, for the blocks of a step in four rows.
    type Scales: Copy;

    /// Activations for [`Simd::products`] with weights of any size.
    unsafe fn activations(at: *const i8) -> Self::Activations;
    /// Activations for [`Simd::e2m1_products`].
    unsafe fn e2m1_activations(at: *const i8) -> Self::Activations;
    /// The codes of STEP blocks of Q8_0.
    unsafe fn q8_0(at: *const u8) -> Self::Codes;
    /// The codes of STEP blocks of MXFP4, as [`Simd::e2m1_products`] takes them.
    unsafe fn mxfp4(at: *const u8) -> Self::Codes;
    /// Sums of neighbouring products, as floats; each lane belongs to one block.
    unsafe fn products(weights: Self::Codes, x: Self::Activations) -> Self::Floats;
    /// The same for weights of MXFP4.
    unsafe fn e2m1_products(weights: Self::Codes, x: Self::Activations) -> Self::Floats;
    /// Scales of STEP blocks of Q8_0 at four places, times those of the activations.
    unsafe fn q8_0_scales(at: [*const u8; 4], x: *const f32) -> Self::Scales;
    /// The same for MXFP4.
    unsafe fn mxfp4_scales(at: [*const u8; 4], x: *const f32) -> Self::Scales;
    /// Zero in every lane.
    unsafe fn zero() -> Self::Floats;
    /// Computes `sums + products · scales of row` for row 0 to 3.
    unsafe fn add_scaled(products: Self::Floats, scales: Self::Scales, row: usize, sums: Self::Floats) -> Self::Floats;
    /// The sums across the lanes of four vectors.
    unsafe fn reduce(sums: [Self::Floats; 4]) -> [f32; 4];
    /// Asks for the line of memory at this address, which is needed soon. Any address will do. Where the hint can say so,
    /// it comes into the second cache: the first one waits for few lines at a time.
    fn prefetch(at: *const u8);

    /// Asks for share number `index` of the bytes from `start` on, each share being of `bytes`.
    ///
    /// Kernels read several rows of a matrix side by side: several places of memory, each only for a few kilobytes. The
    /// processor's own prefetching follows a single stream much better. So they ask, share by share, for the rows that
    /// come after theirs, in the order in which they lie in memory, and the processor runs ahead of that.
    #[inline(always)]
    fn prefetch_share(start: *const u8, index: usize, bytes: usize) {
        /// Bytes that come at once, on most processors.
        const LINE: usize = 64;
        let first = start.wrapping_add(index * bytes);
        for line in 0..bytes.div_ceil(LINE) {
            Self::prefetch(first.wrapping_add(line * LINE));
        }
    }

    // Panels of interleaved rows times several tokens. Lanes stand for rows. A panel's weights are either narrow (from
    // −16 to 16) or any signed bytes.

    /// Rows in a vector: 4, 8 or 16.
    const LANES: usize;
    /// Whether [`Simd::step`] takes activations plus 128, for weights that are not narrow and for narrow ones; sums then
    /// start at minus what that adds.
    const UNSIGNED: [bool; 2];
    /// 32 signed codes of one row.
    type Run: Copy;
    /// Four neighbouring weights of each of LANES rows.
    type Line: Copy;
    /// Sums of products of whole numbers.
    type Sums: Copy;
    /// One float for each of LANES rows.
    type Lanes: Copy;

    /// 32 signed codes as they are.
    unsafe fn run(at: *const i8) -> Self::Run;
    /// The signed codes of a block of MXFP4, without its scale byte.
    unsafe fn e2m1_run(at: *const u8) -> Self::Run;
    /// Writes a quarter of the columns (4 g to 4 g + 3) of four rows to `at + g · line_bytes`, 16 bytes each.
    unsafe fn interleave(rows: [Self::Run; 4], at: *mut i8, line_bytes: usize);
    /// A line of a panel.
    unsafe fn line(at: *const i8, narrow: bool) -> Self::Line;
    /// No sums.
    unsafe fn no_sums() -> Self::Sums;
    /// Sums that were written by [`Simd::put_negated`].
    unsafe fn sums(at: *const i32) -> Self::Sums;
    /// Writes LANES words: minus the sums.
    unsafe fn put_negated(sums: Self::Sums, at: *mut i32);
    /// Adds products with four activations; with narrow weights at most eight times, in whatever range in between.
    unsafe fn step(sums: Self::Sums, line: Self::Line, x: *const u8, narrow: bool) -> Self::Sums;
    /// Whether [`Simd::step_of_two`] does more than two times [`Simd::step`] twice.
    const PAIRS: bool = false;
    /// Adds products of two lines, neighbours in a block, with eight activations of each of two tokens. Until
    /// [`Simd::part`] the sums of two tokens may be mixed, and begin at nothing.
    #[inline(always)]
    unsafe fn step_of_two(
        [mut first, mut second]: [Self::Sums; 2],
        lines: [Self::Line; 2],
        x: [*const u8; 2],
        narrow: bool,
    ) -> [Self::Sums; 2] {
        for (at, line) in lines.into_iter().enumerate() {
            // SAFETY: eight activations of each, by the caller's promise.
            unsafe {
                first = Self::step(first, line, x[0].add(4 * at), narrow);
                second = Self::step(second, line, x[1].add(4 * at), narrow);
            }
        }
        [first, second]
    }
    /// The sums of each of two tokens.
    #[inline(always)]
    unsafe fn part(sums: [Self::Sums; 2]) -> [Self::Sums; 2] {
        sums
    }
    /// The sums as floats.
    unsafe fn finish(sums: Self::Sums, narrow: bool) -> Self::Lanes;
    /// LANES floats.
    unsafe fn lanes(at: *const f32) -> Self::Lanes;
    /// The same float in all lanes.
    unsafe fn splat(value: f32) -> Self::Lanes;
    /// Computes `a · b`.
    unsafe fn times(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Computes `a · b + c`.
    unsafe fn times_plus(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// Writes LANES floats.
    unsafe fn put(lanes: Self::Lanes, at: *mut f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, by_isa};

    #[inline(always)]
    fn widen_body<S: Simd>(halves: &[u16; 16]) -> ([f32; 16], f32) {
        (S::widen(halves), S::widen_one(halves[5]))
    }

    by_isa!(widen(halves: &[u16; 16]) -> ([f32; 16], f32), widen_body);

    #[test]
    fn every_half_widens_to_itself_on_every_level() {
        for isa in Isa::available() {
            for first in (0..=u16::MAX - 15).step_by(16) {
                let halves: [u16; 16] = std::array::from_fn(|i| first + i as u16);
                let (floats, one) = widen(isa, &halves);
                for (bits, got) in halves.into_iter().zip(floats).chain([(halves[5], one)]) {
                    let want = half::f16::from_bits(bits).to_f32();
                    assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{isa}: {bits:04x}");
                }
            }
        }
    }
}
