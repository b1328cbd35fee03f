//! Whether the bytes of tensors can be what they are said to be, by samples.
//!
//! A host, a proxy or a disk can hand out other bytes than the file has without any error: shifted by a few, zeros, a
//! page of text, another file's. Where no hash is published, only the bytes themselves can tell. In every block type
//! some bytes are far from random: the scales (`window` knows what they can be); so bytes that do not lie where they
//! belong show at once. A window of some hundred bytes settles it, and windows are looked at all over a tensor.
//!
//! What is not found: a fault shorter than the distance between two windows; bytes of the same type in the right phase
//! to their blocks (a shift by a whole number of blocks, two runs of blocks swapped); single flipped bits. That takes
//! hashes.

mod window;

use std::ops::Range;

use thiserror::Error;

use crate::{Gguf, TensorType};
use window::{Fault, WindowKind};

/// How many windows a run of bytes is looked at through, at least, unless they would be closer than
/// [`LEAST_STRIDE_BYTES`].
const LEAST_WINDOWS: u64 = 16;
const LEAST_STRIDE_BYTES: u64 = 4 << 10;
/// How many bytes are searched at a time for the borders of a run of zeros.
const SEARCH_BYTES: u64 = 4 << 10;
/// A run of zeros in a tensor whose rows are really zero may begin up to this many bytes before a row, or end that many
/// after one: the last weights of a row, or the low byte of a scale, may also be zero.
const ROW_SLACK_BYTES: u64 = 4;

/// How closely bytes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Largest distance between the beginnings of two windows in a long run of bytes; 0 looks at every byte.
    pub most_stride_bytes: u64,
}

impl Sampling {
    /// Sampling of bytes while they arrive: about 10 KiB of each MiB.
    pub const STREAM: Self = Self { most_stride_bytes: 64 << 10 };
    /// Sampling of mapped files, where each window may cost a read of the disk.
    pub const MAPPED: Self = Self { most_stride_bytes: 1 << 20 };
    /// Looks at every byte.
    pub const EVERYTHING: Self = Self { most_stride_bytes: 0 };
}

/// Bytes that cannot be the weights that they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{tensor} ({kind}) makes no sense at byte {offset_bytes}: expected {expected}, got {got}")]
pub struct Nonsense {
    /// ggml name of the tensor.
    pub tensor: String,
    /// Type of the tensor's blocks.
    pub kind: TensorType,
    /// Where the window that shows it begins, in bytes from the start of the file.
    pub offset_bytes: u64,
    /// What weights of this type can be, in words.
    pub expected: String,
    /// What was found in the window, in words.
    pub got: String,
}

/// Where the tensors of a model lie, and which bytes their types allow.
#[derive(Debug, Clone)]
pub struct Sense {
    /// Tensors with a known type, sorted by offset.
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    kind: TensorType,
    /// Place of the data, in bytes from the start of the file.
    bytes: Range<u64>,
    block_bytes: u64,
    /// Length of a row; `None` for tensors without rows.
    row_bytes: Option<u64>,
    window: WindowKind,
}

impl Sense {
    /// Prepares checks of all tensors whose type is known.
    pub fn new(gguf: &Gguf) -> Self {
        let mut tensors: Vec<Tensor> = gguf.tensors.iter().filter_map(Tensor::new).collect();
        tensors.sort_by_key(|tensor| tensor.bytes.start);
        Self { tensors }
    }

    /// Checks samples of the bytes `range` of the file. `copy` fills a buffer with the bytes from a place in the file
    /// on, and is never asked for bytes outside `range`.
    ///
    /// # Errors
    /// The first [`Nonsense`].
    pub fn check(
        &self,
        range: Range<u64>,
        sampling: Sampling,
        mut copy: impl FnMut(u64, &mut [u8]),
    ) -> Result<(), Box<Nonsense>> {
        let first = self.tensors.partition_point(|tensor| tensor.bytes.end <= range.start);
        for tensor in self.tensors[first..].iter().take_while(|tensor| tensor.bytes.start < range.end) {
            // Only whole blocks are looked at.
            let from_start = |at: u64| at.clamp(tensor.bytes.start, tensor.bytes.end) - tensor.bytes.start;
            let begin = from_start(range.start).next_multiple_of(tensor.block_bytes);
            let end = from_start(range.end) / tensor.block_bytes * tensor.block_bytes;
            if begin < end {
                let base = tensor.bytes.start;
                Look { tensor, run: begin..end, copy: |at, bytes: &mut [u8]| copy(base + at, bytes) }.all(sampling)?;
            }
        }
        Ok(())
    }
}

impl Tensor {
    fn new(info: &crate::TensorInfo) -> Option<Self> {
        let block_bytes = info.kind.block_bytes()?;
        let row_bytes = info.shape.first()? / info.kind.block_len()? * block_bytes;
        Some(Self {
            name: info.name.clone(),
            kind: info.kind,
            bytes: info.offset..info.offset + info.size_bytes,
            block_bytes,
            row_bytes: (info.shape.len() > 1 && row_bytes > 0).then_some(row_bytes),
            window: WindowKind::of(info),
        })
    }

    fn is_row_border(&self, at: u64) -> bool {
        let Some(row_bytes) = self.row_bytes else { return true };
        let behind = at % row_bytes;
        behind <= ROW_SLACK_BYTES || row_bytes - behind <= ROW_SLACK_BYTES
    }
}

/// A look at a run of whole blocks of one tensor; positions are counted from the tensor's first byte.
struct Look<'a, C> {
    tensor: &'a Tensor,
    run: Range<u64>,
    copy: C,
}

impl<C: FnMut(u64, &mut [u8])> Look<'_, C> {
    fn all(&mut self, sampling: Sampling) -> Result<(), Box<Nonsense>> {
        let (begin, end, block_bytes) = (self.run.start, self.run.end, self.tensor.block_bytes);
        let window_bytes = (self.tensor.window.blocks() * block_bytes).min(end - begin);
        let wanted = ((end - begin) / LEAST_WINDOWS).max(LEAST_STRIDE_BYTES).min(sampling.most_stride_bytes);
        let stride = wanted.next_multiple_of(block_bytes).max(window_bytes);
        let last = end - window_bytes;
        let mut window = vec![0; window_bytes as usize];
        // Zeros up to here have been judged already.
        let mut zeros_end = begin;
        let places = (begin..last).step_by(stride as usize).chain([last]);
        for at in places {
            if at + window_bytes <= zeros_end {
                continue;
            }
            (self.copy)(at, &mut window);
            if window.iter().all(|&byte| byte == 0) && self.tensor.row_bytes.is_some() {
                zeros_end = self.zeros(at..at + window_bytes)?;
                continue;
            }
            if let Some(fault) = self.tensor.window.fault(self.tensor.kind, &window) {
                return Err(self.nonsense(at, fault));
            }
        }
        Ok(())
    }

    /// Judges the zeros around a window of zeros and returns where they end. Whole rows may be zero (tokens that nobody
    /// uses, experts that were taken out), but a run that begins or ends within a row is a hole.
    fn zeros(&mut self, window: Range<u64>) -> Result<u64, Box<Nonsense>> {
        let begin = self.zeros_begin(window.start);
        let end = self.zeros_end(window.end);
        let row_bytes = self.tensor.row_bytes.unwrap_or_default();
        // Columns may be zero, too.
        let is_longer_than_a_row = end - begin > row_bytes + self.tensor.block_bytes;
        // A run that reaches the edge of the bytes at hand may go on beyond it.
        let is_hole = |at: u64, edge: u64| at != edge && !self.tensor.is_row_border(at);
        if is_longer_than_a_row && (is_hole(begin, self.run.start) || is_hole(end, self.run.end)) {
            let fault = Fault {
                expected: "weights, or rows that are zero as a whole".to_owned(),
                got: format!("{} bytes of zeros that begin or end within a row of {row_bytes} bytes", end - begin),
            };
            return Err(self.nonsense(begin, fault));
        }
        Ok(end)
    }

    fn zeros_begin(&mut self, mut begin: u64) -> u64 {
        let mut bytes = [0; SEARCH_BYTES as usize];
        while begin > self.run.start {
            let from = begin.saturating_sub(SEARCH_BYTES).max(self.run.start);
            let part = &mut bytes[..(begin - from) as usize];
            (self.copy)(from, part);
            if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
                return from + last as u64 + 1;
            }
            begin = from;
        }
        begin
    }

    fn zeros_end(&mut self, mut end: u64) -> u64 {
        let mut bytes = [0; SEARCH_BYTES as usize];
        while end < self.run.end {
            let part = &mut bytes[..SEARCH_BYTES.min(self.run.end - end) as usize];
            (self.copy)(end, part);
            if let Some(first) = part.iter().position(|&byte| byte != 0) {
                return end + first as u64;
            }
            end += part.len() as u64;
        }
        end
    }

    #[expect(clippy::unnecessary_box_returns, reason = "errors are boxed, and this is one")]
    fn nonsense(&self, at: u64, Fault { expected, got }: Fault) -> Box<Nonsense> {
        let (tensor, kind) = (self.tensor.name.clone(), self.tensor.kind);
        Box::new(Nonsense { tensor, kind, offset_bytes: self.tensor.bytes.start + at, expected, got })
    }
}
