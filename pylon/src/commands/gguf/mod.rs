//! `pylon gguf`: what is in a GGUF file, whether it is whole, and the same model in other types.

mod dump;
mod hash;
mod meta;
pub mod quantize;
mod range;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;
use sha2::{Digest, Sha256};

use crate::error::CliError;

/// Look into GGUF files (tensors, metadata, hashes, whether all is whole), and quantise them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gguf verify models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Dump(dump::Args),
    Meta(meta::Args),
    Range(range::Args),
    Hash(hash::Args),
    Verify(verify::Args),
    Quantize(quantize::Args),
}

/// # Errors
/// The file cannot be read; the arguments do not fit it.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    match args.action {
        Action::Dump(args) => dump::run(&args),
        Action::Meta(args) => meta::run(&args),
        Action::Range(args) => range::run(&args),
        Action::Hash(args) => hash::run(&args),
        Action::Verify(args) => verify::run(&args),
        Action::Quantize(args) => quantize::run(&args),
    }
}

/// SHA-256 in hexadecimal digits, fed piece by piece.
#[derive(Default)]
pub struct Sha256Hex(Sha256);

impl Sha256Hex {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// SHA-256 of one piece.
    pub fn of(bytes: &[u8]) -> String {
        let mut hash = Self::default();
        hash.update(bytes);
        hash.finish()
    }
}
