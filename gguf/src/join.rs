//! The parts of a split model made one: each is a whole GGUF file with the table and data of its own tensors, the first
//! one has all metadata.

use crate::{Gguf, SplitError, TensorInfo, part_names};

impl Gguf {
    /// Makes one header of those of all parts of a split model, given in order, each with the file name that messages
    /// call it by.
    ///
    /// The result is the header of the files laid one after the other: offsets and `file_len` count from the first byte
    /// of the first part. Metadata, `version`, `alignment` and `data_offset` are the first part's; offsets keep the
    /// alignment within their own part only. [`split`](Self::split) is `None`: the model is whole. The header of a
    /// model in one file comes back as it is.
    ///
    /// # Errors
    /// A [`SplitError`] that names the file at fault: it is alone, no part, another part than its place says, or a part
    /// of another model; a tensor is there twice; tensors are missing.
    pub fn join(mut parts: Vec<(String, Gguf)>) -> Result<Gguf, SplitError> {
        if let [(name, only)] = &parts[..] {
            check_alone(name, only)?;
            return Ok(parts.remove(0).1);
        }
        let told = check_parts(&parts)?;
        let tensors = shifted_tensors(&parts)?;
        let by_name = index_by_name(&parts, &tensors)?;
        if tensors.len() as u64 != told {
            return Err(SplitError::TensorCount { told, found: tensors.len() as u64 });
        }
        let file_len = parts.iter().map(|(_, part)| part.file_len).sum();
        let (_, first) = parts.swap_remove(0);
        Ok(Gguf { file_len, tensors, by_name, split: None, ..first })
    }
}

/// Refuses a part without the others, and lists their names if its own name tells them.
fn check_alone(name: &str, only: &Gguf) -> Result<(), SplitError> {
    let Some(split) = only.split.filter(|split| split.count > 1) else { return Ok(()) };
    let (name, count) = (name.to_owned(), split.count);
    // A writer pads the last tensor, too; another part's header takes more than that.
    let surplus_bytes = only.file_len.saturating_sub(only.data_end().next_multiple_of(only.alignment));
    if surplus_bytes > 0 && only.unknown_types().next().is_none() {
        return Err(SplitError::JoinedWithCat { name, number: split.no + 1, count, surplus_bytes });
    }
    let mut missing = part_names(&name);
    if missing.len() as u64 != u64::from(count) {
        return Err(SplitError::Renamed { name, number: split.no + 1, count });
    }
    missing.retain(|other| *other != name);
    Err(SplitError::Missing { name, count, missing })
}

/// Checks what the parts say about themselves against their order and the first part. Returns the number of tensors
/// that all of them together should have.
fn check_parts(parts: &[(String, Gguf)]) -> Result<u64, SplitError> {
    let count = parts.len() as u32;
    let mut told = None;
    for (no, (name, part)) in (0..).zip(parts) {
        let Some(split) = part.split else { return Err(SplitError::NotAPart { name: name.clone() }) };
        if (split.no, split.count) != (no, count) {
            let (got_number, got_count) = (split.no + 1, split.count);
            return Err(SplitError::WrongPart { name: name.clone(), got_number, got_count, number: no + 1, count });
        }
        let first = || parts[0].0.clone();
        let told = *told.get_or_insert(split.tensors_count);
        if split.tensors_count != told {
            let got = split.tensors_count;
            return Err(SplitError::TensorTotal { name: name.clone(), got, first: first(), expected: told });
        }
        if let Some(key) = differing_key(&parts[0].1, part) {
            return Err(SplitError::Metadata { name: name.clone(), first: first(), key });
        }
    }
    told.ok_or(SplitError::NoParts)
}

/// The first key about the model (not about the file) whose values differ between the two.
fn differing_key(first: &Gguf, part: &Gguf) -> Option<String> {
    let of_the_file = |key: &str| key.starts_with("split.") || key == "general.alignment";
    let differs =
        |(key, value): &(&str, &_)| !of_the_file(key) && first.metadata.get(key).is_some_and(|ours| ours != *value);
    part.metadata.iter().find(differs).map(|(key, _)| key.to_owned())
}

/// All tensors in order, with offsets as if the files were laid one after the other.
fn shifted_tensors(parts: &[(String, Gguf)]) -> Result<Vec<TensorInfo>, SplitError> {
    let mut tensors = Vec::with_capacity(parts.iter().map(|(_, part)| part.tensors.len()).sum());
    let mut base = 0u64;
    for (name, part) in parts {
        // Every tensor ends inside its file, so no offset can pass the sum either.
        let end = base.checked_add(part.file_len).ok_or_else(|| SplitError::TooLong { name: name.clone() })?;
        tensors.extend(part.tensors.iter().map(|tensor| TensorInfo { offset: base + tensor.offset, ..tensor.clone() }));
        base = end;
    }
    Ok(tensors)
}

/// Indices sorted by name, as [`Gguf`] keeps them.
fn index_by_name(parts: &[(String, Gguf)], tensors: &[TensorInfo]) -> Result<Vec<u32>, SplitError> {
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    let name = |index: u32| tensors[index as usize].name.as_str();
    // The sort is stable, so that the earlier part comes first of two equal names.
    by_name.sort_by_key(|&index| name(index));
    match by_name.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        None => Ok(by_name),
        Some(pair) => {
            let tensor = name(pair[0]).to_owned();
            Err(SplitError::DuplicateTensor { tensor, first: owner(parts, pair[0]), second: owner(parts, pair[1]) })
        }
    }
}

/// Name of the part that holds the tensor with this index among all.
fn owner(parts: &[(String, Gguf)], index: u32) -> String {
    let mut before = 0;
    let holds = |(_, part): &&(String, Gguf)| {
        before += part.tensors.len();
        (index as usize) < before
    };
    parts.iter().find(holds).map(|(name, _)| name.clone()).unwrap_or_default()
}
