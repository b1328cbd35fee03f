//! Gate G: logits. From embedding to head on every backend that is here; finite, plausible, and alike.

use gptoss_engine::Model;
use gptoss_model::{Asked, Backend, EngineError, Host, Prediction};
use gptoss_protocol::GateStep;
use gptoss_text::Tokenizer;
use serde_json::{Value, json};

use super::{Subject, Way};
use crate::error::GateError;
use crate::report::{Comparison, Report};

/// What the gate is about.
pub const TITLE: &str = "logits: embedding, layers and head on every backend";

/// How many logits are shown.
const TOP: usize = 5;
/// Limit that no trained head comes near; weights that are read wrongly exceed it.
const LARGEST_LOGIT: f32 = 1e4;

/// Looks at the logits after the subject's last token that a CPU gave, and where there is a GPU at its own; both have to agree.
///
/// # Errors
/// The GPU was lost, a value is not finite, and STOP.
pub async fn check(
    subject: &Subject<'_>,
    on_cpu: &[f32],
    on_gpu: Option<&mut Model>,
    tolerance: f64,
    report: &mut Report,
    host: &dyn Host,
) -> Result<(), GateError> {
    look_at("CPU", on_cpu, &subject.tokenizer, report)?;
    let Some(model) = on_gpu else { return Ok(()) };
    report.fact("GPU", model.description().trim_start_matches("GPU: "));
    Way::new(subject).tell(format!("{} tokens", subject.tokens.len()), GateStep::Multiply, [0, 0], host);
    let on_gpu = last_logits(model, &subject.tokens, host).await?;
    look_at("GPU", &on_gpu, &subject.tokenizer, report)?;
    let shape = [u64::from(subject.config.vocabulary)];
    let comparison = Comparison::new("logits on the GPU", "logits on the CPU", &shape, tolerance);
    report.compare(comparison.in_detail().with(&on_gpu, on_cpu));
    Ok(())
}

/// The logits after `tokens`, `[vocabulary]`.
///
/// # Errors
/// The errors are the backend's, and STOP.
pub async fn last_logits(model: &mut impl Backend, tokens: &[u32], host: &dyn Host) -> Result<Vec<f32>, EngineError> {
    let sequence = model.open()?;
    model.prefill(sequence, tokens, Asked::TOP, host, |_| {}).await?;
    let logits = model.last_logits(sequence, host).await;
    model.close(sequence);
    logits
}

/// Shows the most likely tokens and checks what must hold of any model's logits.
fn look_at(backend: &str, logits: &[f32], tokenizer: &Tokenizer, report: &mut Report) -> Result<(), GateError> {
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
