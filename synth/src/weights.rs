//! Made-up weights, written straight into ggml's block formats: random codes under scales that give the values the
//! deviation asked for. Layouts: ggml-common.h.

use gptoss_gguf::WeightType;
use gptoss_gguf::numbers::Encoding;
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::random::{fill, row_key, tensor_key};
use crate::{SynthError, TensorType};

/// How the values of a tensor are distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Distribution {
    /// Mean of types without blocks. It is zero in block types, which only matrices have.
    pub(crate) mean: f32,
    /// Standard deviation.
    pub(crate) deviation: f32,
}

/// Makes the rows of one tensor.
#[derive(Debug)]
pub(crate) struct Rows {
    key: u64,
    columns: usize,
    row_bytes: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    F32(Distribution),
    F16(Distribution),
    Bf16(Distribution),
    Blocks(Blocks),
}

/// A block type: all bytes of a block are random but its scale fields, which come from a table by a random byte.
#[derive(Debug)]
struct Blocks {
    block_bytes: usize,
    /// Where the scale fields lie in a block.
    at: usize,
    /// How many bytes they have: 1, 2 or 4.
    len: usize,
    table: Box<[[u8; 4]; 256]>,
}

impl Rows {
    /// Rows of `columns` weights, a whole number of blocks.
    pub(crate) fn new(
        seed: u64,
        name: &str,
        kind: TensorType,
        columns: u64,
        distribution: Distribution,
    ) -> Result<Self, SynthError> {
        let unsupported = || SynthError::UnsupportedType { kind };
        let values = match kind {
            TensorType::F32 => Values::F32(distribution),
            TensorType::F16 => Values::F16(distribution),
            TensorType::BF16 => Values::Bf16(distribution),
            _ => Values::Blocks(Blocks::new(kind, f64::from(distribution.deviation)).ok_or_else(unsupported)?),
        };
        let row_bytes = row_bytes(kind, columns).ok_or_else(unsupported)? as usize;
        Ok(Self { key: tensor_key(seed, name), columns: columns as usize, row_bytes, values })
    }

    /// Bytes of one row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Writes the rows from `first` on that fill `out`, which is a whole number of rows.
    pub(crate) fn write(&self, first: u64, out: &mut [u8]) {
        let mut floats = Vec::new();
        for (row, out) in (first..).zip(out.chunks_exact_mut(self.row_bytes)) {
            let key = row_key(self.key, row);
            match &self.values {
                Values::F32(distribution) => {
                    fill(key, out);
                    for bytes in out.as_chunks_mut::<4>().0 {
                        *bytes = distribution.value(u32::from_le_bytes(*bytes)).to_le_bytes();
                    }
                }
                Values::F16(distribution) => {
                    let mut halves = vec![f16::ZERO; self.columns];
                    halves.convert_from_f32_slice(distribution.row(key, self.columns, &mut floats));
                    for (bytes, half) in out.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                        *bytes = half.to_le_bytes();
                    }
                }
                Values::Bf16(distribution) => {
                    let values = distribution.row(key, self.columns, &mut floats);
                    for (bytes, &value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                        *bytes = half::bf16::from_f32(value).to_le_bytes();
                    }
                }
                Values::Blocks(blocks) => {
                    fill(key, out);
                    blocks.set_scales(out);
                }
            }
        }
    }
}

/// Bytes of a row; `None` for types that are not in the table of sizes.
pub(crate) fn row_bytes(kind: TensorType, columns: u64) -> Option<u64> {
    Some(columns / kind.block_len()? * kind.block_bytes()?)
}

impl Distribution {
    /// A value spread evenly over mean ± √3 · deviation, from 24 of 32 random bits.
    fn value(&self, bits: u32) -> f32 {
        let unit = (bits >> 8) as f32 * (1.0 / (1 << 24) as f32);
        self.mean + self.deviation * 3f32.sqrt() * (2.0 * unit - 1.0)
    }

    fn row<'a>(&self, key: u64, columns: usize, floats: &'a mut Vec<f32>) -> &'a [f32] {
        let mut bytes = vec![0; 4 * columns];
        fill(key, &mut bytes);
        floats.clear();
        floats.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| self.value(u32::from_le_bytes(*bytes))));
        floats
    }
}

impl Blocks {
    /// `None` for a type that is not one of these.
    fn new(kind: TensorType, deviation: f64) -> Option<Self> {
        let weights = WeightType::of(kind).filter(|weights| weights.is_quantised())?;
        let (codes, numbers) = (weights.random_codes(), weights.numbers());
        let scale = &numbers[0];
        let table = match (scale.encoding, codes.minimum) {
            (Encoding::E8m0, _) => exponents(deviation, codes.rms),
            (_, Some(factor)) => scales(deviation, codes.rms, Minimum::Times(factor)),
            // Real quantisers give the scales of most types the sign of a block's largest weight.
            (_, None) if scale.may_be_negative => scales(deviation, codes.rms, Minimum::Signed),
            (_, None) => scales(deviation, codes.rms, Minimum::None),
        };
        // The minimum follows the scale.
        let len = numbers.iter().map(|number| number.encoding.size_bytes()).sum();
        Some(Self { block_bytes: weights.block_bytes() as usize, at: scale.at, len, table })
    }

    /// Replaces the scale fields of each block by the table's entry for their first, random, byte.
    fn set_scales(&self, row: &mut [u8]) {
        match self.len {
            1 => self.patch::<1>(row),
            2 => self.patch::<2>(row),
            _ => self.patch::<4>(row),
        }
    }

    fn patch<const LEN: usize>(&self, row: &mut [u8]) {
        for block in row.chunks_exact_mut(self.block_bytes) {
            let entry = &self.table[usize::from(block[self.at])];
            block[self.at..self.at + LEN].copy_from_slice(&entry[..LEN]);
        }
    }
}

/// What follows a block's scale in its scale fields.
#[derive(Debug, Clone, Copy)]
enum Minimum {
    None,
    /// Nothing follows; half of the scales are negative.
    Signed,
    /// A minimum of this many times the scale, which centres the values on zero.
    Times(f64),
}

/// Scales between half and one and a half times the one that gives values of `deviation`, where random codes under a
/// scale of 1 have the root mean square `codes_rms` (over all codes and, in K types, all inner scales).
fn scales(deviation: f64, codes_rms: f64, minimum: Minimum) -> Box<[[u8; 4]; 256]> {
    // The mean square of a factor spread evenly over 0.5..1.5.
    let spread = (13.0f64 / 12.0).sqrt();
    let unit = deviation / (codes_rms * spread);
    let mut table = Box::new([[0; 4]; 256]);
    for (entry, fields) in table.iter_mut().enumerate() {
        let scale = unit * (0.5 + (entry as f64 + 0.5) / 256.0);
        let (scale, second) = match minimum {
            Minimum::None => (scale, 0.0),
            Minimum::Signed if entry % 2 == 1 => (-scale, 0.0),
            Minimum::Signed => (scale, 0.0),
            Minimum::Times(factor) => (scale, scale * factor),
        };
        fields[..2].copy_from_slice(&f16::from_f64(scale).to_le_bytes());
        fields[2..].copy_from_slice(&f16::from_f64(second).to_le_bytes());
    }
    table
}

/// E8M0 exponents: two neighbours, in the proportion that gives values of `deviation`, where random codes under a scale
/// of 1 have the root mean square `codes_rms`.
fn exponents(deviation: f64, codes_rms: f64) -> Box<[[u8; 4]; 256]> {
    let lower = (deviation / codes_rms).log2().floor();
    let ratio = deviation * deviation / (codes_rms * codes_rms * (2.0 * lower).exp2());
    // The next exponent has four times the mean square: of `upper` such blocks it becomes 1 + 3 · upper.
    let upper = (256.0 * (ratio - 1.0) / 3.0).round() as usize;
    let biased = (lower + 127.0).clamp(0.0, 253.0) as u8;
    let mut table = Box::new([[0; 4]; 256]);
    for (entry, fields) in table.iter_mut().enumerate() {
        fields[0] = biased + u8::from(entry < upper);
    }
    table
}
