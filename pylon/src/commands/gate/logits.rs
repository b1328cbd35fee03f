//! Gate G: logits. From embedding to head on every backend that is here; finite, plausible, and alike.

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_gates::{Comparison, Report};
use gptoss_model::{Asked, Backend, Prediction, Quiet};
use gptoss_text::Tokenizer;
use serde_json::{Value, json};

use super::Common;
use super::subject::{Reach, Size, Subject, open_device};
use crate::error::CliError;
use crate::exit;

pub const TITLE: &str = "logits: embedding, layers and head on every backend";

/// How many logits are shown.
const TOP: usize = 5;
/// Limit that no trained head comes near; weights that are read wrongly exceed it.
const LARGEST_LOGIT: f32 = 1e4;

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
    size: Size,
    /// Largest relative difference between the backends that passes
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    tolerance: f64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let subject = Subject::open(&args.common.path, &args.size, Reach::Prompt, report)?;
    let tokenizer = subject.file.tokenizer()?;
    let on_cpu = pollster::block_on(async {
        let mut model = CpuModel::open(&subject.file.path, &cpu_options(&subject), &Quiet).await?;
        report.fact("CPU", model.description().trim_start_matches("CPU: "));
        run(&mut model, &subject.tokens).await
    })?;
    look_at("CPU", &on_cpu, &tokenizer, report)?;

    // A missing GPU is a fact; a GPU that fails is a failure.
    let gpu = match open_device(report) {
        Ok(gpu) => gpu,
        Err(error) if error.exit_status() == exit::COULD_NOT_RUN => {
            report.fact("GPU", format!("none, so nothing was compared: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let on_gpu = pollster::block_on(async {
        let mut model = subject.on_gpu(&gpu).await?;
        report.fact("GPU", model.description().trim_start_matches("GPU: "));
        run(&mut model, &subject.tokens).await
    })?;
    look_at("GPU", &on_gpu, &tokenizer, report)?;
    let shape = [u64::from(subject.config.vocabulary)];
    report.compare(
        Comparison::new("logits on the GPU", "logits on the CPU", &shape, args.tolerance).with(&on_gpu, &on_cpu),
    );
    Ok(())
}

fn cpu_options(subject: &Subject) -> CpuOptions {
    CpuOptions {
        max_kv_tokens: Some(subject.kv_tokens()),
        layers: Some(subject.layers),
        kv_f32: true,
        activations: Activations::F32,
        ..CpuOptions::default()
    }
}

/// The logits after `tokens`, `[vocabulary]`.
async fn run(model: &mut impl Backend, tokens: &[u32]) -> Result<Vec<f32>, CliError> {
    let sequence = model.open()?;
    model.prefill(sequence, tokens, Asked::TOP, &Quiet, |_| {}).await?;
    let logits = model.last_logits(sequence, &Quiet).await;
    model.close(sequence);
    Ok(logits?)
}

/// Shows the most likely tokens and checks what must hold of any model's logits.
fn look_at(backend: &str, logits: &[f32], tokenizer: &Tokenizer, report: &mut Report) -> Result<(), CliError> {
    let not_finite = logits.iter().filter(|logit| !logit.is_finite()).count();
    report.check(
        format!("finite on the {backend}"),
        not_finite == 0,
        format!("{not_finite} of {} are not", logits.len()),
    );
    if not_finite > 0 {
        return Ok(());
    }
    let prediction = Prediction::from_logits(logits, 1.0, true, 0)?;
    let name = if backend == "GPU" { "top 5 on the GPU" } else { "top 5 on the CPU" };
    report.fact(name, top(&prediction, tokenizer));

    let largest = logits.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    report.check(
        format!("of plausible size on the {backend}"),
        largest > 0.0 && largest < LARGEST_LOGIT,
        format!("the largest is {largest}; expected above 0 and below {LARGEST_LOGIT}"),
    );
    let uniform = (logits.len() as f32).ln();
    report.check(
        format!("less spread than chance on the {backend}"),
        prediction.entropy_nats < uniform,
        format!("entropy {:.4} nats; {uniform:.4} if all tokens were equally likely", prediction.entropy_nats),
    );
    Ok(())
}

fn top(prediction: &Prediction, tokenizer: &Tokenizer) -> Value {
    let line = |(token, logit): (u32, f32)| {
        let text = tokenizer.decode(&[token]).unwrap_or_default();
        let probability = (logit - prediction.log_sum_exp).exp();
        json!(format!("{text:?} ({token}): logit {logit:.4}, probability {probability:.4}"))
    };
    prediction.candidates.iter().take(TOP).map(|candidate| line((candidate.token, candidate.logit))).collect()
}
