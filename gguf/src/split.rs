use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{GgufError, Metadata, SplitError};

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

/// Largest number of parts that a name can claim: `split.count` is a u16 where splitters write it, and a longer list of
/// names is useless.
const MAX_PARTS: u32 = u16::MAX as u32;

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

/// The name of part `number`, counted from 1, of `count`; the opposite of [`split_name`].
fn part_name(stem: &str, number: u32, count: u32) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}

/// Names of all files of the model that `file_name` belongs to, in order: all parts for a part of a split model,
/// otherwise just that name.
pub fn part_names(file_name: &str) -> Vec<String> {
    match split_name(file_name) {
        Some((stem, _, count)) if count <= MAX_PARTS => (1..=count).map(|no| part_name(stem, no, count)).collect(),
        _ => vec![file_name.to_owned()],
    }
}

/// Paths of all files of the model that `path` belongs to, in order, judged by its name alone: the parts of a split
/// model lie in one folder. The file system is not consulted.
pub fn part_paths(path: &Path) -> Vec<PathBuf> {
    match path.file_name().and_then(|name| name.to_str()).map(part_names) {
        Some(names) if names.len() > 1 => names.iter().map(|name| path.with_file_name(name)).collect(),
        _ => vec![path.to_owned()],
    }
}

/// Finds the order of files that are to be one model: their indices in `names`, part 1 first. A single file is accepted
/// whatever its name; several must be named as all parts of one split.
///
/// # Errors
/// A [`SplitError`] that names the files that do not belong, or are missing.
pub fn arrange_parts<S: AsRef<str>>(names: &[S]) -> Result<Vec<usize>, SplitError> {
    let [first, _, ..] = names else { return Ok((0..names.len()).collect()) };
    let mut model = None;
    let mut by_number = BTreeMap::new();
    for (index, name) in names.iter().map(AsRef::as_ref).enumerate() {
        let not_a_part = || SplitError::NotAPartName { name: name.to_owned() };
        let (stem, number, count) =
            split_name(name).filter(|(.., count)| *count <= MAX_PARTS).ok_or_else(not_a_part)?;
        if *model.get_or_insert((stem, count)) != (stem, count) {
            return Err(SplitError::OtherModel { name: name.to_owned(), first: first.as_ref().to_owned() });
        }
        if by_number.insert(number, index).is_some() {
            return Err(SplitError::Twice { name: name.to_owned() });
        }
    }
    let all = part_names(first.as_ref());
    let is_missing = |number: &u32| !by_number.contains_key(number);
    let missing: Vec<String> = (1..).zip(all.iter()).filter(|(no, _)| is_missing(no)).map(|(_, n)| n.clone()).collect();
    if !missing.is_empty() {
        return Err(SplitError::Missing { name: first.as_ref().to_owned(), count: all.len() as u32, missing });
    }
    Ok(by_number.into_values().collect())
}
