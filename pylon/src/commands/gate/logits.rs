//! Gate G: logits. From embedding to head on every backend that is here; finite, plausible, and alike.

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_gates::Report;
use gptoss_gates::whole::{self, Reach, Subject, logits};
use gptoss_model::{Backend, Quiet};

use super::{Common, Opened, SizeArgs, open_device};
use crate::error::CliError;
use crate::exit;

pub use gptoss_gates::whole::logits::TITLE;

/// Logits: embedding, layers and head on every backend
///
/// Runs a prompt through the CPU and, where there is one, the GPU, both with F32 activations and cache, and shows the
/// five most likely next tokens. The logits have to be finite, not all alike, of a plausible size, and less spread than
/// chance; where both backends exist they have to agree.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate g models/nano/gpt-oss-nano.gguf --layers 2")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    size: SizeArgs,
    /// Largest relative difference between the backends that passes
    #[arg(long, value_name = "X", default_value_t = whole::USUAL_TOLERANCE)]
    tolerance: f64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = Opened::open(&args.common.path)?;
    let path = &args.common.path;
    file.with(|gated| {
        let subject = Subject::new(gated, &args.size.size(), Reach::Prompt, report);
        let subject = subject.map_err(|error| CliError::of_gate(error, path))?;
        let on_cpu = pollster::block_on(async {
            let mut model = CpuModel::open(&file.file.path, &cpu_options(&subject), &Quiet).await?;
            report.fact("CPU", model.description().trim_start_matches("CPU: "));
            Ok::<_, CliError>(logits::last_logits(&mut model, &subject.tokens, &Quiet).await?)
        })?;
        // A missing GPU is a fact; a GPU that fails is a failure.
        let gpu = match open_device(report) {
            Ok(gpu) => Some(gpu),
            Err(error) if error.exit_status() == exit::COULD_NOT_RUN => {
                report.fact("GPU", format!("none, so nothing was compared: {error}"));
                None
            }
            Err(error) => return Err(error),
        };
        let done = pollster::block_on(async {
            let mut model = match &gpu {
                Some(gpu) => Some(subject.on_gpu(gpu, &Quiet).await?),
                None => None,
            };
            logits::check(&subject, &on_cpu, model.as_mut(), args.tolerance, report, &Quiet).await
        });
        done.map_err(|error| CliError::of_gate(error, path))
    })
}

fn cpu_options(subject: &Subject<'_>) -> CpuOptions {
    CpuOptions {
        max_kv_tokens: Some(subject.kv_tokens()),
        layers: Some(subject.layers),
        kv_f32: true,
        activations: Activations::F32,
        ..CpuOptions::default()
    }
}
