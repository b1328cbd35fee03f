//! Which part of a tensor is multiplied.

use gptoss_gguf::{CodeOrder, Gguf, TensorInfo, TensorType, WeightType};
use gptoss_protocol::{GateSlice, GateTensor};

use super::{PIECE_BYTES, Slice, USUAL_TOLERANCE};
use crate::error::{GateError, Wrong};
use crate::file::GatedFile;

/// Type of a matrix that the engine can multiply, with the order of its codes; `None` for every other tensor.
pub fn weights_of(tensor: &TensorInfo) -> Option<(WeightType, CodeOrder)> {
    let known = match tensor.kind {
        // Nobody knows the size of an unknown type; the header knows this one in files that have it.
        TensorType::EARLY_OLLAMA_MXFP4 if tensor.size_bytes > 0 => (WeightType::Mxfp4, CodeOrder::Neighbours),
        kind => (WeightType::of(kind)?, CodeOrder::Halves),
    };
    (tensor.shape.len() > 1 && !tensor.is_empty()).then_some(known)
}

/// What the page is told of each tensor.
pub fn described(gguf: &Gguf) -> Vec<GateTensor> {
    let describe = |tensor: &TensorInfo| {
        let weights = weights_of(tensor).filter(|(format, _)| tensor.shape[0].is_multiple_of(format.block_weights()));
        GateTensor {
            name: tensor.name.clone(),
            format: tensor.kind.name().to_owned(),
            shape: tensor.shape.clone(),
            bytes: tensor.size_bytes,
            usual_rows: weights.map(|(format, _)| usual_rows(tensor, format)),
            block_weights: weights.map_or(1, |(format, _)| format.block_weights()),
        }
    };
    gguf.tensors.iter().map(describe).collect()
}

/// Rows that make about [`PIECE_BYTES`], of one expert at most.
fn usual_rows(tensor: &TensorInfo, format: WeightType) -> u64 {
    let row_bytes = tensor.shape[0] / format.block_weights() * format.block_bytes();
    (PIECE_BYTES / row_bytes).clamp(1, tensor.shape[1])
}

impl<'a> Slice<'a> {
    /// Rows from the first on, of experts all one after the other; `None` takes all of them.
    ///
    /// # Errors
    /// There is no such tensor, it cannot be multiplied, or has not as many rows or columns.
    pub fn of_all_rows(
        file: &GatedFile<'a>,
        tensor: &str,
        [rows, columns]: [Option<u64>; 2],
        tolerance: f64,
    ) -> Result<Self, GateError> {
        let slice = Self::of_columns(file, tensor, columns, tolerance)?;
        let all = slice.tensor.shape[1..].iter().product();
        Ok(Self { rows: taken(Wrong::Rows, rows, all, 1)?, ..slice })
    }

    /// Rows of one expert, or of a tensor that has none, as somebody asks for them.
    ///
    /// # Errors
    /// As above, and the expert, the tolerance or the SHA-256 is none.
    pub fn asked_for(file: &GatedFile<'a>, asked: &GateSlice) -> Result<Self, GateError> {
        let tolerance = asked.tolerance.unwrap_or(USUAL_TOLERANCE);
        if !(tolerance.is_finite() && tolerance >= 0.0) {
            let expected = "a number that is zero or above".into();
            return Err(GateError::Argument { wrong: Wrong::Tolerance, got: tolerance.to_string(), expected });
        }
        let slice = Self::of_columns(file, asked.tensor.as_deref().unwrap_or_default(), asked.columns, tolerance)?;
        let shape = &slice.tensor.shape;
        let (rows, experts) = (shape[1], shape[2..].iter().product::<u64>());
        let has_experts = shape.len() > 2;
        let expert = asked.expert.unwrap_or(0);
        if u64::from(expert) >= experts {
            let expected = match has_experts {
                true => format!("at most {}, since {} has {experts} of them", experts - 1, slice.tensor.name),
                false => format!("none, since {} has no experts", slice.tensor.name),
            };
            return Err(GateError::Argument { wrong: Wrong::Expert, got: expert.to_string(), expected });
        }
        Ok(Self {
            expert: has_experts.then_some(expert),
            first_row: u64::from(expert) * rows,
            rows: match asked.rows {
                None => usual_rows(slice.tensor, slice.format),
                given => taken(Wrong::Rows, given, rows, 1)?,
            },
            sha256: asked.sha256.as_deref().map(checked_sha256).transpose()?,
            ..slice
        })
    }

    /// All rows, some columns.
    fn of_columns(file: &GatedFile<'a>, tensor: &str, columns: Option<u64>, tolerance: f64) -> Result<Self, GateError> {
        let tensor = file.tensor(tensor)?;
        let wrong_tensor = |got, expected| GateError::Argument { wrong: Wrong::Tensor, got, expected };
        let (format, codes) = weights_of(tensor).ok_or_else(|| {
            let expected = format!("a matrix of one of these types: {}", WeightType::supported_names());
            wrong_tensor(format!("{} of type {} and shape {:?}", tensor.name, tensor.kind, tensor.shape), expected)
        })?;
        let unit = format.block_weights();
        let columns = taken(Wrong::Columns, columns, tensor.shape[0], unit)?;
        if !columns.is_multiple_of(unit) {
            let expected = format!("a matrix whose rows are whole runs of {unit} weights");
            return Err(wrong_tensor(format!("{} with rows of {columns}", tensor.name), expected));
        }
        let rows = tensor.shape[1..].iter().product();
        Ok(Self { tensor, format, codes, expert: None, first_row: 0, rows, columns, tolerance, sha256: None })
    }
}

/// As many as were asked for; all without that.
fn taken(wrong: Wrong, given: Option<u64>, all: u64, unit: u64) -> Result<u64, GateError> {
    match given {
        None => Ok(all),
        Some(given) if (1..=all).contains(&given) && given.is_multiple_of(unit) => Ok(given),
        Some(given) => {
            let least = if given == 0 { format!("at least {unit}, ") } else { String::new() };
            let expected = format!("{least}at most {all}, the tensor's, and a multiple of {unit}");
            Err(GateError::Argument { wrong, got: given.to_string(), expected })
        }
    }
}

fn checked_sha256(text: &str) -> Result<String, GateError> {
    let digits = text.trim().to_ascii_lowercase();
    if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    let expected = "64 hex digits, as sha256sum prints them".into();
    Err(GateError::Argument { wrong: Wrong::Sha256, got: text.to_owned(), expected })
}
