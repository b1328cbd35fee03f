//! Exact decoding, one block at a time. Slow and plain: it is the specification.
//!
//! Scales have 11 significant bits, sub-block scales at most 7 and codes at most 8, so that products are exact in F32
//! in any order; only adding a minimum rounds, once. A fused multiply-add therefore gives the same bits.

use super::Format;

/// Twice the value of each E2M1 code: all are whole numbers.
pub const E2M1_DOUBLED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, -0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// The values of IQ4_NL's codes.
const IQ4_NL: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// Half of 2^(exponent − 127), which makes up for the doubled codes; of 255, NaN (OCP Microscaling, 5.4.1).
pub fn e8m0_half(exponent: u8) -> f32 {
    match exponent {
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        255 => f32::NAN,
        _ => f32::from_bits((u32::from(exponent) - 1) << 23),
    }
}

pub(super) fn decode(format: Format, bytes: &[u8]) -> Vec<f32> {
    let unit = match format {
        Format::F32 => 4,
        Format::F16 | Format::Bf16 => 2,
        _ => format.block_bytes() as usize,
    };
    assert_eq!(bytes.len() % unit, 0, "{}: {} bytes are not a whole number of units", format.name(), bytes.len());
    let units = bytes.chunks_exact(unit);
    match format {
        Format::F32 => units.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Format::F16 => units.map(|b| f16_at(b, 0)).collect(),
        Format::Bf16 => units.map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Format::Q8_0 => units.flat_map(q8_0).collect(),
        Format::Mxfp4 => units.flat_map(mxfp4).collect(),
        Format::Q4_0 => units.flat_map(q4_0).collect(),
        Format::Q4_1 => units.flat_map(q4_1).collect(),
        Format::Q5_0 => units.flat_map(q5_0).collect(),
        Format::Q5_1 => units.flat_map(q5_1).collect(),
        Format::Q4K => units.flat_map(q4_k).collect(),
        Format::Q5K => units.flat_map(q5_k).collect(),
        Format::Q6K => units.flat_map(q6_k).collect(),
        Format::Iq4Nl => units.flat_map(iq4_nl).collect(),
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The nibble of weight `j` of 32: low nibbles first, then high ones.
fn nibble(codes: &[u8], j: usize) -> u8 {
    if j < 16 { codes[j] & 15 } else { codes[j - 16] >> 4 }
}

/// The nibble of weight `j` with its bit of the 32 in `high` on top.
fn five_bits(codes: &[u8], high: &[u8], j: usize) -> u8 {
    nibble(codes, j) | (high[j / 8] >> (j % 8) & 1) << 4
}

fn q8_0(block: &[u8]) -> [f32; 32] {
    let scale = f16_at(block, 0);
    std::array::from_fn(|j| f32::from(block[2 + j] as i8) * scale)
}

fn mxfp4(block: &[u8]) -> [f32; 32] {
    let half_scale = e8m0_half(block[0]);
    std::array::from_fn(|j| E2M1_DOUBLED[usize::from(nibble(&block[1..], j))] * half_scale)
}

fn q4_0(block: &[u8]) -> [f32; 32] {
    let scale = f16_at(block, 0);
    std::array::from_fn(|j| (f32::from(nibble(&block[2..], j)) - 8.0) * scale)
}

fn q4_1(block: &[u8]) -> [f32; 32] {
    let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
    std::array::from_fn(|j| f32::from(nibble(&block[4..], j)) * scale + minimum)
}

fn q5_0(block: &[u8]) -> [f32; 32] {
    let scale = f16_at(block, 0);
    std::array::from_fn(|j| (f32::from(five_bits(&block[6..], &block[2..6], j)) - 16.0) * scale)
}

fn q5_1(block: &[u8]) -> [f32; 32] {
    let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
    std::array::from_fn(|j| f32::from(five_bits(&block[8..], &block[4..8], j)) * scale + minimum)
}

fn iq4_nl(block: &[u8]) -> [f32; 32] {
    let scale = f16_at(block, 0);
    std::array::from_fn(|j| IQ4_NL[usize::from(nibble(&block[2..], j))] * scale)
}

/// The 6-bit scale and minimum of run `s` of 8. Bytes 0 to 3 hold the scales of runs 0 to 3 in their low six bits,
/// bytes 4 to 7 the minima; bytes 8 to 11 hold the low four bits of the scales (low nibble) and minima (high nibble) of
/// runs 4 to 7, whose upper two bits are on top of bytes 0 to 7.
fn six_bit_pair(packed: &[u8], s: usize) -> (u8, u8) {
    if s < 4 {
        return (packed[s] & 63, packed[s + 4] & 63);
    }
    let low = packed[s + 4];
    ((low & 15) | (packed[s - 4] >> 6) << 4, (low >> 4) | (packed[s] >> 6) << 4)
}

/// Scale and minimum of run `s` of a Q4_K or Q5_K block.
fn k_scale(block: &[u8], s: usize) -> (f32, f32) {
    let (scale, minimum) = six_bit_pair(&block[4..16], s);
    (f16_at(block, 0) * f32::from(scale), f16_at(block, 2) * f32::from(minimum))
}

/// The nibble of weight `l` of run `s`: pairs of runs share 32 bytes.
fn k_nibble(codes: &[u8], s: usize, l: usize) -> u8 {
    codes[s / 2 * 32 + l] >> (4 * (s % 2)) & 15
}

fn q4_k(block: &[u8]) -> [f32; 256] {
    std::array::from_fn(|i| {
        let (s, l) = (i / 32, i % 32);
        let (scale, minimum) = k_scale(block, s);
        f32::from(k_nibble(&block[16..], s, l)) * scale - minimum
    })
}

fn q5_k(block: &[u8]) -> [f32; 256] {
    std::array::from_fn(|i| {
        let (s, l) = (i / 32, i % 32);
        let (scale, minimum) = k_scale(block, s);
        let code = k_nibble(&block[48..], s, l) | (block[16 + l] >> s & 1) << 4;
        f32::from(code) * scale - minimum
    })
}

/// Runs 0 to 3 take their low nibbles from the first 64 bytes (runs 0 and 2 share 32 of them, 1 and 3 the others) and
/// their high bits from the first 32 bytes of those, two bits a run; runs 4 to 7 likewise from the second halves.
fn q6_k(block: &[u8]) -> [f32; 256] {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16_at(block, 208);
    std::array::from_fn(|i| {
        let (half, r, l) = (i / 128, i / 32 % 4, i % 32);
        let nibble = low[half * 64 + r % 2 * 32 + l] >> (4 * (r / 2)) & 15;
        let code = nibble | (high[half * 32 + l] >> (2 * r) & 3) << 4;
        let scale = d * f32::from(scales[i / 16] as i8);
        (f32::from(code) - 32.0) * scale
    })
}
