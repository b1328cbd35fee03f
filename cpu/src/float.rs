//! Products of weights in any format with F32 activations.

use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::{E2M1_DOUBLED_F32, e8m0_half};
use half::{bf16, f16};

use crate::activations::BLOCK;
use crate::isa::{Isa, by_isa};
use crate::simd::Simd;
use crate::vector::{dot, sum_of};

/// Number of rows in a panel.
pub(crate) const ROWS: usize = 16;
/// How many tokens one pass over a panel serves.
pub(crate) const TOKENS: usize = 8;

/// Computes `row · x`. Blocks of the common formats are decoded in registers, one at a time.
pub(crate) fn dot_row(isa: Isa, format: WeightType, row: &[u8], x: &[f32]) -> f32 {
    match format {
        WeightType::F32 => dot_f32(isa, row, x),
        WeightType::F16 => dot_f16(isa, row, x),
        WeightType::Bf16 => dot_bf16(isa, row, x),
        WeightType::Q8_0 => dot_q8_0(isa, row, x),
        WeightType::Mxfp4 => dot_mxfp4(isa, row, x),
        other => dot(isa, &other.decode(row), x),
    }
}

by_isa!(dot_f32(row: &[u8], x: &[f32]) -> f32, dot_f32_body);
by_isa!(dot_f16(row: &[u8], x: &[f32]) -> f32, dot_f16_body);
by_isa!(dot_bf16(row: &[u8], x: &[f32]) -> f32, dot_bf16_body);
by_isa!(dot_q8_0(row: &[u8], x: &[f32]) -> f32, dot_q8_0_body);
by_isa!(dot_mxfp4(row: &[u8], x: &[f32]) -> f32, dot_mxfp4_body);

/// Sums over blocks of `BYTES` bytes; `decode` gives the 32 weights of one.
#[inline(always)]
fn dot_blocks<S: Simd, const BYTES: usize>(
    row: &[u8],
    x: &[f32],
    decode: impl Fn(&[u8; BYTES]) -> [f32; BLOCK],
) -> f32 {
    let mut sums = [0.0f32; 16];
    for (block, x) in row.as_chunks::<BYTES>().0.iter().zip(x.as_chunks::<BLOCK>().0) {
        let weights = decode(block);
        for half in 0..2 {
            for lane in 0..16 {
                sums[lane] = S::mul_add(weights[16 * half + lane], x[16 * half + lane], sums[lane]);
            }
        }
    }
    sum_of(sums)
}

#[inline(always)]
fn dot_f32_body<S: Simd>(row: &[u8], x: &[f32]) -> f32 {
    dot_blocks::<S, 128>(row, x, |block| {
        std::array::from_fn(|i| {
            f32::from_le_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]])
        })
    })
}

#[inline(always)]
fn dot_f16_body<S: Simd>(row: &[u8], x: &[f32]) -> f32 {
    dot_blocks::<S, 64>(row, x, |block| {
        let mut weights = [0.0; BLOCK];
        for half in 0..2 {
            let halves: [u16; 16] =
                std::array::from_fn(|i| u16::from_le_bytes([block[32 * half + 2 * i], block[32 * half + 2 * i + 1]]));
            weights[16 * half..][..16].copy_from_slice(&S::widen(&halves));
        }
        weights
    })
}

#[inline(always)]
fn dot_bf16_body<S: Simd>(row: &[u8], x: &[f32]) -> f32 {
    dot_blocks::<S, 64>(row, x, |block| {
        std::array::from_fn(|i| bf16::from_le_bytes([block[2 * i], block[2 * i + 1]]).to_f32())
    })
}

#[inline(always)]
fn dot_q8_0_body<S: Simd>(row: &[u8], x: &[f32]) -> f32 {
    dot_blocks::<S, 34>(row, x, |block| {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        std::array::from_fn(|i| f32::from(block[2 + i] as i8) * scale)
    })
}

#[inline(always)]
fn dot_mxfp4_body<S: Simd>(row: &[u8], x: &[f32]) -> f32 {
    dot_blocks::<S, 17>(row, x, |block| {
        let scale = e8m0_half(block[0]);
        std::array::from_fn(|i| {
            let code = if i < BLOCK / 2 { block[1 + i] & 15 } else { block[1 + i - BLOCK / 2] >> 4 };
            E2M1_DOUBLED_F32[usize::from(code)] * scale
        })
    })
}

/// Up to sixteen rows, decoded and interleaved: `[columns, 16]`.
#[derive(Default)]
pub(crate) struct Panel {
    values: Vec<[f32; ROWS]>,
}

impl Panel {
    /// Takes the rows of `weights`, which have `columns` weights each.
    pub fn pack(&mut self, format: WeightType, weights: &[u8], rows: usize, columns: usize) {
        assert!((1..=ROWS).contains(&rows));
        self.values.resize(columns, [0.0; ROWS]);
        for (row, bytes) in weights.chunks_exact(weights.len() / rows).enumerate() {
            for (values, weight) in self.values.iter_mut().zip(format.decode(bytes)) {
                values[row] = weight;
            }
        }
    }

    /// Computes `out[t][r] = row r · x[t]` for up to [`TOKENS`] tokens.
    pub fn times(&self, isa: Isa, x: &[&[f32]], out: &mut [[f32; ROWS]]) {
        assert!(x.len() == out.len() && x.len() <= TOKENS && x.iter().all(|x| x.len() == self.values.len()));
        panel_times(isa, &self.values, x, out);
    }
}

by_isa!(panel_times(values: &[[f32; ROWS]], x: &[&[f32]], out: &mut [[f32; ROWS]]), panel_times_body);

#[inline(always)]
fn panel_times_body<S: Simd>(values: &[[f32; ROWS]], x: &[&[f32]], out: &mut [[f32; ROWS]]) {
    match x.len() {
        8 => panel_times_tokens::<S, 8>(values, x, out),
        4..=7 => {
            panel_times_tokens::<S, 4>(values, &x[..4], &mut out[..4]);
            for (x, out) in x[4..].iter().zip(&mut out[4..]) {
                panel_times_tokens::<S, 1>(values, &[*x], std::slice::from_mut(out));
            }
        }
        _ => {
            for (x, out) in x.iter().zip(out) {
                panel_times_tokens::<S, 1>(values, &[*x], std::slice::from_mut(out));
            }
        }
    }
}

#[inline(always)]
fn panel_times_tokens<S: Simd, const T: usize>(values: &[[f32; ROWS]], x: &[&[f32]], out: &mut [[f32; ROWS]]) {
    let mut sums = [[0.0f32; ROWS]; T];
    for (k, weights) in values.iter().enumerate() {
        for t in 0..T {
            let x = x[t][k];
            for row in 0..ROWS {
                sums[t][row] = S::mul_add(weights[row], x, sums[t][row]);
            }
        }
    }
    out.copy_from_slice(&sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes whose scales are ordinary numbers in every format.
    fn weights(format: WeightType, rows: usize, columns: usize) -> Vec<u8> {
        let number = |i: usize| ((i * 7919 % 509) as f32 - 254.0) * 0.01;
        let count = rows * columns;
        match format {
            WeightType::F32 => (0..count).flat_map(|i| number(i).to_le_bytes()).collect(),
            WeightType::F16 => (0..count).flat_map(|i| f16::from_f32(number(i)).to_le_bytes()).collect(),
            WeightType::Bf16 => (0..count).flat_map(|i| bf16::from_f32(number(i)).to_le_bytes()).collect(),
            quantised => crate::int8::tests::weights(quantised, rows, columns),
        }
    }

    #[test]
    fn rows_and_panels_in_every_format_on_every_level() {
        for format in WeightType::ALL {
            let block = format.block_weights() as usize;
            for (rows, columns, tokens) in [(16, 5 * block, 8), (5, block, 7), (1, 11 * block, 1)] {
                let bytes = weights(format, rows, columns);
                let values: Vec<Vec<f32>> = (0..tokens)
                    .map(|t| (0..columns).map(|k| ((t * 131 + k * 37) % 211) as f32 * 0.01 - 1.05).collect())
                    .collect();
                let x: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                let decoded: Vec<Vec<f32>> = bytes.chunks(bytes.len() / rows).map(|row| format.decode(row)).collect();
                for isa in Isa::available() {
                    let mut panel = Panel::default();
                    panel.pack(format, &bytes, rows, columns);
                    let mut out = vec![[0.0; ROWS]; tokens];
                    panel.times(isa, &x, &mut out);
                    for (t, out) in out.iter().enumerate() {
                        for (row, (weights, bytes)) in decoded.iter().zip(bytes.chunks(bytes.len() / rows)).enumerate()
                        {
                            let products = weights.iter().zip(x[t]).map(|(&w, &x)| f64::from(w) * f64::from(x));
                            let (want, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                            for got in [out[row], dot_row(isa, format, bytes, x[t])] {
                                assert!(
                                    (f64::from(got) - want).abs() <= 1e-6 * (1.0 + size),
                                    "{format:?} on {isa}: {got}, expected {want}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
