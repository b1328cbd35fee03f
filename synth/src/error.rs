use thiserror::Error;

use crate::TensorType;

/// Why a model cannot be described or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SynthError {
    /// A number of the shape that no gpt-oss model can have.
    #[error("{what} is {got}, expected {expected}")]
    Shape {
        /// Which number.
        what: &'static str,
        /// The value found.
        got: u64,
        /// What would do.
        expected: String,
    },
    /// A type for which no weights can be made here.
    #[error("weights of type {kind} cannot be made; use one of {}", supported())]
    UnsupportedType {
        /// The type asked for.
        kind: TensorType,
    },
    /// A name that is neither a type nor a mix of types.
    #[error("{name:?} is not a type; use mxfp4, mxfp4_bf16, q4_k_m or one of {}", supported())]
    UnknownType {
        /// The name as given.
        name: String,
    },
    /// An override whose rows would end inside a block.
    #[error("{tensor} has rows of {columns} weights, which are not whole {kind} blocks of {block_weights}")]
    PartialBlock {
        /// Tensor name.
        tensor: String,
        /// The type asked for.
        kind: TensorType,
        /// Weights in a row.
        columns: u64,
        /// Weights in a block of that type.
        block_weights: u64,
    },
    /// An override that changes nothing.
    #[error("no tensor has a name like {pattern:?}; names are as in blk.0.attn_q.weight, and * stands for anything")]
    PatternWithoutTensor {
        /// The pattern as given.
        pattern: String,
    },
    /// A tensor name that the model does not have.
    #[error("the model has no tensor {name:?}")]
    NoSuchTensor {
        /// The name as given.
        name: String,
    },
    /// More parts than tensors, or none.
    #[error("{tensors} tensors cannot be split into {parts} parts; every part needs at least one")]
    Split {
        /// Parts asked for.
        parts: usize,
        /// Tensors of the model.
        tensors: usize,
    },
    /// Padding cannot bring the data to where they were asked for.
    #[error("tensor data cannot begin at byte {wanted}: {why}")]
    DataOffset {
        /// The offset asked for.
        wanted: u64,
        /// What stands in the way.
        why: String,
    },
    /// The vocabulary that `tiktoken-rs` carries is not o200k as GGUF files have it.
    #[error("the o200k vocabulary is not as expected: {why}")]
    O200k {
        /// What differs.
        why: String,
    },
    /// The destination failed.
    #[error("cannot write the model")]
    Io(#[from] std::io::Error),
}

fn supported() -> String {
    let names: Vec<_> = crate::SUPPORTED_TYPES.iter().map(|kind| kind.name().to_lowercase()).collect();
    names.join(", ")
}
