//! Gate E: limits. What the adapter grants, and that every size follows from it.

use gptoss_gates::{Report, limits};
use gptoss_model::{Inventory, ModelConfig, Quiet};

use super::{Common, open_device};
use crate::error::CliError;
use crate::gguf_file::GgufFile;

pub use gptoss_gates::limits::TITLE;

/// Limits: every size follows from what the adapter grants
///
/// Plans the model's memory under the limits granted here and under those that WebGPU guarantees everywhere, checks
/// that each buffer of the plan fits, that requests beyond the limits are refused, and allocates the largest matrix.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate e models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = GgufFile::open_model(&args.common.path)?;
    // What is wrong with the file is said even where there is no device.
    let config = ModelConfig::from_gguf(&file.gguf)?;
    Inventory::from_gguf(&file.gguf, &config)?;
    let gpu = open_device(report)?;
    Ok(pollster::block_on(limits::check(&file.gguf, &gpu, report, &Quiet))?)
}
