//! From bytes of a tensor to bytes of another type, on all cores.

use gptoss_gguf::numbers::{bad_blocks, numbers_of};
use gptoss_gguf::{TensorType, WeightType};

use super::plan::{Step, block};

/// A weight that stands in the way. `weight` counts from the first one of what was converted.
#[derive(Debug, PartialEq)]
pub enum Fault {
    /// The weight is no number, or infinite; of a quantised type, the scale of the block that begins with it.
    NotFinite { weight: u64, value: f32 },
    /// The type has no number that large.
    TooLarge { weight: u64, value: f32, limit: f32 },
}

impl Fault {
    fn shifted(self, by: u64) -> Self {
        match self {
            Self::NotFinite { weight, value } => Self::NotFinite { weight: weight + by, value },
            Self::TooLarge { weight, value, limit } => Self::TooLarge { weight: weight + by, value, limit },
        }
    }
}

/// Converts bytes that are whole units of the step, in as many pieces at a time as there are threads.
///
/// # Errors
/// The first weight that stands in the way.
pub fn convert(step: &Step<'_>, bytes: &[u8], threads: usize) -> Result<Vec<u8>, Fault> {
    let unit_bytes = step.unit_bytes() as usize;
    let piece_bytes = bytes.len().div_ceil(threads.max(1)).next_multiple_of(unit_bytes);
    let piece_weights = (piece_bytes / unit_bytes) as u64 * step.unit_weights();
    let pieces: Vec<_> = std::thread::scope(|scope| {
        let begun: Vec<_> = bytes.chunks(piece_bytes).map(|piece| scope.spawn(|| convert_piece(step, piece))).collect();
        begun.into_iter().map(|thread| thread.join().expect("converting cannot panic")).collect()
    });
    let mut converted = Vec::with_capacity(pieces.iter().flatten().map(Vec::len).sum());
    for (index, piece) in (0..).zip(pieces) {
        converted.extend(piece.map_err(|fault| fault.shifted(index * piece_weights))?);
    }
    Ok(converted)
}

fn convert_piece(step: &Step<'_>, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let kind = step.tensor.kind;
    let may_be_minus_infinity = step.tensor.name.ends_with("ffn_gate_inp.bias");
    if let Some(bad) = first_bad(kind, bytes, may_be_minus_infinity) {
        return Err(bad);
    }
    let Some((from, to)) = step.rounded else { return Ok(bytes.to_vec()) };
    let weights = from.decode(bytes);
    let mut rounded = Vec::new();
    to.encode(&weights, &mut rounded);
    let (len, block_bytes) = block(to.kind());
    match bad_blocks(&rounded, block_bytes as usize, to.numbers()).1 {
        None => Ok(rounded),
        Some(bad) => Err(too_large(to, &weights, bad * len, len)),
    }
}

/// The first number among the bytes that is not finite. A router's bias may be −∞: that expert is never chosen.
fn first_bad(kind: TensorType, bytes: &[u8], may_be_minus_infinity: bool) -> Option<Fault> {
    let weights = WeightType::of(kind);
    if let Some(weights) = weights.filter(|weights| may_be_minus_infinity && !weights.is_quantised()) {
        let values = weights.decode(bytes);
        let weight = values.iter().position(|&value| value.is_nan() || value == f32::INFINITY)?;
        return Some(Fault::NotFinite { weight: weight as u64, value: values[weight] });
    }
    let (len, block_bytes) = block(kind);
    let bad = bad_blocks(bytes, block_bytes as usize, numbers_of(kind)?).1?;
    let bytes = &bytes[(bad * block_bytes) as usize..][..block_bytes as usize];
    let value = weights.map_or(f32::NAN, |weights| weights.decode(bytes)[0]);
    Some(Fault::NotFinite { weight: bad * len, value })
}

/// The fault of the largest of the `len` weights from `first` on, whose block has an infinite number.
fn too_large(to: WeightType, weights: &[f32], first: u64, len: u64) -> Fault {
    let block = &weights[first as usize..][..len as usize];
    let (at, value) = (0..)
        .zip(block)
        .fold((0, 0.0f32), |most, (at, &value)| if value.abs() > most.1.abs() { (at, value) } else { most });
    Fault::TooLarge { weight: first + at, value, limit: to.largest_written() }
}
