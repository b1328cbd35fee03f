use crate::{GgufError, Metadata};

/// Which part of a split model a file is: the keys `split.no`, `split.count`, `split.tensors.count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitInfo {
    /// Index of this part, from 0. File names count from 1.
    pub no: u32,
    /// Number of parts.
    pub count: u32,
    /// Tensors in all parts together.
    pub tensors_count: u64,
}

/// Reads the `split.*` keys. No such key, or a count of zero, means a model in one file.
pub(crate) fn split_info(metadata: &Metadata) -> Result<Option<SplitInfo>, GgufError> {
    let no = metadata.optional::<u32>("split.no")?;
    let count = metadata.optional::<u32>("split.count")?;
    let tensors_count = metadata.optional::<u64>("split.tensors.count")?;
    if count.unwrap_or(0) == 0 && no.unwrap_or(0) == 0 {
        return Ok(None);
    }
    let (Some(no), Some(count), Some(tensors_count)) = (no, count, tensors_count) else {
        let why = format!("got {no:?}, {count:?} and {tensors_count:?}, expected all three");
        return Err(GgufError::InvalidSplit { why });
    };
    if no >= count {
        return Err(GgufError::InvalidSplit { why: format!("part {no}, counted from 0, of {count}") });
    }
    Ok(Some(SplitInfo { no, count, tensors_count }))
}

/// Takes a file name as llama.cpp's splitter writes it apart: `model-00001-of-00003.gguf` gives
/// `("model", 1, 3)`; the part number counts from 1. `None` for any other name.
pub fn split_name(file_name: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = file_name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, no) = rest.rsplit_once('-')?;
    let (no, count) = (padded_number(no)?, padded_number(count)?);
    (!stem.is_empty() && (1..=count).contains(&no)).then_some((stem, no, count))
}

/// Digits as `%05d` writes them: five, or more without a leading zero.
fn padded_number(digits: &str) -> Option<u32> {
    let well_formed = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 5 || (digits.len() > 5 && !digits.starts_with('0')));
    if well_formed { digits.parse().ok() } else { None }
}
