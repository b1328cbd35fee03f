//! What ends a gate early.

use gptoss_model::{EngineError, GpuError, StageError};
use gptoss_protocol::FailureKind;
use gptoss_source::SourceError;

/// What was said of a slice that does not fit its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The tensor itself.
    Tensor,
    /// The expert.
    Expert,
    /// The number of rows.
    Rows,
    /// The number of columns.
    Columns,
    /// The tolerance.
    Tolerance,
    /// The expected SHA-256.
    Sha256,
    /// The number of layers of a whole model.
    Layers,
    /// The text that a whole model is run on.
    Prompt,
}

impl Wrong {
    /// Its name in the address of the gate page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Expert => "expert",
            Self::Rows => "n",
            Self::Columns => "k",
            Self::Tolerance => "tolerance",
            Self::Sha256 => "sha256",
            Self::Layers => "layers",
            Self::Prompt => "prompt",
        }
    }
}

/// Why a gate came to no end.
#[derive(Debug)]
pub enum GateError {
    /// What was asked for does not fit the file.
    Argument {
        /// What does not fit.
        wrong: Wrong,
        /// What was given.
        got: String,
        /// What would fit.
        expected: String,
    },
    /// The file has no such tensor.
    NoTensor {
        /// Name of the tensor.
        tensor: String,
    },
    /// Reading, the GPU, or the model failed.
    Engine(EngineError),
}

impl From<EngineError> for GateError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<GpuError> for GateError {
    fn from(error: GpuError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<SourceError> for GateError {
    fn from(error: SourceError) -> Self {
        Self::Engine(error.into())
    }
}

impl GateError {
    /// The error of a stage, without the stage.
    pub fn of_stage(error: StageError) -> Self {
        Self::Engine(error.error)
    }

    /// Whether something is missing, so that there is no verdict; otherwise something is wrong.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Argument { .. } | Self::NoTensor { .. } => true,
            Self::Engine(error) => match error {
                EngineError::Source(SourceError::Nonsense { .. }) => false,
                // Bytes that do not come are not wrong ones, nor are those that do not fit.
                error => matches!(
                    error.kind(),
                    FailureKind::NoGpu
                        | FailureKind::Memory
                        | FailureKind::Source
                        | FailureKind::Unreachable
                        | FailureKind::DeviceLost
                ),
            },
        }
    }

    /// What happened, of a file with this name.
    pub fn message(&self, file: &str) -> String {
        match self {
            Self::Argument { wrong, got, expected } => format!("{} is {got}; expected {expected}", wrong.name()),
            Self::NoTensor { tensor } => format!("{file} has no tensor {tensor}"),
            Self::Engine(error) => error.to_string(),
        }
    }

    /// What can be done about it.
    pub fn advice(&self) -> String {
        match self {
            Self::Argument { wrong: Wrong::Tensor, .. } | Self::NoTensor { .. } => {
                "Choose a tensor from the list of this file.".into()
            }
            Self::Argument { .. } => "Correct the value and run it again.".into(),
            Self::Engine(error) => error.advice(),
        }
    }
}
