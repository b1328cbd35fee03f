//! Sixteen rows, interleaved: a vector holds four neighbouring codes of each row, so one `dpbusd` with four broadcast
//! activations gives sixteen results without any sum across lanes.
#![expect(unsafe_code, reason = "gathers and loads inside slices, whose lengths are checked first")]

use std::arch::x86_64::*;

use gptoss_gguf::WeightType;

use super::avx512::{MXFP4_OFFSET, mxfp4_table};
use super::{CodedRow, E8M0_NAN};
use crate::isa::Isa;

/// Number of rows in a panel.
pub(crate) const ROWS: usize = 16;
/// How many tokens one pass over a panel serves: their sums and the panel's vector fill the registers.
pub(crate) const TOKENS: usize = 8;

/// One vector's worth of codes, aligned so that it never crosses a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Sixteen rows of weights, unpacked to unsigned bytes and interleaved. 20b rows of 2880 take 52 kB: half of a usual
/// L2.
#[derive(Default)]
pub(crate) struct Panel {
    /// [blocks, 8]: line g of a block holds weights 4g to 4g + 3 of row 0, then of row 1, …
    codes: Vec<Line>,
    /// [blocks, 16].
    scales: Vec<[f32; ROWS]>,
    /// Number that was added to every code.
    offset: i32,
}

impl Panel {
    /// Whether panels work on this instruction set.
    pub fn works_on(isa: Isa) -> bool {
        isa == Isa::Avx512Vnni
    }

    /// Takes up to sixteen rows of `blocks` blocks of a format with an 8-bit path. Only where [`Panel::works_on`].
    pub fn pack(&mut self, format: WeightType, weights: &[u8], blocks: usize) {
        let row_bytes = blocks * format.block_bytes() as usize;
        let rows = weights.len() / row_bytes;
        assert!((1..=ROWS).contains(&rows) && weights.len() == rows * row_bytes, "{rows} rows");
        self.codes.resize(blocks * 8, Line([0; 64]));
        self.scales.resize(blocks, [0.0; ROWS]);
        // Missing rows repeat the last one; nobody looks at their results.
        let starts = std::array::from_fn(|row| (row.min(rows - 1) * row_bytes) as i32);
        // SAFETY: the processor has the features, by the caller; offsets stay inside `weights`, whose length was checked.
        unsafe {
            match format {
                WeightType::Q8_0 => self.pack_q8_0(weights, &starts),
                WeightType::Mxfp4 => self.pack_mxfp4(weights, &starts),
                other => unreachable!("{other:?} has no 8-bit path"),
            }
        }
    }

    /// # Safety
    /// `starts` are offsets of whole rows in `weights`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn pack_q8_0(&mut self, weights: &[u8], starts: &[i32; ROWS]) {
        self.offset = 128;
        // SAFETY: 16 offsets.
        let starts = unsafe { _mm512_loadu_si512(starts.as_ptr().cast()) };
        let flip = _mm512_set1_epi8(i8::MIN);
        for (block, (lines, scales)) in self.codes.chunks_exact_mut(8).zip(&mut self.scales).enumerate() {
            // SAFETY: the 34 bytes of this block lie inside each row: 2 + 8 · 4.
            unsafe {
                let at = weights.as_ptr().add(34 * block);
                let halves = _mm512_cvtepi32_epi16(_mm512_i32gather_epi32::<1>(starts, at.cast()));
                _mm512_storeu_ps(scales.as_mut_ptr(), _mm512_cvtph_ps(halves));
                for (group, line) in lines.iter_mut().enumerate() {
                    let codes = _mm512_i32gather_epi32::<1>(starts, at.add(2 + 4 * group).cast());
                    _mm512_store_si512(line.0.as_mut_ptr().cast(), _mm512_xor_si512(codes, flip));
                }
            }
        }
    }

    /// # Safety
    /// `starts` are offsets of whole rows in `weights`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn pack_mxfp4(&mut self, weights: &[u8], starts: &[i32; ROWS]) {
        self.offset = i32::from(MXFP4_OFFSET);
        // SAFETY: 16 offsets.
        let starts = unsafe { _mm512_loadu_si512(starts.as_ptr().cast()) };
        let table = mxfp4_table();
        let nibble = _mm512_set1_epi8(15);
        for (block, (lines, scales)) in self.codes.chunks_exact_mut(8).zip(&mut self.scales).enumerate() {
            // SAFETY: the 17 bytes of this block lie inside each row: 1 + 4 · 4.
            unsafe {
                let at = weights.as_ptr().add(17 * block);
                let exponents =
                    _mm512_and_si512(_mm512_i32gather_epi32::<1>(starts, at.cast()), _mm512_set1_epi32(255));
                _mm512_storeu_ps(scales.as_mut_ptr(), e8m0_half(exponents));
                for group in 0..4 {
                    let packed = _mm512_i32gather_epi32::<1>(starts, at.add(1 + 4 * group).cast());
                    let low = _mm512_shuffle_epi8(table, _mm512_and_si512(packed, nibble));
                    let high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi32::<4>(packed), nibble));
                    _mm512_store_si512(lines[group].0.as_mut_ptr().cast(), low);
                    _mm512_store_si512(lines[group + 4].0.as_mut_ptr().cast(), high);
                }
            }
        }
    }

    /// Computes `out[t][r] = row r · x[t]` for up to [`TOKENS`] tokens. Only where [`Panel::works_on`].
    pub fn times(&self, x: &[CodedRow<'_>], out: &mut [[f32; ROWS]]) {
        assert!(x.iter().all(|x| x.scales.len() == self.scales.len() && x.codes.len() == 32 * self.scales.len()));
        assert!(x.len() == out.len() && x.len() <= TOKENS);
        /// Calls the kernel for as many tokens as an array of that length has.
        macro_rules! take {
            ($($tokens:literal)+) => {
                match x.len() {
                    0 => {}
                    $($tokens => {
                        let x: &[CodedRow<'_>; $tokens] = x.try_into().expect("the length was just matched");
                        // SAFETY: the processor has the features, by the caller; lengths were checked above.
                        out.copy_from_slice(&unsafe { self.times_avx512(x) });
                    })+
                    more => unreachable!("{more} tokens"),
                }
            };
        }
        take!(1 2 3 4 5 6 7 8);
    }

    /// # Safety
    /// Every row of `x` has as many blocks as the panel.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn times_avx512<const T: usize>(&self, x: &[CodedRow<'_>; T]) -> [[f32; ROWS]; T] {
        let mut results = [_mm512_setzero_ps(); T];
        for (block, (lines, weight_scales)) in self.codes.as_chunks::<8>().0.iter().zip(&self.scales).enumerate() {
            // The sums start at minus what the offset adds.
            let mut sums = [_mm512_setzero_si512(); T];
            for t in 0..T {
                sums[t] = _mm512_set1_epi32(-self.offset * x[t].sums[block]);
            }
            for (group, line) in lines.iter().enumerate() {
                // SAFETY: a line is 64 aligned bytes; codes 32 · block + 4 · group and the three after it are inside.
                let weights = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
                for t in 0..T {
                    // SAFETY: as above; the rows have as many blocks as the panel.
                    let four =
                        unsafe { x[t].codes.as_ptr().add(32 * block + 4 * group).cast::<i32>().read_unaligned() };
                    sums[t] = _mm512_dpbusd_epi32(sums[t], weights, _mm512_set1_epi32(four));
                }
            }
            // SAFETY: sixteen floats.
            let weight_scales = unsafe { _mm512_loadu_ps(weight_scales.as_ptr()) };
            for t in 0..T {
                let scale = _mm512_mul_ps(weight_scales, _mm512_set1_ps(x[t].scales[block]));
                results[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scale, results[t]);
            }
        }
        let mut out = [[0.0; ROWS]; T];
        for (out, result) in out.iter_mut().zip(results) {
            // SAFETY: sixteen floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), result) };
        }
        out
    }
}

/// Half of 2^(exponent − 127) in every lane; exponents 0 and 1 give subnormals, 255 gives NaN.
#[target_feature(enable = "avx512f")]
fn e8m0_half(exponents: __m512i) -> __m512 {
    let one = _mm512_set1_epi32(1);
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, one));
    let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
    let number = _mm512_mask_blend_epi32(_mm512_cmple_epu32_mask(exponents, one), normal, subnormal);
    let is_nan = _mm512_cmpeq_epi32_mask(exponents, _mm512_set1_epi32(255));
    _mm512_castsi512_ps(_mm512_mask_blend_epi32(is_nan, number, _mm512_set1_epi32(E8M0_NAN as i32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::BLOCK;
    use crate::int8::tests::{activations, expected, weights};

    #[test]
    fn a_panel_gives_what_its_rows_give() {
        let isa = Isa::detect();
        if !Panel::works_on(isa) {
            println!("not run: panels need AVX-512 VNNI, this processor has {isa}");
            return;
        }
        for format in [WeightType::Q8_0, WeightType::Mxfp4] {
            for (rows, blocks, tokens) in [(16, 90, 8), (16, 3, 5), (7, 1, 1), (1, 2, 3)] {
                let weights = weights(format, rows, blocks * BLOCK);
                let x = activations(tokens, blocks * BLOCK, isa);
                let x: Vec<_> = (0..tokens).map(|token| CodedRow::of(&x, token)).collect();
                let mut panel = Panel::default();
                // What was in the panel before must not matter.
                panel.pack(format, &super::super::tests::weights(format, 16, (blocks + 1) * BLOCK), blocks + 1);
                panel.codes.truncate(8 * blocks);
                panel.scales.truncate(blocks);
                panel.pack(format, &weights, blocks);
                let mut out = vec![[0.0; ROWS]; tokens];
                panel.times(&x, &mut out);
                for (x, out) in x.iter().zip(&out) {
                    for (row, got) in weights.chunks(weights.len() / rows).zip(out) {
                        let (want, size) = expected(format, row, *x);
                        assert!(
                            (f64::from(*got) - want).abs() <= 1e-6 * (1.0 + size),
                            "{format:?}, {rows} rows, {blocks} blocks: {got}, expected {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_exponent_gives_its_scale() {
        if !Panel::works_on(Isa::detect()) {
            println!("not run: panels need AVX-512 VNNI");
            return;
        }
        for exponent in 0..=255u8 {
            let mut block = [0x22u8; 17];
            block[0] = exponent;
            let mut panel = Panel::default();
            panel.pack(WeightType::Mxfp4, &block, 1);
            assert_eq!(panel.scales[0][0].to_bits(), gptoss_gguf::weight_type::e8m0_half(exponent).to_bits());
        }
    }
}
