#![doc = include_str!("../README.md")]

pub mod edit;
mod error;
mod metadata;
mod model;
mod random;
mod spec;
mod split;
mod template;
mod tensors;
mod types;
mod vocabulary;
mod weights;

pub use error::SynthError;
pub use gptoss_gguf::TensorType;
pub use model::Model;
pub use spec::{GOLDEN_20B_DATA_OFFSET, Publisher, Spec};
pub use split::{Part, part_name};
pub use tensors::Tensor;
pub use types::{SUPPORTED_TYPES, TypeMix, parse_type};
pub use vocabulary::{Arrays, Vocabulary};
