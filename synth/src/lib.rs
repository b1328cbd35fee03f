//! Synthetic gpt-oss models: GGUF version 3 files with the metadata, tensor names, order, shapes and types of the public
//! files, the real o200k vocabulary or a tiny one, and weights that are made up but behave.
//!
//! Files are streamed: no more than a few megabytes of weights exist at a time, whatever the size of the model. Every
//! row of every tensor is a pure function of the seed, the tensor's name and the row's index, so equal specifications
//! give equal bytes and any tensor can be made again alone ([`Model::tensor_bytes`]).
//!
//! ```
//! use gptoss_synth::{Spec, TensorType, TypeMix};
//! let model = Spec::tiny().layers(2).types(TypeMix::Uniform(TensorType::Q4_0)).seed(7).build()?;
//! let mut file = Vec::new();
//! model.write(&mut file)?;
//! assert_eq!(file.len() as u64, model.file_bytes());
//! # Ok::<(), gptoss_synth::SynthError>(())
//! ```

pub mod edit;
mod error;
mod header;
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
