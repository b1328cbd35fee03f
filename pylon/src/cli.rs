//! The tree of commands. Everything about a command is in its own module; this is the list.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{api, bench, compute, doctor, gate, gguf, harmony, infer, logits, tokenize};
use crate::error::CliError;

/// gpt-oss from an unmodified GGUF file, on the command line.
#[derive(Debug, Parser)]
#[command(name = "pylon", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit status:
    0  done; of a gate or a check: passed
    1  failed: an unusable line of input, a damaged or unsupported file, a failed gate
    2  could not run: wrong arguments, an absent file, no GPU where one is needed
  130  stopped by Ctrl-C

Results go to standard output, everything else to standard error.

Examples:
  pylon infer --gguf models/nano/gpt-oss-nano.gguf --prompt \"What is 2 + 2?\"
  pylon gguf verify models/nano/gpt-oss-nano.gguf
  pylon gate c models/nano/gpt-oss-nano.gguf";

#[derive(Debug, Subcommand)]
pub enum Command {
    Infer(infer::Args),
    #[command(visible_alias = "start")]
    Api(Box<api::Args>),
    Logits(logits::Args),
    Tokenize(tokenize::Args),
    Harmony(harmony::Args),
    Gguf(gguf::Args),
    Gate(gate::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Compute(compute::Args),
}

impl Command {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// Whatever ended it early; `main` reports it.
    pub fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Self::Infer(args) => infer::run(args),
            Self::Api(args) => api::run(&args),
            Self::Logits(args) => logits::run(args),
            Self::Tokenize(args) => tokenize::run(args),
            Self::Harmony(args) => harmony::run(args),
            Self::Gguf(args) => gguf::run(args),
            Self::Gate(args) => gate::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Compute(args) => compute::run(args),
        }
    }
}
