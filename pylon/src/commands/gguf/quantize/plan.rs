//! What becomes of each tensor and of the metadata, decided before a byte is written.

use gptoss_gguf::write::{Entry, Pairs, header};
use gptoss_gguf::{TensorInfo, TensorType, TensorUse, WeightType, raw_pairs};
use thiserror::Error;

use super::convert::Fault;
use crate::error::CliError;
use crate::gguf_file::GgufFile;

/// Version of ggml's block formats, in `general.quantization_version`: no other was ever used with MXFP4.
const QUANTIZATION_VERSION: u32 = 2;

/// Why a file cannot be quantised.
#[derive(Debug, Error)]
pub enum QuantizeError {
    /// The file is sound, but not one of ours.
    #[error("{path} cannot be quantised: {why}")]
    NotGptOss { path: String, why: String },
    /// A type that is neither read nor, without its size, copied.
    #[error("{tensor} is of type {kind}; expected one of {}", WeightType::supported_names())]
    Type { tensor: String, kind: TensorType },
    /// Weights that were rounded to blocks before.
    #[error("{tensor} is {from}, already quantised, and would be rounded to {to} once more; expected F32, F16 or BF16")]
    Again { tensor: String, from: &'static str, to: &'static str },
    /// Rows that end inside a block.
    #[error(
        "{tensor} has rows of {columns} weights; expected a multiple of {block}, since {} has blocks of {block}",
        .to.name(),
        block = .to.block_weights()
    )]
    PartialRow { tensor: String, columns: u64, to: WeightType },
    /// `weight` counts from 0, in the order of the file.
    #[error("weight {weight} of {tensor} is {value}; expected a finite number")]
    NotFinite { tensor: String, weight: u64, value: f32 },
    /// A weight whose type has no number that large.
    #[error("weight {weight} of {tensor} is {value:e}, too large for {to}; expected at most {limit:e}")]
    TooLarge { tensor: String, weight: u64, value: f32, to: &'static str, limit: f32 },
}

impl QuantizeError {
    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotGptOss { .. } | Self::Type { .. } => {
                "Use a gpt-oss GGUF with weights in F32, F16 or BF16, as llama.cpp's convert_hf_to_gguf.py writes it."
            }
            Self::Again { .. } => {
                "Quantise the file that this one was made from, or keep the type: --experts and --dense take it, or f32, f16 \
                 and bf16."
            }
            Self::PartialRow { .. } | Self::TooLarge { .. } => {
                "Choose a type for these matrices: --experts f32, --dense f32."
            }
            Self::NotFinite { .. } => {
                "The file is damaged, or was made from weights that are: take them from their publisher again."
            }
        }
    }
}

/// The types that matrices are to have.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    pub experts: WeightType,
    pub dense: WeightType,
}

impl Types {
    /// The type that a tensor of this name is to have; `None` if it stays as it is.
    fn of(self, name: &str) -> Option<WeightType> {
        match TensorUse::of(name)? {
            TensorUse::Experts => Some(self.experts),
            TensorUse::Matrix => Some(self.dense),
            TensorUse::Router | TensorUse::Plain => None,
        }
    }

    /// `general.file_type`: that of the experts, which are nearly all weights. For experts in MXFP4 it is MXFP4_MOE,
    /// whatever the others have.
    fn file_type(self) -> u32 {
        self.experts.file_type()
    }
}

/// What becomes of a tensor.
#[derive(Debug)]
pub struct Step<'a> {
    /// The tensor in the file that is read.
    pub tensor: &'a TensorInfo,
    /// The types that its weights are read in and rounded to; `None` if its bytes are copied.
    pub rounded: Option<(WeightType, WeightType)>,
    /// Its type in the file that is written.
    pub kind: TensorType,
    /// Bytes of its data there.
    pub size_bytes: u64,
}

impl<'a> Step<'a> {
    fn of(tensor: &'a TensorInfo, types: Types) -> Result<Self, QuantizeError> {
        let name = || tensor.name.clone();
        let wanted = types.of(&tensor.name).filter(|to| to.kind() != tensor.kind);
        let Some(to) = wanted else {
            let has_size = tensor.is_empty() || tensor.size_bytes > 0;
            let copied = Self { tensor, rounded: None, kind: tensor.kind, size_bytes: tensor.size_bytes };
            return if has_size { Ok(copied) } else { Err(QuantizeError::Type { tensor: name(), kind: tensor.kind }) };
        };
        let from =
            WeightType::of(tensor.kind).ok_or_else(|| QuantizeError::Type { tensor: name(), kind: tensor.kind })?;
        if from.is_quantised() && to.is_quantised() {
            return Err(QuantizeError::Again { tensor: name(), from: from.name(), to: to.name() });
        }
        let columns = tensor.shape[0];
        if to.is_quantised() && !columns.is_multiple_of(to.block_weights()) {
            return Err(QuantizeError::PartialRow { tensor: name(), columns, to });
        }
        let (len, bytes) = block(to.kind());
        Ok(Self { tensor, rounded: Some((from, to)), kind: to.kind(), size_bytes: tensor.elements() / len * bytes })
    }

    /// Weights of the least run that is whole in both types.
    pub fn unit_weights(&self) -> u64 {
        block(self.tensor.kind).0.max(block(self.kind).0)
    }

    /// Bytes of such a run in the file that is read.
    pub fn unit_bytes(&self) -> u64 {
        let (len, bytes) = block(self.tensor.kind);
        self.unit_weights() / len * bytes
    }

    /// The error for a fault in a piece of the tensor that begins at weight `before`.
    pub fn fault(&self, fault: Fault, before: u64) -> CliError {
        let tensor = self.tensor.name.clone();
        let error = match fault {
            Fault::NotFinite { weight, value } => QuantizeError::NotFinite { tensor, weight: before + weight, value },
            Fault::TooLarge { weight, value, limit } => {
                QuantizeError::TooLarge { tensor, weight: before + weight, value, to: self.kind.name(), limit }
            }
        };
        error.into()
    }
}

/// Weights and bytes of a block; single bytes for a type whose sizes are not known, which is only ever copied.
pub fn block(kind: TensorType) -> (u64, u64) {
    kind.block_len().zip(kind.block_bytes()).unwrap_or((1, 1))
}

/// Everything about the file that is written but its tensors' data.
#[derive(Debug)]
pub struct Plan<'a> {
    /// All tensors, in the order of the file.
    pub steps: Vec<Step<'a>>,
    /// The header, with its padding.
    pub header: Vec<u8>,
    /// Length of the whole file.
    pub file_bytes: u64,
    /// `general.file_type`.
    pub file_type: u32,
}

impl<'a> Plan<'a> {
    /// Decides about a whole file.
    ///
    /// # Errors
    /// A [`QuantizeError`] about the first tensor that is in the way; the metadata cannot be read.
    pub fn of(file: &'a GgufFile, types: Types) -> Result<Self, CliError> {
        let gguf = &file.gguf;
        if let Some(why) = gguf.gpt_oss_obstacle() {
            return Err(QuantizeError::NotGptOss { path: file.path.display().to_string(), why }.into());
        }
        let steps = gguf.tensors.iter().map(|tensor| Step::of(tensor, types)).collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<Entry<'_>> = steps
            .iter()
            .map(|step| {
                let TensorInfo { name, shape, .. } = step.tensor;
                Entry { name, shape, kind: step.kind, size_bytes: step.size_bytes }
            })
            .collect();
        let header = header(&pairs(file, types)?, &entries, gguf.alignment);
        let data_bytes: u64 = steps.iter().map(|step| step.size_bytes.next_multiple_of(gguf.alignment)).sum();
        Ok(Self { file_bytes: header.len() as u64 + data_bytes, steps, header, file_type: types.file_type() })
    }
}

/// The metadata of the file that is written: those of the file that is read, which of a split model are in its first
/// part.
fn pairs(file: &GgufFile, types: Types) -> Result<Pairs, CliError> {
    let header_len = file.parts[0].gguf.data_offset.min(file.parts[0].gguf.file_len);
    let header = file.read(0, header_len)?;
    let found = raw_pairs(&header, file.gguf.file_len).map_err(|error| CliError::gguf(&file.path, error))?;
    let mut changed =
        vec![("general.quantization_version", QUANTIZATION_VERSION), ("general.file_type", types.file_type())];
    let mut pairs = Pairs::default();
    for (key, pair) in found.into_iter().filter(|(key, _)| !key.starts_with("split.")) {
        match changed.iter().position(|(changed, _)| *changed == key) {
            Some(at) => {
                let (key, value) = changed.remove(at);
                pairs.u32(key, value);
            }
            None => pairs.raw(pair),
        }
    }
    changed.into_iter().for_each(|(key, value)| pairs.u32(key, value));
    Ok(pairs)
}
