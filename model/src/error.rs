//! Everything that can stop the engine, in words a user can act on.

use std::sync::Arc;
use std::time::Duration;

use crate::gpu_error::GpuError;
use gptoss_gguf::{GgufError, Role, SplitError, WrongKey};
use gptoss_protocol::units::{bytes, bytes_at_least, bytes_at_most};
use gptoss_protocol::{Failure, FailureKind, OptionId, RefusedOption, Stage};
use gptoss_source::SourceError;
use gptoss_text::TokenizerError;

use crate::non_finite::NonFinite;

/// Why loading or answering stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum EngineError {
    /// Bytes of the model could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file is damaged or no GGUF file.
    #[error("{name} cannot be read as GGUF: {error}")]
    Gguf { name: String, error: GgufError },
    /// The header contradicts itself.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// The file is a sound GGUF file, but an adapter, a projector or the like.
    #[error("the file is no model but {role}")]
    NotAModel { role: Role },
    /// The model is not a gpt-oss model.
    #[error("the model's architecture is {got:?}; this engine runs gpt-oss")]
    Architecture { got: String },
    /// The files do not form one split model.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A metadata key asks for arithmetic that the engine does not do.
    #[error(transparent)]
    Key(#[from] WrongKey),
    /// Tensors are missing, misshapen or of an unsupported type; each problem is a sentence.
    #[error("the file does not hold a complete gpt-oss model:\n{}", .problems.join("\n"))]
    Tensors { problems: Vec<String> },
    /// The file's tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The GPU refused or failed.
    #[error("{}", in_units(.0))]
    Gpu(#[from] GpuError),
    /// The memory limit for experts is too low for the experts that one token needs at once.
    #[error(
        "{} of expert memory hold {slots} experts per layer, but a token needs {needed} of them at once: at least {} are needed",
        bytes_at_most(*.given),
        bytes_at_least(*.minimum)
    )]
    ExpertMemory { given: u64, slots: u32, needed: u32, minimum: u64 },
    /// The memory limit for the GPU is too low for the model.
    #[error("{0}")]
    GpuMemory(Box<MemoryShortage>),
    /// The prompt does not fit the context. `longest` is the model's own context: what the capacity could be.
    #[error("the prompt is {tokens} tokens long, but the context holds {capacity} and must leave room for an answer")]
    PromptTooLong { tokens: u32, capacity: u32, longest: u32 },
    /// The KV cache has no room for more tokens. `sequences`: how many sequences share it.
    #[error(
        "the KV cache is full: {tokens} more tokens do not fit, {free_tokens} do, and the conversations that are open ({sequences}) \
         hold the rest"
    )]
    CacheFull { tokens: u32, free_tokens: u32, sequences: u32 },
    /// All sequences that the model was loaded for are open.
    #[error("{most} conversations are open, which is all that the model was loaded for")]
    TooManySequences { most: u32 },
    /// The shape that an answer was to have cannot be enforced.
    #[error("the answer cannot be held to its shape: {reason}")]
    Shape { reason: String },
    /// A batch was given up together with another one.
    #[error("the batch was dropped: one before it failed, or its conversation was rewound or closed")]
    BatchDropped,
    /// What several answers failed with, whose tokens were computed in one batch.
    #[error("{0}")]
    Together(Arc<EngineError>),
    /// The context is longer than the model, or the device, allows.
    #[error("a context of {wanted} tokens was asked for, but {limit}")]
    Context { wanted: u32, limit: String },
    /// An option has a value that cannot be used.
    #[error("{} is {got}; expected {expected}", .option.name())]
    Option { option: OptionId, expected: &'static str, got: String },
    /// An answer was asked for before a model was loaded.
    #[error("no model is loaded")]
    NoModel,
    /// A token id is outside the vocabulary.
    #[error("token {id} is not in the vocabulary of {vocabulary}")]
    Token { id: u32, vocabulary: u32 },
    /// The computation met NaN or an infinity.
    #[error("{0}")]
    NonFinite(NonFinite),
    /// The GPU was lost more often during one answer than recovery is attempted.
    #[error("the GPU was lost again after {recoveries} recoveries: {last}")]
    LostTooOften { recoveries: u32, last: String },
    /// After a loss no GPU appeared in time.
    #[error("the GPU was lost, and for {} s there was no other: {last}", .waited.as_secs())]
    NoGpuAfterLoss { waited: Duration, last: GpuError },
    /// The user pressed STOP.
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
            Self::Shape { .. } => "Ask for a simpler shape, or for none.".into(),
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

    /// The option that cannot be used, with what was wrong about it, for the wire.
    fn refused_option(&self) -> Option<RefusedOption> {
        match self {
            Self::Option { option, expected, got } => {
                Some(RefusedOption { option: *option, got: Some(got.clone()), expected: Some((*expected).to_owned()) })
            }
            Self::Together(error) => error.refused_option(),
            other => other.parameter().map(|option| RefusedOption { option, got: None, expected: None }),
        }
    }

    /// The option that cannot be used, if that is the error.
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

    /// The kind of failure that events report.
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
            | Self::Shape { .. }
            | Self::BatchDropped
            | Self::Context { .. }
            | Self::Option { .. }
            | Self::NoModel
            | Self::Token { .. }
            | Self::Cancelled => FailureKind::Request,
        }
    }
}

/// The message of a GPU error, with sizes in the units that all messages use.
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

/// A context length with room for a prompt and an answer, in tokens; `None` if the model's is too short.
fn context_for(prompt_tokens: u32, longest: u32) -> Option<u32> {
    const ANSWER_TOKENS: u32 = 512;
    let roomy = prompt_tokens.saturating_add(ANSWER_TOKENS).checked_next_multiple_of(64).unwrap_or(u32::MAX);
    (prompt_tokens < longest).then(|| roomy.min(longest))
}

/// The memory limit for the GPU is below the least that can work. Sizes are in bytes.
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
    /// The limit.
    pub given: u64,
    /// The least that would do, in all.
    pub needed: u64,
    /// Weights that every token uses.
    pub dense: u64,
    /// The fewest expert slots.
    pub experts: u64,
    /// How many slots that is for each layer.
    pub experts_per_layer: u32,
    /// The KV cache.
    pub kv: u64,
    /// Context length that the KV cache is for, in tokens.
    pub context_tokens: u32,
    /// Buffers for intermediate results.
    pub scratch: u64,
    /// The longest context that fits the limit, if only the one that was asked for is too long.
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
    /// The stage that was under way.
    pub stage: Stage,
    /// What went wrong.
    #[source]
    pub error: EngineError,
}

impl StageError {
    /// Converts the error for an event.
    pub fn failure(&self) -> Failure {
        let error = &self.error;
        let (message, advice) = (error.to_string(), error.advice());
        Failure { kind: error.kind(), message, advice, parameter: error.refused_option() }
    }

    /// Whether the user's STOP caused it.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.error, EngineError::Cancelled)
    }
}
