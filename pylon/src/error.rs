//! Everything that ends a command early, in words a user can act on.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gptoss_gates::{GateError, Wrong};
use gptoss_gguf::GgufError;
use gptoss_model::{EngineError, GpuError, StageError};
use gptoss_protocol::{Failure, FailureKind, RefusedOption};
use gptoss_source::SourceError;
use gptoss_upstream::WrongTrust;
use serve_kit::config::FromFile;
use serve_kit::tls::TlsError;

use crate::commands::gguf::quantize::QuantizeError;
use crate::exit;
use crate::option_args::flag_of;
use crate::output::note;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A combination of arguments that clap cannot judge.
    #[error("{what} is {got}; expected {expected}")]
    Argument { what: String, got: String, expected: String },
    /// A file that cannot be opened, read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    File { path: PathBuf, action: &'static str, source: io::Error },
    #[error("standard input cannot be read: {0}")]
    Input(io::Error),
    /// A line of the input that cannot be used. `line` counts from 1.
    #[error("line {line} of the input: {problem}; expected {expected}")]
    InputLine { line: usize, problem: String, expected: String },
    #[error("{} is not a sound GGUF file: {error}", .path.display())]
    Gguf { path: PathBuf, error: GgufError },
    #[error("{} has no tensor {tensor}", .path.display())]
    NoTensor { path: PathBuf, tensor: String },
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Engine(EngineError),
    /// What a node said of a request.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// What went wrong with one of several files.
    #[error("{}: {error}", .path.display())]
    OfFile { path: PathBuf, error: Box<CliError> },
    /// An address that cannot be listened on, or a server that ended.
    #[error("cannot serve at {address}: {source}")]
    Server { address: String, source: io::Error },
    /// The system has no room for sockets or threads.
    #[error("no sockets can be opened: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Trust(#[from] WrongTrust),
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    /// The reader of standard output has seen enough. This is not reported, and is not a failure.
    #[error("nobody reads standard output any more")]
    ReaderGone,
}

/// Translates into the words of the command line: an option that is refused is named by its flag.
impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Option { option, expected, got } => {
                Self::Argument { what: flag_of(option), got, expected: expected.into() }
            }
            other => Self::Engine(other),
        }
    }
}

/// Whatever ends a gate but arguments, which have a file: see [`CliError::of_gate`].
impl From<GateError> for CliError {
    fn from(error: GateError) -> Self {
        Self::of_gate(error, Path::new(""))
    }
}

/// What a node says of a request, likewise.
impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        match failure.parameter {
            Some(RefusedOption { option, got: Some(got), expected: Some(expected) }) => {
                Self::Argument { what: flag_of(option), got, expected }
            }
            parameter => Self::Failed(Failure { parameter, ..failure }),
        }
    }
}

impl From<StageError> for CliError {
    fn from(error: StageError) -> Self {
        error.error.into()
    }
}

impl From<GpuError> for CliError {
    fn from(error: GpuError) -> Self {
        EngineError::from(error).into()
    }
}

impl CliError {
    /// What ended a gate on a file: what was wrong about it is named by its flag.
    pub fn of_gate(error: GateError, path: &Path) -> Self {
        match error {
            GateError::Argument { wrong, got, expected } => {
                let flag = match wrong {
                    Wrong::Tensor | Wrong::Expert => "--tensor",
                    Wrong::Rows => "--rows",
                    Wrong::Columns => "--columns",
                    Wrong::Tolerance => "--tolerance",
                    Wrong::Sha256 => "--sha256",
                    Wrong::Layers => "--layers",
                    Wrong::Prompt => "--prompt",
                };
                Self::Argument { what: flag.into(), got, expected }
            }
            GateError::NoTensor { tensor } => Self::NoTensor { path: path.to_owned(), tensor },
            GateError::Engine(error) => error.into(),
        }
    }

    /// An argument that a configuration file gave is named by its line there: nobody typed the flag.
    pub fn of_file(self, from_file: &FromFile) -> Self {
        match self {
            Self::Argument { what, got, expected } => Self::Argument { what: from_file.explain(&what), got, expected },
            other => other,
        }
    }

    /// The error for a file whose header cannot be used.
    pub fn gguf(path: &Path, error: GgufError) -> Self {
        Self::Gguf { path: path.to_owned(), error: error.of_file(&path.to_string_lossy()) }
    }

    /// The error with the file that it is about, unless it names that already.
    #[must_use]
    pub fn with_file(self, path: &Path) -> Self {
        match self.to_string().contains(&*path.to_string_lossy()) {
            true => self,
            false => Self::OfFile { path: path.to_owned(), error: Box::new(self) },
        }
    }

    /// The error for a failed write to standard output.
    pub fn from_output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Output(error),
        }
    }

    /// What the user can do about it; empty where the message says it all.
    pub fn advice(&self) -> String {
        match self {
            Self::Argument { .. } | Self::ReaderGone => String::new(),
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "Check the path; `pylon doctor` lists the models it finds.".into()
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                "Store it as a text in UTF-8 and try again.".into()
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "Make room there, or write to another disk.".into()
            }
            Self::File { .. } => "Check the path and its permissions.".into(),
            Self::Input(_) => "Give the rows on standard input, one JSON object to a line, in UTF-8.".into(),
            Self::InputLine { .. } => "Correct that line; the lines before it were answered.".into(),
            Self::Gguf { error, .. } => error.advice().into(),
            Self::NoTensor { .. } => "`pylon gguf dump` lists the tensors of a file.".into(),
            Self::Quantize(error) => error.advice().into(),
            Self::Source(error) => error.advice().into(),
            Self::Engine(error) => error.advice(),
            Self::Failed(failure) => failure.advice.clone(),
            Self::OfFile { error, .. } => error.advice(),
            Self::Server { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "Another program listens there; --bind takes another address, such as 127.0.0.1:0 for any free port."
                    .into()
            }
            Self::Server { .. } => "--bind takes another address.".into(),
            Self::Tls(_) => {
                "--tls-cert and --tls-key take a certificate with its chain and its private key, as PEM.".into()
            }
            Self::Trust(WrongTrust::None { .. }) => {
                "Install the system's certificates (ca-certificates), or name a file of some with --upstream-ca.".into()
            }
            Self::Trust(_) => "--upstream-ca takes certificates as PEM: the server's own, or of who signed it.".into(),
            Self::Runtime(_) => "Raise the limits of open files and threads.".into(),
            Self::Output(_) => "Check that there is room where standard output goes.".into(),
        }
    }

    /// Exit status of the program; see [`exit`].
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Argument { .. }
            | Self::File { .. }
            | Self::Input(_)
            | Self::NoTensor { .. }
            | Self::Server { .. }
            | Self::Runtime(_)
            | Self::Tls(_)
            | Self::Trust(_) => exit::COULD_NOT_RUN,
            Self::OfFile { error, .. } => error.exit_status(),
            Self::Source(error) | Self::Engine(EngineError::Source(error)) if is_absent(error) => exit::COULD_NOT_RUN,
            Self::Engine(EngineError::Cancelled) => exit::INTERRUPTED,
            Self::Engine(error) if error.kind() == FailureKind::NoGpu => exit::COULD_NOT_RUN,
            Self::Failed(failure) if failure.kind == FailureKind::NoGpu => exit::COULD_NOT_RUN,
            Self::InputLine { .. }
            | Self::Gguf { .. }
            | Self::Quantize(_)
            | Self::Source(_)
            | Self::Engine(_)
            | Self::Failed(_)
            | Self::Output(_) => exit::FAILED,
            Self::ReaderGone => 0,
        }
    }

    /// Reports on standard error what happened and what to do, and returns the exit status.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::ReaderGone) {
            note(format_args!("pylon: {self}"));
            let advice = self.advice();
            if !advice.is_empty() {
                note(format_args!("  {advice}"));
            }
        }
        ExitCode::from(self.exit_status())
    }
}

/// Whether the file does not exist, as opposed to one with something wrong.
fn is_absent(error: &SourceError) -> bool {
    matches!(error, SourceError::Io { .. } | SourceError::NotAFile { .. } | SourceError::PartsMissing { .. })
}
