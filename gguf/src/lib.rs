#![doc = include_str!("../README.md")]

mod advice;
mod cursor;
mod error;
mod gpt_oss;
mod identify;
mod join;
mod layout;
mod metadata;
pub mod numbers;
mod parse;
mod role;
pub mod sense;
mod split;
mod split_error;
mod tensor_type;
mod value;
pub mod weight_type;
pub mod write;

pub use error::GgufError;
pub use gpt_oss::{GPT_OSS_ARCHITECTURES, TensorUse, WrongKey, check_keys, check_tokenizer, runs, unknown_keys};
pub use identify::{ForeignFile, IDENTIFY_BYTES, identify, is_unfinished_name, piece_stem};
pub use metadata::Metadata;
pub use parse::{DEFAULT_ALIGNMENT, MAX_HEADER_BYTES, Progress, parse, raw_pairs};
pub use role::Role;
pub use split::{SplitInfo, arrange_parts, part_names, part_paths, split_name};
pub use split_error::SplitError;
pub use tensor_type::TensorType;
pub use value::{Array, FromValue, StringArray, Value};
pub use weight_type::{CodeOrder, WeightType};

/// The header of one GGUF file, or of all parts of a split model ([`Gguf::join`]), fully read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// `general.alignment` in bytes, or [`DEFAULT_ALIGNMENT`] where the file has no such key.
    pub alignment: u64,
    /// Where tensor data begins, in bytes from the start of the file.
    pub data_offset: u64,
    /// Length of the whole file in bytes, as the caller gave it.
    pub file_len: u64,
    /// All key-value pairs, in file order.
    pub metadata: Metadata,
    /// All tensors, in file order.
    pub tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
    split: Option<SplitInfo>,
}

/// Where one tensor lies in the file, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// ggml name, verbatim.
    pub name: String,
    /// One to four dimensions in GGUF order: `shape[0]` (ne0) is the contiguous one. Where one is zero, the tensor has
    /// no weights.
    pub shape: Vec<u64>,
    /// Storage format of the weights.
    pub kind: TensorType,
    /// First byte of the data, in bytes from the start of the file; a multiple of the file's alignment. For a tensor
    /// without weights it is the file's [`Gguf::data_offset`], whatever the file says, so that data never lie outside
    /// the file.
    pub offset: u64,
    /// Length of the data in bytes, computed from `kind` and `shape`. Zero if a dimension is zero, and if `kind` is
    /// [`TensorType::Unknown`], whose size nobody can say; except for [`TensorType::EARLY_OLLAMA_MXFP4`] in an Ollama
    /// file.
    pub size_bytes: u64,
}

impl TensorInfo {
    /// Number of weights: the product of `shape`.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether a dimension is zero, so that there are no weights. ggml accepts such tensors, and files have them.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

impl Gguf {
    /// The tensor with exactly this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let tensors = &self.tensors;
        let found = self.by_name.binary_search_by(|&i| tensors[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&tensors[self.by_name[found] as usize])
    }

    /// Which part of a split model this file is; `None` for a model in one file.
    pub fn split(&self) -> Option<SplitInfo> {
        self.split
    }

    /// Where the data of the last tensor ends, in bytes from the start of the file; `data_offset` if there is no
    /// tensor.
    pub fn data_end(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.offset + tensor.size_bytes).fold(self.data_offset, u64::max)
    }

    /// Tensors stored in a format this crate does not know, in file order.
    pub fn unknown_types(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().filter(|tensor| matches!(tensor.kind, TensorType::Unknown(_)))
    }
}
