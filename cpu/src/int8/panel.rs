//! Sixteen rows, interleaved: a vector holds four neighbouring codes of each of its rows, so one dot product with four
//! broadcast activations gives a result for each row without any sum across lanes. What prefill does, bound by
//! arithmetic.
#![expect(unsafe_code, reason = "loads and stores inside vectors of the panel, whose lengths are set first")]

use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::{Blocks, WithBlocks, e8m0_half};

use super::{CodedRow, unpack};
use crate::isa::{Isa, by_isa};
use crate::simd::{PANEL_ROWS as ROWS, Simd};

/// How many tokens one pass over a panel serves.
pub(crate) const TOKENS: usize = 8;

/// Sixteen words, aligned so that a vector of them never crosses a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Words([u32; ROWS]);

/// Sixteen rows of weights, unpacked to signed bytes and interleaved. 20b rows of 2880 take 52 kB: half of a usual L2.
///
/// With an instruction set whose vectors have fewer lanes than there are rows, the parts (the first LANES rows, the
/// next …) lie one behind the other.
#[derive(Default)]
pub(crate) struct Panel {
    kind: Kind,
    /// Number of blocks of 32 in a row.
    blocks: usize,
    /// [parts, blocks, 8, LANES] words: line g of a block holds weights 4g to 4g + 3 of the part's rows, one byte each.
    codes: Vec<Words>,
    /// [parts, blocks, scales of a block, LANES] floats.
    scales: Vec<Words>,
    /// The same shape: where sums start. Unused where activations are signed.
    starts: Vec<Words>,
    /// [parts, blocks, LANES] floats; empty without minima.
    minima: Vec<Words>,
}

/// How the products of a panel are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// One scale for each block, and weights of any size.
    #[default]
    Wide,
    /// One scale for each block, and weights that are small enough for 16-bit sums over it.
    Narrow,
    /// A scale for each half of a block, and weights that are small enough for 16-bit sums over it.
    NarrowHalves,
}

impl Kind {
    fn of<B: Blocks>() -> Self {
        // Half a block has eight pairs of products for two sums of 16 bits: 8 · 32 · 127 < 2¹⁵.
        match (B::LARGEST_CODE, B::SCALES) {
            (..=16, 1) => Self::Narrow,
            (..=32, _) => Self::NarrowHalves,
            (_, 1) => Self::Wide,
            (largest, scales) => unreachable!("no type has {scales} scales and codes up to {largest}"),
        }
    }

    fn scales(self) -> usize {
        if self == Self::NarrowHalves { 2 } else { 1 }
    }
}

/// A [`Kind`], known to the compiler.
pub(crate) trait KnownKind {
    const NARROW: bool;
    const SCALES: usize;
}

struct Wide;
struct Narrow;
struct NarrowHalves;

impl KnownKind for Wide {
    const NARROW: bool = false;
    const SCALES: usize = 1;
}

impl KnownKind for Narrow {
    const NARROW: bool = true;
    const SCALES: usize = 1;
}

impl KnownKind for NarrowHalves {
    const NARROW: bool = true;
    const SCALES: usize = 2;
}

impl Panel {
    /// Whether a panel is quicker than its rows: of plain Rust the compiler makes better code for rows.
    pub fn pays_on(isa: Isa) -> bool {
        isa != Isa::Portable
    }

    /// Takes up to sixteen rows of a quantised format.
    ///
    /// # Panics
    /// If the format is not quantised, or `weights` are not whole rows of `blocks` blocks of 32.
    pub fn pack(&mut self, isa: Isa, format: WeightType, weights: &[u8], blocks: usize) {
        let row_bytes = blocks * 32 / format.block_weights() as usize * format.block_bytes() as usize;
        let rows = weights.len() / row_bytes;
        assert!((1..=ROWS).contains(&rows) && weights.len() == rows * row_bytes, "{rows} rows");
        // Missing rows repeat the last one; nobody looks at their results.
        let rows = std::array::from_fn(|row| &weights[row.min(rows - 1) * row_bytes..][..row_bytes]);
        let of_blocks = format.with_blocks(OfBlocks);
        let (kind, minima) = of_blocks.unwrap_or_else(|| unreachable!("{format:?} is multiplied elsewhere"));
        self.kind = kind;
        self.blocks = blocks;
        let none = Words([0; ROWS]);
        self.codes.resize(8 * blocks, none);
        self.scales.resize(kind.scales() * blocks, none);
        self.starts.resize(kind.scales() * blocks, none);
        self.minima.resize(if minima { blocks } else { 0 }, none);
        match format {
            WeightType::Q8_0 => pack::<Q8Runs>(isa, self, &rows),
            WeightType::Mxfp4 => pack::<Mxfp4Runs>(isa, self, &rows),
            other => drop(other.with_blocks(Pack { panel: self, isa, rows: &rows })),
        }
        match kind {
            Kind::Wide => start::<Wide>(isa, self),
            Kind::Narrow => start::<Narrow>(isa, self),
            Kind::NarrowHalves => start::<NarrowHalves>(isa, self),
        }
    }

    /// Computes `out[t][r] = row r · x[t]` for up to [`TOKENS`] tokens; `isa` is what the panel was packed for.
    pub fn times(&self, isa: Isa, x: &[CodedRow<'_>], out: &mut [[f32; ROWS]]) {
        assert!(x.iter().all(|x| x.scales.len() == self.blocks && x.codes.len() == 32 * self.blocks));
        assert!(x.len() == out.len() && x.len() <= TOKENS);
        match self.kind {
            Kind::Wide => times::<Wide>(isa, self, x, out),
            Kind::Narrow => times::<Narrow>(isa, self, x, out),
            Kind::NarrowHalves => times::<NarrowHalves>(isa, self, x, out),
        }
    }

    /// Index of line `line` (of 8) of a block of a part: in words of all codes.
    #[inline(always)]
    fn line_at<S: Simd>(&self, part: usize, block: usize, line: usize) -> usize {
        ((part * self.blocks + block) * 8 + line) * S::LANES
    }

    /// Index of scale `scale` (of `scales`) of a block of a part: in words of all scales.
    #[inline(always)]
    fn scale_at<S: Simd>(&self, part: usize, block: usize, scale: usize, scales: usize) -> usize {
        ((part * self.blocks + block) * scales + scale) * S::LANES
    }
}

/// The kind of a format's panels, and whether they have minima.
struct OfBlocks;

impl WithBlocks for OfBlocks {
    type Output = (Kind, bool);

    fn with<B: Blocks>(self) -> (Kind, bool) {
        (Kind::of::<B>(), B::MINIMA)
    }
}

/// Packs a panel of a format that has no unpacking of its own.
struct Pack<'a> {
    panel: &'a mut Panel,
    isa: Isa,
    rows: &'a [&'a [u8]; ROWS],
}

impl WithBlocks for Pack<'_> {
    type Output = ();

    fn with<B: Blocks>(self) {
        pack::<RunsOf<B>>(self.isa, self.panel, self.rows);
    }
}

/// 32 weights of a row, for a panel.
pub(crate) struct Unpacked<R> {
    codes: R,
    /// Scales of the first and the last 16.
    scales: [f32; 2],
    minimum: f32,
}

/// Unpacks rows of a format.
pub(crate) trait Runs {
    /// Whether the weights have minima.
    const MINIMA: bool;

    /// Weights 32 · block to 32 · block + 31 of a row.
    ///
    /// # Safety
    /// The processor has the instructions of the set.
    unsafe fn run<S: Simd>(row: &[u8], block: usize) -> Unpacked<S::Run>;
}

struct Q8Runs;

impl Runs for Q8Runs {
    const MINIMA: bool = false;

    #[inline(always)]
    unsafe fn run<S: Simd>(row: &[u8], block: usize) -> Unpacked<S::Run> {
        let bytes = &row.as_chunks::<34>().0[block];
        let scale = S::widen_one(u16::from_le_bytes([bytes[0], bytes[1]]));
        // SAFETY: 32 codes behind the scale.
        Unpacked { codes: unsafe { S::run(bytes.as_ptr().add(2).cast()) }, scales: [scale; 2], minimum: 0.0 }
    }
}

struct Mxfp4Runs;

impl Runs for Mxfp4Runs {
    const MINIMA: bool = false;

    #[inline(always)]
    unsafe fn run<S: Simd>(row: &[u8], block: usize) -> Unpacked<S::Run> {
        let bytes = &row.as_chunks::<17>().0[block];
        // SAFETY: 16 bytes of codes behind the scale.
        let codes = unsafe { S::e2m1_run(bytes.as_ptr().add(1)) };
        Unpacked { codes, scales: [e8m0_half(bytes[0]); 2], minimum: 0.0 }
    }
}

/// Any other quantised format.
struct RunsOf<B>(std::marker::PhantomData<B>);

impl<B: Blocks> Runs for RunsOf<B> {
    const MINIMA: bool = B::MINIMA;

    #[inline(always)]
    unsafe fn run<S: Simd>(row: &[u8], block: usize) -> Unpacked<S::Run> {
        let run = unpack::<B>(&B::blocks(row)[block / B::RUNS], block % B::RUNS);
        // SAFETY: 32 codes.
        Unpacked { codes: unsafe { S::run(run.codes.as_ptr()) }, scales: run.scales, minimum: run.minimum }
    }
}

by_isa!(
    /// Unpacks and interleaves sixteen rows.
    pack[R: Runs](panel: &mut Panel, rows: &[&[u8]; ROWS]), pack_body);

#[inline(always)]
fn pack_body<S: Simd, R: Runs>(panel: &mut Panel, rows: &[&[u8]; ROWS]) {
    let count = panel.kind.scales();
    let codes = panel.codes.as_mut_ptr().cast::<i8>();
    let behind = rows[ROWS - 1].as_ptr_range().end;
    let share_bytes = ROWS * rows[0].len() / panel.blocks;
    for block in 0..panel.blocks {
        S::prefetch_share(behind, block, share_bytes);
        for quarter in 0..ROWS / 4 {
            let (part, lane) = (4 * quarter / S::LANES, 4 * quarter % S::LANES);
            // SAFETY: `by_isa` calls this where the set's instructions are; the places lie inside the panel's vectors,
            // which have room for all blocks of all parts.
            unsafe {
                let four = [
                    R::run::<S>(rows[4 * quarter], block),
                    R::run::<S>(rows[4 * quarter + 1], block),
                    R::run::<S>(rows[4 * quarter + 2], block),
                    R::run::<S>(rows[4 * quarter + 3], block),
                ];
                let at = codes.add(4 * (panel.line_at::<S>(part, block, 0) + lane));
                S::interleave([four[0].codes, four[1].codes, four[2].codes, four[3].codes], at, 4 * S::LANES);
                for scale in 0..count {
                    let at = panel.scale_at::<S>(part, block, scale, count) + lane;
                    let at = panel.scales.as_mut_ptr().cast::<f32>().add(at);
                    for row in 0..4 {
                        *at.add(row) = four[row].scales[scale];
                    }
                }
                if R::MINIMA {
                    let at = panel.scale_at::<S>(part, block, 0, 1) + lane;
                    let at = panel.minima.as_mut_ptr().cast::<f32>().add(at);
                    for row in 0..4 {
                        *at.add(row) = four[row].minimum;
                    }
                }
            }
        }
    }
}

by_isa!(
    /// Computes where sums start: at minus what 128 times the weights is, where activations are that much larger.
    start[K: KnownKind](panel: &mut Panel), start_body);

#[inline(always)]
fn start_body<S: Simd, K: KnownKind>(panel: &mut Panel) {
    if !S::UNSIGNED[usize::from(K::NARROW)] {
        return;
    }
    let lines = 8 / K::SCALES;
    for part in 0..ROWS / S::LANES {
        for block in 0..panel.blocks {
            for scale in 0..K::SCALES {
                // SAFETY: `by_isa` calls this where the set's instructions are; the places lie inside the vectors.
                unsafe {
                    let mut sums = S::no_sums();
                    for line in 0..lines {
                        let at = panel.line_at::<S>(part, block, scale * lines + line);
                        let line = S::line(panel.codes.as_ptr().cast::<i8>().add(4 * at), K::NARROW);
                        sums = S::step(sums, line, [128u8; 4].as_ptr(), K::NARROW);
                    }
                    let at = panel.scale_at::<S>(part, block, scale, K::SCALES);
                    S::put_negated(sums, panel.starts.as_mut_ptr().cast::<i32>().add(at));
                }
            }
        }
    }
}

by_isa!(
    /// Multiplies a panel with up to [`TOKENS`] tokens.
    times[K: KnownKind](panel: &Panel, x: &[CodedRow<'_>], out: &mut [[f32; ROWS]]), times_body);

#[inline(always)]
fn times_body<S: Simd, K: KnownKind>(panel: &Panel, x: &[CodedRow<'_>], out: &mut [[f32; ROWS]]) {
    let mut first = 0;
    while first < x.len() {
        let (x, out) = (&x[first..], &mut out[first..]);
        first += match x.len() {
            8.. => some_tokens::<S, K, 8>(panel, x, out),
            4.. => some_tokens::<S, K, 4>(panel, x, out),
            2.. => some_tokens::<S, K, 2>(panel, x, out),
            _ => some_tokens::<S, K, 1>(panel, x, out),
        };
    }
}

/// Multiplies a panel with the first T tokens, whose sums stay in registers; returns T.
#[inline(always)]
fn some_tokens<S: Simd, K: KnownKind, const T: usize>(
    panel: &Panel,
    x: &[CodedRow<'_>],
    out: &mut [[f32; ROWS]],
) -> usize {
    let lines = 8 / K::SCALES;
    let unsigned = S::UNSIGNED[usize::from(K::NARROW)];
    let mut codes = [std::ptr::null::<u8>(); T];
    for (codes, x) in codes.iter_mut().zip(x) {
        *codes = if unsigned { x.unsigned.as_ptr() } else { x.codes.as_ptr().cast() };
    }
    for part in 0..ROWS / S::LANES {
        // SAFETY: `by_isa` calls this where the set's instructions are; tokens have as many blocks as the panel, which
        // `Panel::times` asserts, and places of lines and scales lie inside its vectors.
        unsafe {
            let mut results = [S::splat(0.0); T];
            for block in 0..panel.blocks {
                for scale in 0..K::SCALES {
                    let scale_at = panel.scale_at::<S>(part, block, scale, K::SCALES);
                    let start = match unsigned {
                        true => S::sums(panel.starts.as_ptr().cast::<i32>().add(scale_at)),
                        false => S::no_sums(),
                    };
                    let mut sums = [start; T];
                    let weights = |line| {
                        let at = panel.line_at::<S>(part, block, line);
                        S::line(panel.codes.as_ptr().cast::<i8>().add(4 * at), K::NARROW)
                    };
                    if S::PAIRS && T.is_multiple_of(2) {
                        for line in (scale * lines..(scale + 1) * lines).step_by(2) {
                            let weights = [weights(line), weights(line + 1)];
                            let x = |t: usize| codes[t].add(32 * block + 4 * line);
                            for t in (0..T).step_by(2) {
                                let two = [sums[t], sums[t + 1]];
                                [sums[t], sums[t + 1]] = S::step_of_two(two, weights, [x(t), x(t + 1)], K::NARROW);
                            }
                        }
                        for t in (0..T).step_by(2) {
                            [sums[t], sums[t + 1]] = S::part([sums[t], sums[t + 1]]);
                        }
                    } else {
                        for line in scale * lines..(scale + 1) * lines {
                            let weights = weights(line);
                            for t in 0..T {
                                sums[t] = S::step(sums[t], weights, codes[t].add(32 * block + 4 * line), K::NARROW);
                            }
                        }
                    }
                    let weight_scales = S::lanes(panel.scales.as_ptr().cast::<f32>().add(scale_at));
                    for t in 0..T {
                        let scales = S::times(weight_scales, S::splat(*x[t].scales.as_ptr().add(block)));
                        results[t] = S::times_plus(S::finish(sums[t], K::NARROW), scales, results[t]);
                    }
                }
                if !panel.minima.is_empty() {
                    let at = panel.scale_at::<S>(part, block, 0, 1);
                    let minima = S::lanes(panel.minima.as_ptr().cast::<f32>().add(at));
                    for t in 0..T {
                        let sum = x[t].sums[block] as f32 * x[t].scales[block];
                        results[t] = S::times_plus(minima, S::splat(sum), results[t]);
                    }
                }
            }
            for t in 0..T {
                S::put(results[t], out[t].as_mut_ptr().add(part * S::LANES));
            }
        }
    }
    T
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::{Activations, BLOCK, Rows};
    use crate::int8::takes;
    use crate::int8::tests::{activations, expected, weights};

    fn check(format: WeightType, weights: &[u8], x: &Rows, isa: Isa, rows: usize, panel: &mut Panel) {
        let x: Vec<_> = (0..x.count()).map(|token| CodedRow::of(x, token)).collect();
        panel.pack(isa, format, weights, x[0].scales.len());
        let mut out = vec![[0.0; ROWS]; x.len()];
        panel.times(isa, &x, &mut out);
        for (x, out) in x.iter().zip(&out) {
            for (row, got) in weights.chunks(weights.len() / rows).zip(out) {
                let (want, size) = expected(format, row, *x);
                assert!(
                    (f64::from(*got) - want).abs() <= 1e-6 * (1.0 + size),
                    "{format:?} on {isa}, {rows} rows, {} blocks: {got}, expected {want}",
                    x.scales.len()
                );
            }
        }
    }

    #[test]
    fn a_panel_gives_what_its_rows_give_in_every_format_on_every_level() {
        for format in WeightType::ALL.into_iter().filter(|&format| takes(format)) {
            let block = format.block_weights() as usize;
            for (rows, blocks, tokens) in [(16, 90, 8), (16, 3, 7), (7, 1, 1), (1, 2, 3)] {
                for isa in Isa::available() {
                    let mut panel = Panel::default();
                    // What was in the panel before must not matter.
                    panel.pack(isa, WeightType::Q8_0, &weights(WeightType::Q8_0, 16, 640), 20);
                    let x = activations(tokens, blocks * block, isa);
                    check(format, &weights(format, rows, blocks * block), &x, isa, rows, &mut panel);
                }
            }
        }
    }

    /// Sums in few bits hold also where all codes and activations are the largest, of either sign.
    #[test]
    fn the_largest_sums_are_exact() {
        for format in WeightType::ALL.into_iter().filter(|&format| takes(format)) {
            let columns = format.block_weights() as usize;
            for byte in [0x00, 0x77, 0x7f, 0x80, 0x88, 0xff] {
                let mut weights = weights(format, 1, columns);
                let numbers = format.numbers();
                for (at, place) in weights.iter_mut().enumerate() {
                    if !numbers.iter().any(|n| (n.at..n.at + n.encoding.size_bytes()).contains(&at)) {
                        *place = byte;
                    }
                }
                for isa in Isa::available() {
                    for value in [1.0, -1.0] {
                        let mut x = Rows { columns, values: vec![value; columns], ..Rows::default() };
                        x.quantise(isa, Activations::Int8);
                        assert!(x.codes.iter().all(|&code| f32::from(code) == 127.0 * value));
                        check(format, &weights, &x, isa, 1, &mut Panel::default());
                        let (want, size) = expected(format, &weights, CodedRow::of(&x, 0));
                        let mut out = [0.0];
                        crate::int8::dot_rows(isa, format, &weights, CodedRow::of(&x, 0), &mut out);
                        let error = (f64::from(out[0]) - want).abs();
                        assert!(error <= 1e-6 * (1.0 + size), "{format:?} on {isa}: {}, expected {want}", out[0]);
                    }
                }
            }
        }
    }

    /// What is written for AVX-VNNI, with the same dot products in the encoding of AVX-512.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn dot_products_of_256_bits_give_what_rows_give() {
        use crate::int8::rows::{self, dot_rows_body};
        use crate::simd::{AVX512_VNNI_VL, Avx2};
        type Set = Avx2<true, AVX512_VNNI_VL>;

        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
        fn panel_times<R: Runs, K: KnownKind>(
            panel: &mut Panel,
            rows: &[&[u8]; ROWS],
            x: &[CodedRow<'_>],
            out: &mut [[f32; ROWS]],
        ) {
            pack_body::<Set, R>(panel, rows);
            start_body::<Set, K>(panel);
            times_body::<Set, K>(panel, x, out);
        }

        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
        fn rows_times<F: rows::RowFormat>(weights: &[u8], x: CodedRow<'_>, out: &mut [f32]) {
            dot_rows_body::<Set, F>(weights, x, out);
        }

        if !Isa::Avx512Vnni.is_available() {
            println!("NOT TESTED HERE: dot products of 256 bits, for which this processor lacks AVX-512 VNNI");
            return;
        }
        for format in [WeightType::Q8_0, WeightType::Mxfp4] {
            let blocks = 7;
            let weights = weights(format, ROWS, blocks * BLOCK);
            let row_bytes = weights.len() / ROWS;
            let x = activations(5, blocks * BLOCK, Isa::Portable);
            let x: Vec<_> = (0..5).map(|token| CodedRow::of(&x, token)).collect();
            let mut panel = Panel::default();
            // Makes room of the right shape.
            panel.pack(Isa::Portable, format, &weights, blocks);
            let rows = std::array::from_fn(|row| &weights[row * row_bytes..][..row_bytes]);
            let (mut out, mut of_rows) = ([[0.0; ROWS]; 5], [[0.0; ROWS]; 5]);
            // SAFETY: the processor has the instructions, as was just asked.
            unsafe {
                match format {
                    WeightType::Q8_0 => panel_times::<Q8Runs, Wide>(&mut panel, &rows, &x, &mut out),
                    _ => panel_times::<Mxfp4Runs, Narrow>(&mut panel, &rows, &x, &mut out),
                }
                for (x, out) in x.iter().zip(&mut of_rows) {
                    match format {
                        WeightType::Q8_0 => rows_times::<rows::Q8_0>(&weights, *x, out),
                        _ => rows_times::<rows::Mxfp4>(&weights, *x, out),
                    }
                }
            }
            for (t, x) in x.iter().enumerate() {
                for (r, row) in rows.iter().enumerate() {
                    let (want, size) = expected(format, row, *x);
                    for got in [out[t][r], of_rows[t][r]] {
                        assert!((f64::from(got) - want).abs() <= 1e-6 * (1.0 + size), "{format:?}: {got}, not {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_exponent_gives_its_scale() {
        for isa in Isa::available() {
            let x = activations(1, BLOCK, isa);
            for exponent in 0..=255u8 {
                let mut block = [0x22u8; 17];
                block[0] = exponent;
                let mut panel = Panel::default();
                panel.pack(isa, WeightType::Mxfp4, &block, 1);
                assert_eq!(panel.scales[0].0[0], e8m0_half(exponent).to_bits(), "{isa}");
                let mut out = [[0.0; ROWS]];
                panel.times(isa, &[CodedRow::of(&x, 0)], &mut out);
                assert_eq!(out[0][0].is_nan(), exponent == 255, "{isa}: {exponent}");
            }
        }
    }
}
