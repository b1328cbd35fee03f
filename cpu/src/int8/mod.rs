//! Products of quantised weights with 8-bit activations, without expanding the weights.
//!
//! A block of 32 contributes `weight scale · activation scale · Σ code · code`; the sum is exact in whole numbers, the
//! rest is F32. Two shapes: rows times one token ([`dot_rows`], decode), and [`Panel`]s of sixteen interleaved rows times
//! several tokens (prefill).

mod panel;
mod rows;
mod runs;

use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::{Blocks, Run};

use crate::activations::{BLOCK, Rows};
use crate::isa::Isa;

pub(crate) use panel::Panel;

/// One row of 8-bit activations.
#[derive(Clone, Copy)]
pub(crate) struct CodedRow<'a> {
    pub codes: &'a [i8],
    /// The codes plus 128.
    pub unsigned: &'a [u8],
    /// One scale per block of 32 codes.
    pub scales: &'a [f32],
    /// Sum of the codes of each block.
    pub sums: &'a [i32],
}

impl<'a> CodedRow<'a> {
    pub fn of(rows: &'a Rows, row: usize) -> Self {
        let blocks = rows.columns / BLOCK;
        Self {
            codes: &rows.codes[row * rows.columns..][..rows.columns],
            unsigned: &rows.unsigned[row * rows.columns..][..rows.columns],
            scales: &rows.scales[row * blocks..][..blocks],
            sums: &rows.sums[row * blocks..][..blocks],
        }
    }
}

/// Whether a format is multiplied with 8-bit activations: all quantised ones are. The others are multiplied in F32.
pub(crate) fn takes(format: WeightType) -> bool {
    format.is_quantised()
}

/// Whether rows of a format are multiplied block by block in registers; those of others are unpacked for every token.
pub(crate) fn in_registers(format: WeightType) -> bool {
    matches!(format, WeightType::Q8_0 | WeightType::Mxfp4)
}

/// Computes `out[r] = weights[r] · x`: as many rows as `out` has places, each of `x.scales.len()` blocks.
pub(crate) fn dot_rows(isa: Isa, format: WeightType, weights: &[u8], x: CodedRow<'_>, out: &mut [f32]) {
    let row_bytes = x.codes.len() / format.block_weights() as usize * format.block_bytes() as usize;
    assert_eq!(weights.len(), out.len() * row_bytes, "{format:?}: rows of {row_bytes} bytes");
    assert_eq!(x.codes.len(), x.scales.len() * BLOCK);
    match format {
        WeightType::Q8_0 => rows::dot_rows::<rows::Q8_0>(isa, weights, x, out),
        WeightType::Mxfp4 => rows::dot_rows::<rows::Mxfp4>(isa, weights, x, out),
        other => {
            for (out, row) in out.iter_mut().zip(weights.chunks_exact(row_bytes)) {
                *out = runs::dot(isa, other, row, x);
            }
        }
    }
}

/// Unpacks a run. This is not inlined, because inlined into the products it makes the code of both slower.
#[inline(never)]
fn unpack<B: Blocks>(block: &B::Block, s: usize) -> Run {
    B::run(block, s)
}

#[cfg(test)]
pub(crate) mod tests {
    use gptoss_gguf::CodeOrder;
    use gptoss_gguf::numbers::Encoding;
    use rand_xoshiro::SplitMix64;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::activations::Activations;

    /// Weights with bytes of every value, and scales and minima of ordinary size; `columns` is a multiple of the block.
    pub(crate) fn weights(format: WeightType, rows: usize, columns: usize) -> Vec<u8> {
        let mut random = SplitMix64::seed_from_u64(20_26);
        let mut next = move || (random.next_u64() >> 32) as u32;
        let blocks = rows * columns / format.block_weights() as usize;
        let mut bytes = Vec::new();
        for _ in 0..blocks {
            let first = bytes.len();
            bytes.extend((0..format.block_bytes()).map(|_| next() as u8));
            for number in format.numbers() {
                if number.encoding == Encoding::E8m0 {
                    bytes[first + number.at] = (118 + next() % 10) as u8;
                } else {
                    let scale = half::f16::from_f32((next() % 1000) as f32 * 1e-4 - 0.03);
                    bytes[first + number.at..][..2].copy_from_slice(&scale.to_le_bytes());
                }
            }
        }
        bytes
    }

    pub(crate) fn activations(rows: usize, columns: usize, isa: Isa) -> Rows {
        let values = (0..rows * columns).map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 0.013).collect();
        let mut rows = Rows { columns, values, ..Rows::default() };
        rows.quantise(isa, Activations::Int8);
        rows
    }

    /// The product in F64, and the sum of its terms' magnitudes.
    pub(crate) fn expected(format: WeightType, row: &[u8], x: CodedRow<'_>) -> (f64, f64) {
        let values = x.codes.iter().enumerate().map(|(i, &code)| f64::from(code) * f64::from(x.scales[i / BLOCK]));
        let products = format.decode(row).into_iter().zip(values).map(|(w, x)| f64::from(w) * x);
        products.fold((0.0, 0.0), |(sum, size), product| (sum + product, size + product.abs()))
    }

    /// Blocks whose codes are in the other order are multiplied as they are, with activations in that order.
    #[test]
    fn neighbouring_codes_meet_activations_in_their_order() {
        for isa in Isa::available() {
            for blocks in [1, 2, 5, 90] {
                let stored = weights(WeightType::Mxfp4, 6, blocks * BLOCK);
                let mut meant = stored.clone();
                CodeOrder::Neighbours.to_halves(&mut meant);
                assert_ne!(stored, meant);
                let x = activations(1, blocks * BLOCK, isa);
                let reordered = x.for_neighbours();
                let mut out = [0.0; 6];
                dot_rows(isa, WeightType::Mxfp4, &stored, CodedRow::of(&reordered, 0), &mut out);
                for (row, got) in meant.chunks(blocks * WeightType::Mxfp4.block_bytes() as usize).zip(out) {
                    let (want, size) = expected(WeightType::Mxfp4, row, CodedRow::of(&x, 0));
                    assert!((f64::from(got) - want).abs() <= 1e-6 * (1.0 + size), "{isa}: {got}, expected {want}");
                }
            }
        }
    }

    #[test]
    fn rows_times_codes_in_every_format_on_every_level() {
        for format in WeightType::ALL.into_iter().filter(|&format| takes(format)) {
            // Odd and even numbers of blocks, and fewer than a vector's worth.
            for blocks in [1, 2, 3, 5, 8, 90, 91] {
                let columns = blocks * format.block_weights() as usize;
                // Six rows: four at once, then two.
                let weights = weights(format, 6, columns);
                let row_bytes = weights.len() / 6;
                for isa in Isa::available() {
                    let x = activations(1, columns, isa);
                    let x = CodedRow::of(&x, 0);
                    let mut out = [0.0; 6];
                    dot_rows(isa, format, &weights, x, &mut out);
                    for (row, got) in weights.chunks(row_bytes).zip(out) {
                        let (want, size) = expected(format, row, x);
                        assert!(
                            (f64::from(got) - want).abs() <= 1e-6 * (1.0 + size),
                            "{format:?} on {isa}, {blocks} blocks: {got}, expected {want}"
                        );
                    }
                }
            }
        }
    }
}
