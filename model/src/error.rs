//! Everything that can stop the engine, in words a user can act on.

use std::sync::Arc;
use std::time::Duration;

use crate::gpu_error::GpuError;
use gptoss_gguf::{GgufError, Role, SplitError, WrongKey};
use gptoss_protocol::units::{bytes, bytes_at_least, bytes_at_most};
use gptoss_protocol::{Failure, FailureKind, OptionId, Stage};
use gptoss_source::SourceError;
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
    #[error(transparent)]
    Key(#[from] WrongKey),
    #[error("the file does not hold a complete gpt-oss model:\n{}", .problems.join("\n"))]
    Tensors { problems: Vec<String> },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("{}", in_units(.0))]
    Gpu(#[from] GpuError),
    #[error(
        "{} of expert memory hold {slots} experts per layer, but a token needs {needed} of them at once: at least {} are needed",
        bytes_at_most(*.given),
        bytes_at_least(*.minimum)
    )]
    ExpertMemory { given: u64, slots: u32, needed: u32, minimum: u64 },
    #[error("{0}")]
    GpuMemory(Box<MemoryShortage>),
    /// `longest` is the model's own context: what the capacity could be.
    #[error("the prompt is {tokens} tokens long, but the context holds {capacity} and must leave room for an answer")]
    PromptTooLong { tokens: u32, capacity: u32, longest: u32 },
    /// `sequences`: those that hold the rest of it.
    #[error(
        "the KV cache is full: {tokens} more tokens do not fit, {free_tokens} do, and the conversations that are open ({sequences}) \
         hold the rest"
    )]
    CacheFull { tokens: u32, free_tokens: u32, sequences: u32 },
    #[error("{most} conversations are open, which is all that the model was loaded for")]
    TooManySequences { most: u32 },
    #[error("the batch was dropped: one before it failed, or its conversation was rewound or closed")]
    BatchDropped,
    /// What several answers failed with, whose tokens were computed in one batch.
    #[error("{0}")]
    Together(Arc<EngineError>),
    #[error("a context of {wanted} tokens was asked for, but {limit}")]
    Context { wanted: u32, limit: String },
    #[error("{} is {got}; expected {expected}", .option.name())]
    Option { option: OptionId, expected: &'static str, got: String },
    #[error("no model is loaded")]
    NoModel,
    #[error("token {id} is not in the vocabulary of {vocabulary}")]
    Token { id: u32, vocabulary: u32 },
    #[error("{0}")]
    NonFinite(NonFinite),
    #[error("the GPU was lost again after {recoveries} recoveries: {last}")]
    LostTooOften { recoveries: u32, last: String },
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
            Self::Architecture { .. } | Self::Tensors { .. } | Self::Key(_) | Self::Tokenizer(_) => {
                "Use a gpt-oss GGUF such as gpt-oss-20b-mxfp4.gguf from ggml-org.".into()
            }
            Self::Split(error) => error.advice().into(),
            Self::ExpertMemory { minimum, .. } => format!("Give the experts at least {}.", bytes_at_least(*minimum)),
            Self::GpuMemory(shortage) => shortage.advice(),
            &Self::PromptTooLong { tokens, longest, .. } => match context_for(tokens, longest) {
                Some(context) => format!("Shorten the prompt, or load the model with a KV capacity of {context} tokens."),
                None => format!("Shorten the prompt: the model's own context is {longest} tokens."),
            },
            Self::CacheFull { .. } => "Close or shorten a conversation, or load the model with a larger KV capacity.".into(),
            Self::TooManySequences { .. } => "Close a conversation first.".into(),
            Self::BatchDropped => "Submit it again.".into(),
            Self::Together(error) => error.advice(),
            Self::Context { .. } => "Ask for a shorter context.".into(),
            Self::Option { .. } => "Correct the value and try again.".into(),
            Self::NoModel => "Load a model first.".into(),
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

    /// The option that cannot be used, where it is one.
    pub fn parameter(&self) -> Option<OptionId> {
        match self {
            Self::PromptTooLong { .. } => Some(OptionId::Prompt),
            Self::Context { .. } => Some(OptionId::MaxKvTokens),
            Self::ExpertMemory { .. } => Some(OptionId::ExpertMemory),
            Self::GpuMemory(_) => Some(OptionId::GpuMemory),
            Self::Gpu(GpuError::Tier { .. }) => Some(OptionId::Tier),
            Self::Option { option, .. } => Some(*option),
            Self::Together(error) => error.parameter(),
            _ => None,
        }
    }

    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Source(SourceError::Nonsense { .. }) => FailureKind::Damaged,
            Self::Source(error) if error.is_unreachable() => FailureKind::Unreachable,
            Self::Source(_) => FailureKind::Source,
            Self::Gguf { .. } | Self::Header(_) | Self::Split(_) => FailureKind::File,
            Self::NotAModel { .. }
            | Self::Architecture { .. }
            | Self::Key(_)
            | Self::Tensors { .. }
            | Self::Tokenizer(_) => FailureKind::Model,
            Self::Gpu(GpuError::NoAdapter { .. } | GpuError::NoDevice { .. } | GpuError::TooLimited { .. }) => {
                FailureKind::NoGpu
            }
            Self::Gpu(GpuError::OutOfMemory { .. } | GpuError::Limit { .. })
            | Self::ExpertMemory { .. }
            | Self::GpuMemory(_) => FailureKind::Memory,
            Self::Gpu(GpuError::Tier { .. }) => FailureKind::Request,
            Self::Gpu(GpuError::Wrong(_)) => FailureKind::WrongResults,
            Self::Gpu(GpuError::DeviceLost { .. }) | Self::LostTooOften { .. } | Self::NoGpuAfterLoss { .. } => {
                FailureKind::DeviceLost
            }
            Self::NonFinite(_) => FailureKind::NotFinite,
            Self::Together(error) => error.kind(),
            Self::Gpu(_) => FailureKind::Internal,
            Self::CacheFull { .. } => FailureKind::Memory,
            Self::PromptTooLong { .. }
            | Self::TooManySequences { .. }
            | Self::BatchDropped
            | Self::Context { .. }
            | Self::Option { .. }
            | Self::NoModel
            | Self::Token { .. }
            | Self::Cancelled => FailureKind::Request,
        }
    }
}

/// An error of the GPU with its sizes as all others are written.
fn in_units(error: &GpuError) -> String {
    match error {
        GpuError::OutOfMemory { what, bytes: size, detail } => {
            format!("not enough GPU memory for {what} ({}): {detail}", bytes(*size))
        }
        GpuError::Limit { limit, needed, granted } => {
            let (granted, needed) = (bytes_at_most(*granted), bytes_at_least(*needed));
            format!("the GPU's limit {limit} is {granted}; {needed} are needed")
        }
        other => other.to_string(),
    }
}

/// A context that has room for a prompt and an answer of some length, in tokens; `None` if the model has none.
fn context_for(prompt_tokens: u32, longest: u32) -> Option<u32> {
    const ANSWER_TOKENS: u32 = 512;
    let roomy = prompt_tokens.saturating_add(ANSWER_TOKENS).checked_next_multiple_of(64).unwrap_or(u32::MAX);
    (prompt_tokens < longest).then(|| roomy.min(longest))
}

/// GPU memory that is too little for the least that can work; all sizes in bytes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{} of GPU memory are too little, at least {} are needed: {} for the weights that every token reads, {} for \
     {experts_per_layer} experts of each layer, {} for a context of {context_tokens} tokens, {} for activations and staging",
    bytes_at_most(*.given),
    bytes_at_least(*.needed),
    bytes(*.dense),
    bytes(*.experts),
    bytes(*.kv),
    bytes(*.scratch)
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
        let needed = bytes_at_least(self.needed);
        match self.fitting_context_tokens {
            Some(tokens) => {
                format!("Ask for a context of at most {tokens} tokens, or give {needed}.")
            }
            None => format!("Give at least {needed}, or use a GPU that has as much."),
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
        let error = &self.error;
        let (message, advice) = (error.to_string(), error.advice());
        Failure { kind: error.kind(), message, advice, parameter: error.parameter() }
    }

    pub fn is_cancelled(&self) -> bool {
        matches!(self.error, EngineError::Cancelled)
    }
}
