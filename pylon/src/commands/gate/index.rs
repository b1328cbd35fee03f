//! Gate A: the index. Header and tensor table, and that they describe a whole gpt-oss model.

use gptoss_gates::{Report, index};

use super::{Common, Opened};
use crate::error::CliError;

pub use gptoss_gates::index::TITLE;

/// The index: header and tensor table describe a whole gpt-oss model
///
/// Reads the header, and checks hyperparameters, names, types and shapes of all tensors, that there are no others, and
/// that their sizes add up to the size of the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate a models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Tensors to list
    #[arg(long, value_name = "N", default_value_t = index::USUAL_LIMIT)]
    limit: usize,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = Opened::open(&args.common.path)?;
    file.with(|gated| index::check(gated, args.limit, report))
}
