//! Everything that can stop the engine, in words a user can act on.

use std::time::Duration;

use gptoss_gguf::{GgufError, Role, SplitError};
use gptoss_kernels::GpuError;
use gptoss_source::SourceError;
use gptoss_telemetry::{Failure, FailureKind, Stage};
use gptoss_text::TokenizerError;

use crate::non_finite::NonFinite;

/// Why loading or answering stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{name} cannot be read as GGUF: {error}")]
    Gguf { name: String, error: GgufError },
    #[error(transparent)]
    Header(#[from] GgufError),
    #[error("the file is no model but {role}")]
    NotAModel { role: Role },
    #[error("the model's architecture is {got:?}; this engine runs gpt-oss")]
    Architecture { got: String },
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error("{key} is {got}; this engine needs {expected}")]
    Hyperparameter { key: String, expected: String, got: String },
    #[error("the file does not hold a complete gpt-oss model:\n{}", .problems.join("\n"))]
    Tensors { problems: Vec<String> },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(
        "{given} bytes of expert memory hold {slots} experts per layer, but a token needs {needed} of them at once: at least {minimum} bytes are needed"
    )]
    ExpertMemory { given: u64, slots: u32, needed: u32, minimum: u64 },
    #[error("{0}")]
    GpuMemory(Box<MemoryShortage>),
    #[error("the prompt is {tokens} tokens long, but the context holds {capacity} and must leave room for an answer")]
    PromptTooLong { tokens: u32, capacity: u32 },
    #[error("a context of {wanted} tokens was asked for, but {limit}")]
    Context { wanted: u32, limit: String },
    #[error("{what} is {got}; expected {expected}")]
    Option { what: &'static str, expected: &'static str, got: String },
    #[error("token {id} is not in the vocabulary of {vocabulary}")]
    Token { id: u32, vocabulary: u32 },
    #[error("{0}")]
    NonFinite(NonFinite),
    #[error("the GPU was lost again after the model was rebuilt {rebuilds} times: {last}")]
    LostTooOften { rebuilds: u32, last: String },
    #[error("the GPU was lost, and for {} s there was no other: {last}", .waited.as_secs())]
    NoGpuAfterLoss { waited: Duration, last: GpuError },
    #[error("stopped")]
    Cancelled,
}

impl EngineError {
    /// What the user can do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::Source(error) => error.advice().to_string(),
            Self::Gpu(error) => error.advice().to_string(),
            Self::Gguf { error, .. } | Self::Header(error) => error.advice().into(),
            Self::NotAModel { role } => role.advice().into(),
            Self::Architecture { .. } | Self::Tensors { .. } | Self::Hyperparameter { .. } | Self::Tokenizer(_) => {
                "Use a gpt-oss GGUF such as gpt-oss-20b-mxfp4.gguf from ggml-org.".into()
            }
            Self::Split(error) => error.advice().into(),
            Self::ExpertMemory { minimum, .. } => format!("Give the experts at least {minimum} bytes."),
            Self::GpuMemory(shortage) => shortage.advice(),
            Self::PromptTooLong { .. } => "Shorten the prompt, or load the model with a larger context.".into(),
            Self::Context { .. } => "Ask for a shorter context.".into(),
            Self::Option { .. } => "Correct the value and try again.".into(),
            Self::Token { .. } => "Use ids from this model's own tokenizer.".into(),
            Self::NonFinite(found) => found.advice().into(),
            Self::LostTooOften { .. } => {
                "Close other programs that use the GPU, or load the model with less GPU memory; if it happens again, update the GPU driver.".into()
            }
            Self::NoGpuAfterLoss { .. } => {
                "Restart the browser or the program, then load the model again: after several crashes browsers give pages no GPU any more. If it happens again, update the GPU driver.".into()
            }
            Self::Cancelled => String::new(),
        }
    }

    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Source(SourceError::Nonsense { .. }) => FailureKind::Damaged,
            Self::Source(_) => FailureKind::Source,
            Self::Gguf { .. } | Self::Header(_) | Self::Split(_) => FailureKind::File,
            Self::NotAModel { .. }
            | Self::Architecture { .. }
            | Self::Hyperparameter { .. }
            | Self::Tensors { .. }
            | Self::Tokenizer(_) => FailureKind::Model,
            Self::Gpu(GpuError::NoAdapter { .. } | GpuError::NoDevice { .. }) => FailureKind::NoGpu,
            Self::Gpu(GpuError::OutOfMemory { .. } | GpuError::Limit { .. })
            | Self::ExpertMemory { .. }
            | Self::GpuMemory(_) => FailureKind::Memory,
            Self::Gpu(GpuError::Wrong(_)) => FailureKind::WrongResults,
            Self::Gpu(GpuError::DeviceLost { .. }) | Self::LostTooOften { .. } | Self::NoGpuAfterLoss { .. } => {
                FailureKind::DeviceLost
            }
            Self::NonFinite(_) => FailureKind::NotFinite,
            Self::Gpu(_) => FailureKind::Internal,
            Self::PromptTooLong { .. }
            | Self::Context { .. }
            | Self::Option { .. }
            | Self::Token { .. }
            | Self::Cancelled => FailureKind::Request,
        }
    }
}

/// GPU memory that is too little for the least that can work; all sizes in bytes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{given} bytes of GPU memory are too little, at least {needed} are needed: {dense} for the weights that every token \
     reads, {experts} for {experts_per_layer} experts of each layer, {kv} for a context of {context_tokens} tokens, \
     {scratch} for activations and staging"
)]
pub struct MemoryShortage {
    pub given: u64,
    pub needed: u64,
    pub dense: u64,
    pub experts: u64,
    pub experts_per_layer: u32,
    pub kv: u64,
    pub context_tokens: u32,
    pub scratch: u64,
    /// The longest context that fits what was given, if the one asked for is all that is too much.
    pub fitting_context_tokens: Option<u32>,
}

impl MemoryShortage {
    fn advice(&self) -> String {
        match self.fitting_context_tokens {
            Some(tokens) => format!("Ask for a context of at most {tokens} tokens, or give {} bytes.", self.needed),
            None => format!("Give at least {} bytes, or use a GPU that has as much.", self.needed),
        }
    }
}

/// An error and the stage it happened in.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StageError {
    pub stage: Stage,
    #[source]
    pub error: EngineError,
}

impl StageError {
    /// For the wire.
    pub fn failure(&self) -> Failure {
        Failure { kind: self.error.kind(), message: self.error.to_string(), advice: self.error.advice() }
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self.error, EngineError::Cancelled)
    }
}
