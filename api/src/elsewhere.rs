//! What a prompt asks of an engine that only one of this process can be held to: forms, which are enforced token by token, and
//! penalties that spare Harmony's headers.

use gptoss_protocol::{LogitChanges, Prompt, TextShape};

use crate::error::ApiError;

/// Takes the shape from a prompt. The names are those of tools whose input it would have enforced: they are served without that,
/// since the model is told of them all the same, and clients like Codex always ask for it. A form of the answer, or which
/// tools may be called, is refused: what came instead would be no answer to the request.
pub(crate) fn loosen(prompt: &mut Prompt, format_field: &str) -> Result<Vec<String>, ApiError> {
    let LogitChanges { presence_penalty, frequency_penalty, .. } = *prompt.logits;
    for (field, penalty) in [("presence_penalty", presence_penalty), ("frequency_penalty", frequency_penalty)] {
        if penalty != 0.0 {
            let message = format!(
                "{field} is not served with --engine upstream, whose servers would count the tokens of Harmony's headers, too: \
                 leave it out"
            );
            return Err(ApiError::invalid(field, message));
        }
    }
    let Some(shape) = prompt.shape.take() else { return Ok(Vec::new()) };
    let refused = |field: &str, advice: &str| {
        let message =
            format!("{field} is not served with --engine upstream, whose servers cannot be held to it: {advice}");
        Err(ApiError::invalid(field, message))
    };
    match &shape.answer {
        None => return refused("tool_choice", "expected \"auto\" or \"none\""),
        Some(TextShape::Any) => {}
        Some(_) => return refused(format_field, "leave it out, and say in words what the answer is to be like"),
    }
    if shape.calls.len() < prompt.functions.len() {
        return refused("tool_choice", "expected \"auto\" or \"none\", and only tools that may be called");
    }
    let is_enforced = |input: &TextShape| !matches!(input, TextShape::Any | TextShape::JsonObject);
    Ok(shape.calls.into_iter().filter(|call| is_enforced(&call.input)).map(|call| call.name).collect())
}
