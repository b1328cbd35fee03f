//! From what a header says about its tensors to where they lie, with every claim checked.

use crate::gpt_oss::OLLAMA;
use crate::{GgufError, Metadata, TensorInfo, TensorType};

/// A tensor as the header describes it: the shape is checked, the offset is still relative to the data.
pub(crate) struct TensorClaim {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: TensorType,
    pub(crate) relative_offset: u64,
    /// Length of the data in bytes; zero for an unknown type, and without weights.
    pub(crate) size_bytes: u64,
}

/// Block sizes of the types in one file.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    /// Whether type id 4, which ggml has retired, is MXFP4 as in Ollama's files of August 2025.
    early_ollama: bool,
}

impl Blocks {
    /// Block sizes in a file with this metadata.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let architecture = metadata.optional("general.architecture");
        Self { early_ollama: matches!(architecture, Ok(Some(OLLAMA))) }
    }

    /// Weights and bytes of a block; `None` for an unknown type.
    fn of_type(self, kind: TensorType) -> Option<(u64, u64)> {
        let known = if self.early_ollama && kind == TensorType::EARLY_OLLAMA_MXFP4 { TensorType::Mxfp4 } else { kind };
        known.block_len().zip(known.block_bytes())
    }

    /// Bytes of a tensor of this type and shape; zero for an unknown type, and where a dimension is zero.
    pub(crate) fn size_bytes(self, name: &str, kind: TensorType, shape: &[u64]) -> Result<u64, GgufError> {
        if shape.contains(&0) {
            return Ok(0);
        }
        let overflow = || GgufError::ShapeOverflow { tensor: name.to_owned(), shape: shape.to_vec() };
        let elements = shape.iter().try_fold(1u64, |product, &d| product.checked_mul(d)).ok_or_else(overflow)?;
        let Some((block_len, block_bytes)) = self.of_type(kind) else { return Ok(0) };
        let row_len = shape.first().copied().unwrap_or(1);
        if row_len % block_len != 0 {
            return Err(GgufError::PartialBlock { tensor: name.to_owned(), row_len, kind, block_len });
        }
        (elements / block_len).checked_mul(block_bytes).ok_or_else(overflow)
    }
}

/// Places the tensors in the file: offsets become absolute; alignment, overlaps and the end of the file are checked.
pub(crate) fn place_tensors(
    claims: Vec<TensorClaim>,
    data_offset: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Vec<TensorInfo>, GgufError> {
    let mut tensors = Vec::with_capacity(claims.len());
    for claim in claims {
        let TensorClaim { name, shape, kind, relative_offset, size_bytes } = claim;
        if relative_offset % alignment != 0 {
            return Err(GgufError::MisalignedOffset { tensor: name, offset: relative_offset, alignment });
        }
        // The end must be countable too; the sums below rely on it.
        let offset = data_offset.checked_add(relative_offset);
        // Writers put tensors without weights anywhere, even behind the end of the file.
        let placed = |offset| if shape.contains(&0) { data_offset } else { offset };
        match offset.filter(|offset| offset.checked_add(size_bytes.max(1)).is_some()).map(placed) {
            Some(offset) => tensors.push(TensorInfo { name, shape, kind, offset, size_bytes }),
            None => return Err(GgufError::OffsetOverflow { tensor: name, offset: relative_offset }),
        }
    }
    check_extents(&tensors, file_len)?;
    Ok(tensors)
}

/// End of a tensor's data. A tensor of unknown type has at least one byte.
fn end(tensor: &TensorInfo) -> u64 {
    tensor.offset + tensor.size_bytes.max(1)
}

/// Checks overlaps and the end of the file. Tensors without weights lie nowhere.
fn check_extents(tensors: &[TensorInfo], file_len: u64) -> Result<(), GgufError> {
    let mut in_order: Vec<&TensorInfo> = tensors.iter().filter(|tensor| !tensor.is_empty()).collect();
    in_order.sort_by_key(|tensor| tensor.offset);
    if let Some(pair) = in_order.windows(2).find(|pair| end(pair[0]) > pair[1].offset) {
        let (first, second) = (pair[0].name.clone(), pair[1].name.clone());
        return Err(GgufError::Overlap { first, second, offset: pair[1].offset });
    }
    // Without overlaps, the last tensor in file order also ends last.
    let Some(last) = in_order.last() else { return Ok(()) };
    match in_order.iter().find(|tensor| end(tensor) > file_len) {
        None => Ok(()),
        Some(first) => {
            let missing_bytes = end(last) - file_len;
            Err(GgufError::FileTruncated { tensor: first.name.clone(), missing_bytes, file_len })
        }
    }
}
