//! The other quantised formats, one token at a time: 32 weights are unpacked to signed bytes in registers, and meet the
//! activations there. What the compiler makes of these loops is slower than the hand-written kernels and far faster than
//! decoding to floats; in the public files these formats are a small part of what a token reads.

use gptoss_kernels::format::Format;
use half::f16;

use super::CodedRow;
use crate::activations::BLOCK;
use crate::isa::{Isa, Level, by_isa};

/// 32 neighbouring weights: `code · scale + minimum`, with a scale for each 16.
struct Run {
    codes: [i8; BLOCK],
    scales: [f32; 2],
    minimum: f32,
}

impl Run {
    #[inline(always)]
    fn new(codes: [i8; BLOCK], scale: f32, minimum: f32) -> Self {
        Self { codes, scales: [scale; 2], minimum }
    }
}

/// The row of any quantised format but Q8_0 and MXFP4, times the activations.
pub(super) fn dot(isa: Isa, format: Format, row: &[u8], x: CodedRow<'_>) -> f32 {
    match format {
        Format::Q4_0 => dot_q4_0(isa, row, x),
        Format::Q4_1 => dot_q4_1(isa, row, x),
        Format::Q5_0 => dot_q5_0(isa, row, x),
        Format::Q5_1 => dot_q5_1(isa, row, x),
        Format::Q4K => dot_q4_k(isa, row, x),
        Format::Q5K => dot_q5_k(isa, row, x),
        Format::Q6K => dot_q6_k(isa, row, x),
        Format::Iq4Nl => dot_iq4_nl(isa, row, x),
        Format::F32 | Format::F16 | Format::Bf16 | Format::Q8_0 | Format::Mxfp4 => {
            unreachable!("{format:?} is multiplied elsewhere")
        }
    }
}

by_isa!(dot_q4_0(row: &[u8], x: CodedRow<'_>) -> f32, q4_0_body);
by_isa!(dot_q4_1(row: &[u8], x: CodedRow<'_>) -> f32, q4_1_body);
by_isa!(dot_q5_0(row: &[u8], x: CodedRow<'_>) -> f32, q5_0_body);
by_isa!(dot_q5_1(row: &[u8], x: CodedRow<'_>) -> f32, q5_1_body);
by_isa!(dot_q4_k(row: &[u8], x: CodedRow<'_>) -> f32, q4_k_body);
by_isa!(dot_q5_k(row: &[u8], x: CodedRow<'_>) -> f32, q5_k_body);
by_isa!(dot_q6_k(row: &[u8], x: CodedRow<'_>) -> f32, q6_k_body);
by_isa!(dot_iq4_nl(row: &[u8], x: CodedRow<'_>) -> f32, iq4_nl_body);

/// Sums over blocks of `BYTES` bytes with `RUNS` runs of 32 weights each.
#[inline(always)]
fn dot_runs<const BYTES: usize, const RUNS: usize>(
    row: &[u8],
    x: CodedRow<'_>,
    unpack: impl Fn(&[u8; BYTES], usize) -> Run,
) -> f32 {
    let mut sum = 0.0;
    let codes = x.codes.as_chunks::<BLOCK>().0;
    for (block, bytes) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        for s in 0..RUNS {
            let at = block * RUNS + s;
            let run = unpack(bytes, s);
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

#[inline(always)]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Low nibbles first, then high ones, plus `high(j)` on top, minus `offset`.
#[inline(always)]
fn nibbles(codes: &[u8], offset: i8, high: impl Fn(usize) -> u8) -> [i8; BLOCK] {
    let mut unpacked = [0; BLOCK];
    for j in 0..BLOCK / 2 {
        unpacked[j] = ((codes[j] & 15) | high(j)) as i8 - offset;
        unpacked[j + BLOCK / 2] = ((codes[j] >> 4) | high(j + BLOCK / 2)) as i8 - offset;
    }
    unpacked
}

/// Bit j of 32 bits in four bytes, as the fifth bit of a code.
#[inline(always)]
fn fifth_bit(bits: &[u8], j: usize) -> u8 {
    (bits[j / 8] >> (j % 8) & 1) << 4
}

#[inline(always)]
fn q4_0_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<18, 1>(row, x, |block, _| Run::new(nibbles(&block[2..], 8, |_| 0), f16_at(block, 0), 0.0))
}

#[inline(always)]
fn q4_1_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<20, 1>(row, x, |block, _| Run::new(nibbles(&block[4..], 0, |_| 0), f16_at(block, 0), f16_at(block, 2)))
}

#[inline(always)]
fn q5_0_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<22, 1>(row, x, |block, _| {
        Run::new(nibbles(&block[6..], 16, |j| fifth_bit(&block[2..6], j)), f16_at(block, 0), 0.0)
    })
}

#[inline(always)]
fn q5_1_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<24, 1>(row, x, |block, _| {
        Run::new(nibbles(&block[8..], 0, |j| fifth_bit(&block[4..8], j)), f16_at(block, 0), f16_at(block, 2))
    })
}

#[inline(always)]
fn iq4_nl_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    dot_runs::<18, 1>(row, x, |block, _| {
        let codes = nibbles(&block[2..], 0, |_| 0).map(|code| VALUES[code as usize & 15]);
        Run::new(codes, f16_at(block, 0), 0.0)
    })
}

/// Scale and minimum of run `s` of a Q4_K or Q5_K block: six bits each, in 12 bytes from byte 4 on.
#[inline(always)]
fn k_scale(block: &[u8], s: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if s < 4 {
        (packed[s] & 63, packed[s + 4] & 63)
    } else {
        let low = packed[s + 4];
        ((low & 15) | (packed[s - 4] >> 6) << 4, (low >> 4) | (packed[s] >> 6) << 4)
    };
    (f16_at(block, 0) * f32::from(scale), -f16_at(block, 2) * f32::from(minimum))
}

#[inline(always)]
fn q4_k_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<144, 8>(row, x, |block, s| {
        let (scale, minimum) = k_scale(block, s);
        let packed = &block[16 + s / 2 * 32..][..BLOCK];
        let shift = 4 * (s % 2);
        Run::new(std::array::from_fn(|l| (packed[l] >> shift & 15) as i8), scale, minimum)
    })
}

#[inline(always)]
fn q5_k_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<176, 8>(row, x, |block, s| {
        let (scale, minimum) = k_scale(block, s);
        let (high, packed) = (&block[16..48], &block[48 + s / 2 * 32..][..BLOCK]);
        let shift = 4 * (s % 2);
        let codes = std::array::from_fn(|l| ((packed[l] >> shift & 15) | (high[l] >> s & 1) << 4) as i8);
        Run::new(codes, scale, minimum)
    })
}

#[inline(always)]
fn q6_k_body<L: Level>(row: &[u8], x: CodedRow<'_>) -> f32 {
    dot_runs::<210, 8>(row, x, |block, s| {
        let (half, r) = (s / 4, s % 4);
        let low = &block[half * 64 + r % 2 * 32..][..BLOCK];
        let high = &block[128 + half * 32..][..BLOCK];
        let codes =
            std::array::from_fn(|l| ((low[l] >> (4 * (r / 2)) & 15) | (high[l] >> (2 * r) & 3) << 4) as i8 - 32);
        let d = f16_at(block, 208);
        let scales = [0, 1].map(|part| d * f32::from(block[192 + 2 * s + part] as i8));
        Run { codes, scales, minimum: 0.0 }
    })
}
