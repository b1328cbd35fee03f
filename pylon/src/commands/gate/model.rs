//! Gate D: correctness. The whole engine on the GPU, from embedding to logits, against scalar arithmetic.

use gptoss_gates::Report;
use gptoss_gates::whole::{self, Reach, Subject, correctness};
use gptoss_model::Quiet;

use super::{Common, Opened, SizeArgs, open_device};
use crate::error::CliError;

pub use gptoss_gates::whole::correctness::TITLE;

/// Correctness: logits of the engine on the GPU and of the scalar reference
///
/// Loads the model on the GPU as `pylon infer` does, but with an F32 cache, and computes all logits of a few tokens:
/// one token at a time, and in one batch. The expectation is computed from the file's blocks in scalar arithmetic with
/// F64 sums. The error is relative: ‖gpu − expected‖ / ‖expected‖. Large models are cut to a few layers, so that memory
/// and time stay bounded; the output says to how many.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate d models/nano/gpt-oss-nano.gguf --prompt \"Hello there\"")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    size: SizeArgs,
    /// Largest relative error that passes
    #[arg(long, value_name = "X", default_value_t = whole::USUAL_TOLERANCE)]
    tolerance: f64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = Opened::open(&args.common.path)?;
    let path = &args.common.path;
    file.with(|gated| {
        let subject = Subject::new(gated, &args.size.size(), Reach::BeyondWindow, report);
        let subject = subject.map_err(|error| CliError::of_gate(error, path))?;
        let gpu = open_device(report)?;
        let done = pollster::block_on(async {
            let mut model = subject.on_gpu(&gpu, &Quiet).await?;
            correctness::check(&subject, &mut model, args.tolerance, report, &Quiet).await
        });
        done.map(drop).map_err(|error| CliError::of_gate(error, path))
    })
}
