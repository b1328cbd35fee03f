//! Gate D: correctness. The whole engine on the GPU, from embedding to logits, against scalar arithmetic.

use gptoss_engine::Model;
use gptoss_model::{Asked, AwaitPoint, Backend, Host, until_stopped};
use gptoss_protocol::GateStep;

use super::{Expected, Subject, Way};
use crate::error::GateError;
use crate::report::{Comparison, Report};

/// What the gate is about.
pub const TITLE: &str = "correctness: logits of the engine on the GPU and of the scalar reference";

/// Computes all logits of the subject's tokens on the GPU, one token at a time and in one batch, and compares them with those
/// of scalar arithmetic, which it gives.
///
/// # Errors
/// The GPU was lost, a value is not finite, reading failed, and STOP.
pub async fn check(
    subject: &Subject<'_>,
    model: &mut Model,
    tolerance: f64,
    report: &mut Report,
    host: &dyn Host,
) -> Result<Expected, GateError> {
    let tokens = &subject.tokens;
    let way = Way::new(subject);
    way.tell(format!("{} tokens", tokens.len()), GateStep::Multiply, [0, 0], host);
    let each = until_stopped(host, AwaitPoint::Logits, model.logits(tokens)).await??;
    let sequence = model.open()?;
    model.prefill(sequence, tokens, Asked::TOP, host, |_| {}).await?;
    let last = model.last_logits(sequence, host).await?;
    model.close(sequence);
    let expected = subject.expected(host).await?;

    let vocabulary = subject.config.vocabulary as usize;
    let shape = [tokens.len() as u64, vocabulary as u64];
    let against = &expected.against;
    let all = "GPU logits of all positions, a token at a time";
    report.compare(Comparison::new(all, against, &shape, tolerance).in_detail().with(&each, &expected.logits));
    let last_expected = &expected.logits[expected.logits.len() - vocabulary..];
    let batched = "GPU logits of the last position, all tokens in one batch";
    report.compare(Comparison::new(batched, against, &shape[1..], tolerance).in_detail().with(&last, last_expected));
    if tokens.len() > 1 {
        let before = &expected.logits[expected.logits.len() - 2 * vocabulary..][..vocabulary];
        let against = format!("{against}, one position before");
        let control = Comparison::new("GPU logits of the last position", against, &shape[1..], tolerance);
        report.compare(control.with(&last, before).must_differ());
    }
    Ok(expected)
}
