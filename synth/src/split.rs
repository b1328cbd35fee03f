//! Split files: the first part has all metadata, the others only say which part they are, and each has the table and
//! data of its own tensors. Keys and their types are those of llama.cpp's `gguf-split`.

use std::io::Write;
use std::ops::Range;

use gptoss_gguf::write::{self, Pairs};

use crate::model::data_bytes;
use crate::tensors::{ALIGNMENT, entries};
use crate::{Model, SynthError, Tensor};

/// One file of a split model.
#[derive(Debug)]
pub struct Part<'a> {
    model: &'a Model,
    pairs: Pairs,
    tensors: &'a [Tensor],
}

/// The name of part `index`, counted from 0, of `count`: `stem-00001-of-00003.gguf`.
pub fn part_name(stem: &str, index: usize, count: usize) -> String {
    format!("{stem}-{:05}-of-{count:05}.gguf", index + 1)
}

impl<'a> Part<'a> {
    pub(crate) fn split(model: &'a Model, count: usize) -> Result<Vec<Self>, SynthError> {
        let fault = || SynthError::Split { parts: count, tensors: model.tensors.len() };
        if count == 0 || count > model.tensors.len() {
            return Err(fault());
        }
        let count_u16 = u16::try_from(count).map_err(|_too_many| fault())?;
        let part = |(index, range): (u16, Range<usize>)| {
            let mut pairs = if index == 0 { model.pairs.clone() } else { Pairs::default() };
            pairs.u16("split.no", index);
            pairs.i32("split.tensors.count", model.tensors.len() as i32);
            pairs.u16("split.count", count_u16);
            Self { model, pairs, tensors: &model.tensors[range] }
        };
        Ok((0..count_u16).zip(ranges(&model.tensors, count)).map(part).collect())
    }

    /// The part's own tensors, in file order.
    pub fn tensors(&self) -> &[Tensor] {
        self.tensors
    }

    /// Length of the part's file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        write::header_bytes(&self.pairs, &entries(self.tensors)).next_multiple_of(ALIGNMENT) + data_bytes(self.tensors)
    }

    /// Writes the part's file.
    ///
    /// # Errors
    /// `out` fails.
    pub fn write(&self, out: &mut impl Write) -> Result<(), SynthError> {
        out.write_all(&write::header(&self.pairs, &entries(self.tensors), ALIGNMENT))?;
        self.model.write_tensors(self.tensors, out)?;
        Ok(out.flush()?)
    }
}

/// Runs of tensors with about the same number of bytes each, none of them empty. `count` is at most their number.
fn ranges(tensors: &[Tensor], count: usize) -> Vec<Range<usize>> {
    let total = data_bytes(tensors);
    let mut ranges = Vec::with_capacity(count);
    let (mut first, mut passed_bytes) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        passed_bytes += data_bytes(std::slice::from_ref(tensor));
        let parts_after = count - ranges.len() - 1;
        let tensors_after = tensors.len() - index - 1;
        let enough = passed_bytes * count as u64 >= total * (ranges.len() as u64 + 1);
        if parts_after > 0 && (enough || tensors_after == parts_after) {
            ranges.push(first..index + 1);
            first = index + 1;
        }
    }
    ranges.push(first..tensors.len());
    ranges
}
