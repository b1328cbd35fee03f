//! Activations as the kernels take them: F32, or 8 bits with a scale per block of 32.

use crate::isa::{Isa, by_isa};
use crate::simd::Simd;
use crate::vector::largest_bits_body;

/// Number of activations in a block.
pub(crate) const BLOCK: usize = 32;

/// Precision of activations in products with quantised weights. Everything between the products is F32 in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Full precision, for comparisons: only the order of sums differs from the scalar reference.
    F32,
    /// 8 bits per block of 32, which is faster.
    #[default]
    Int8,
}

/// Rows of activations, ready for products with weights of any format.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub columns: usize,
    pub values: Vec<f32>,
    /// The values divided by their scale and rounded; empty if not needed.
    pub codes: Vec<i8>,
    /// The codes plus 128: some instructions take them so.
    pub unsigned: Vec<u8>,
    /// Scale of each block, [rows, columns / 32].
    pub scales: Vec<f32>,
    /// Sum of the codes of each block.
    pub sums: Vec<i32>,
}

impl Rows {
    /// Resizes to `rows` rows of `columns`; contents are left over or zero.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        self.columns = columns;
        self.values.resize(rows * columns, 0.0);
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    pub fn count(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The rows in an order that suits weights whose codes are in the order [`gptoss_gguf::CodeOrder::Neighbours`]:
    /// read as ggml's, such a block gives weights 0, 2, …, 30, then 1, 3, …, 31. A product is a sum over pairs, whose
    /// order is free.
    pub fn for_neighbours(&self) -> Self {
        Self {
            columns: self.columns,
            values: even_then_odd(&self.values),
            codes: even_then_odd(&self.codes),
            unsigned: even_then_odd(&self.unsigned),
            scales: self.scales.clone(),
            sums: self.sums.clone(),
        }
    }

    /// Updates the 8-bit form if the products will use it.
    pub fn quantise(&mut self, isa: Isa, activations: Activations) {
        if activations == Activations::F32 {
            return;
        }
        let blocks = self.values.len() / BLOCK;
        self.codes.resize(self.values.len(), 0);
        self.unsigned.resize(self.values.len(), 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(blocks, 0);
        quantise(isa, &self.values, &mut self.codes, &mut self.scales, &mut self.sums);
        for (unsigned, &code) in self.unsigned.iter_mut().zip(&self.codes) {
            *unsigned = code as u8 ^ 0x80;
        }
    }
}

/// Reorders each block: first the values at even places, then those at odd ones.
fn even_then_odd<T: Copy>(values: &[T]) -> Vec<T> {
    let block =
        |block: &[T]| [0, 1].map(|first| block.iter().skip(first).step_by(2).copied().collect::<Vec<T>>()).concat();
    values.chunks_exact(BLOCK).flat_map(block).collect()
}

by_isa!(
    /// Quantises `values` in blocks of 32 to codes from −127 to 127, with scales and sums of codes.
    quantise(values: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]), quantise_body);

#[inline(always)]
fn quantise_body<S: Simd>(values: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let blocks = values.as_chunks::<BLOCK>().0.iter().zip(codes.as_chunks_mut::<BLOCK>().0);
    for ((values, codes), (scale, sum)) in blocks.zip(scales.iter_mut().zip(sums)) {
        // NaN if a value is NaN, otherwise infinite if one is infinite: the scale carries it into every product of the
        // block.
        let largest = f32::from_bits(largest_bits_body::<S>(values));
        *scale = largest / 127.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        *sum = 0;
        for (code, value) in codes.iter_mut().zip(values) {
            // The value is never out of range, and the cast saturates; NaN becomes 0.
            *code = (value * inverse).round_ties_even() as i8;
            *sum += i32::from(*code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_within_half_a_step_and_all_levels_agree() {
        let values: Vec<f32> =
            (0..160).map(|i| ((i * 37 % 101) as f32 - 50.0) * if i < 64 { 0.03 } else { 2.5 }).collect();
        let mut first: Option<Rows> = None;
        for isa in Isa::available() {
            let mut rows = Rows { columns: 160, values: values.clone(), ..Rows::default() };
            rows.quantise(isa, Activations::Int8);
            for (block, (values, codes)) in values.chunks(BLOCK).zip(rows.codes.chunks(BLOCK)).enumerate() {
                let scale = rows.scales[block];
                assert!(values.iter().zip(codes).all(|(v, &c)| (v - f32::from(c) * scale).abs() <= 0.5001 * scale));
                assert_eq!(rows.sums[block], codes.iter().map(|&c| i32::from(c)).sum::<i32>());
            }
            let first = first.get_or_insert_with(|| rows.clone());
            assert_eq!((&first.codes, &first.scales), (&rows.codes, &rows.scales), "{isa}");
        }
    }

    #[test]
    fn a_block_with_a_value_that_is_not_finite_has_a_scale_that_is_not() {
        for isa in Isa::available() {
            for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for place in 0..32 {
                    let mut values: Vec<f32> = (0..96).map(|i| i as f32 - 40.0).collect();
                    values[32 + place] = value;
                    let mut rows = Rows { columns: 96, values, ..Rows::default() };
                    rows.quantise(isa, Activations::Int8);
                    let finite: Vec<bool> = rows.scales.iter().map(|scale| scale.is_finite()).collect();
                    assert_eq!(finite, [true, false, true], "{isa}: {value} at {place}");
                }
            }
        }
    }

    #[test]
    fn a_block_of_zeros_has_scale_zero() {
        let mut rows = Rows { columns: 32, values: vec![0.0; 32], ..Rows::default() };
        rows.quantise(Isa::detect(), Activations::Int8);
        assert_eq!((rows.scales[0], rows.sums[0]), (0.0, 0));
        assert!(rows.codes.iter().all(|&code| code == 0));
    }
}
