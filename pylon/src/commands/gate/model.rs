//! Gate D: correctness. The whole engine on the GPU, from embedding to logits, against scalar arithmetic.

use gptoss_gates::{Comparison, Report};
use gptoss_model::reference::ReferenceModel;
use gptoss_model::{Asked, Backend, Quiet};

use super::Common;
use super::layered::Layered;
use super::subject::{Reach, Size, Subject, open_device};
use crate::error::CliError;

pub const TITLE: &str = "correctness: logits of the engine on the GPU and of the scalar reference";

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
    size: Size,
    /// Largest relative error that passes
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    tolerance: f64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let subject = Subject::open(&args.common.path, &args.size, Reach::BeyondWindow, report)?;
    let gpu = open_device(report)?;
    let tokens = &subject.tokens;
    let (each, last) = pollster::block_on(async {
        let mut model = subject.on_gpu(&gpu).await?;
        let each = model.logits(tokens).await?;
        let sequence = model.open()?;
        model.prefill(sequence, tokens, Asked::TOP, &Quiet, |_| {}).await?;
        Ok::<_, CliError>((each, model.last_logits(sequence, &Quiet).await?))
    })?;
    let (expected, against) = expected(&subject)?;

    let vocabulary = subject.config.vocabulary as usize;
    let shape = [tokens.len() as u64, vocabulary as u64];
    report.compare(
        Comparison::new("GPU logits of all positions, a token at a time", &against, &shape, args.tolerance)
            .with(&each, &expected),
    );
    let last_expected = &expected[expected.len() - vocabulary..];
    report.compare(
        Comparison::new(
            "GPU logits of the last position, all tokens in one batch",
            &against,
            &shape[1..],
            args.tolerance,
        )
        .with(&last, last_expected),
    );
    if tokens.len() > 1 {
        let before = &expected[expected.len() - 2 * vocabulary..][..vocabulary];
        report.compare(
            Comparison::new(
                "GPU logits of the last position",
                format!("{against}, one position before"),
                &shape[1..],
                args.tolerance,
            )
            .with(&last, before)
            .must_differ(),
        );
    }
    Ok(())
}

/// All logits by the scalar reference, and a description of it.
fn expected(subject: &Subject) -> Result<(Vec<f32>, String), CliError> {
    let Subject { file, config, inventory, layers, tokens, is_small } = subject;
    if *is_small && subject.is_whole() {
        let model = pollster::block_on(ReferenceModel::load(file.source.as_ref(), false))?;
        return Ok((model.logits(tokens), format!("the scalar reference model, all {layers} layers")));
    }
    let layered = Layered { file, config, inventory, layers: *layers };
    Ok((layered.logits(tokens)?, format!("scalar arithmetic over the first {layers} of {} layers", config.layers)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        size: Size,
    }

    /// The two references share operations, but not how a model is put together from them.
    #[test]
    fn the_references_agree() -> Result<(), CliError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/gpt-oss-nano.gguf");
        let size = Command::parse_from(["test"]).size;
        let subject = Subject::open(&path, &size, Reach::BeyondWindow, &mut Report::new('d', TITLE, String::new()))?;
        assert!(subject.is_small && subject.is_whole());
        let (whole, _) = expected(&subject)?;
        let Subject { file, config, inventory, layers, tokens, .. } = &subject;
        let layered = Layered { file, config, inventory, layers: *layers }.logits(tokens)?;
        let shape = [tokens.len() as u64, u64::from(config.vocabulary)];
        let comparison = Comparison::new("layered", "whole", &shape, 1e-6).with(&layered, &whole);
        assert!(comparison.pass(), "{comparison:?}");
        Ok(())
    }
}
