//! `/v1/completions`: a text that the model continues, without Harmony.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use gptoss_protocol::{FinishReason, Prompt, PromptFormat};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::begin;
use crate::chat::{Stop, UsageOut};
use crate::error::ApiError;
use crate::prompt::{Draw, new_id, seconds_since_1970};
use crate::said::{Ending, Piece, Usage};
use crate::server::{Engaged, Shared};
use crate::sse::{DONE, Frame, Frames, stream};

/// Tokens of a completion where the request does not say: as OpenAI has it.
const USUAL_TOKENS: u32 = 16;

/// The body of a request. Fields that are not named here are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionRequest {
    #[serde(default)]
    model: Option<String>,
    prompt: Value,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    stop: Option<Stop>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<Value>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    best_of: Option<u32>,
    #[serde(default)]
    logprobs: Option<u32>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(flatten)]
    draw: Draw,
}

impl CompletionRequest {
    fn into_prompt(self) -> Result<Prompt, ApiError> {
        for (param, is_given) in [
            ("n", self.n.is_some_and(|n| n != 1)),
            ("best_of", self.best_of.is_some_and(|n| n != 1)),
            ("echo", self.echo == Some(true)),
            ("logprobs", self.logprobs.is_some()),
            ("suffix", self.suffix.is_some_and(|suffix| !suffix.is_empty())),
        ] {
            if is_given {
                return Err(ApiError::invalid(param, format!("{param} is not served for completions: leave it out")));
            }
        }
        let text = match &self.prompt {
            Value::String(text) => text.clone(),
            Value::Array(texts) if texts.len() == 1 && texts[0].is_string() => {
                texts[0].as_str().unwrap_or("").to_owned()
            }
            _ => return Err(ApiError::invalid("prompt", "prompt is to be one text")),
        };
        if text.is_empty() {
            return Err(ApiError::invalid("prompt", "prompt is empty, expected a text to continue"));
        }
        if self.max_tokens == Some(0) {
            return Err(ApiError::invalid("max_tokens", "max_tokens is 0, expected at least 1"));
        }
        Ok(Prompt {
            user: text,
            format: PromptFormat::Text,
            max_new_tokens: self.max_tokens.unwrap_or(USUAL_TOKENS),
            sampling: self.draw.sampling()?,
            logits: Box::new(self.draw.changes()?),
            stop: Stop::texts(self.stop),
            ..Prompt::default()
        })
    }
}

/// `POST /v1/completions`.
pub(crate) async fn create<A: Engaged>(
    shared: Arc<Shared<A>>,
    request: CompletionRequest,
) -> Result<Response, ApiError> {
    let model = shared.model_of(request.model.as_deref())?;
    let streams = request.stream == Some(true);
    let usage = request.stream_options.as_ref().is_some_and(|options| options["include_usage"] == true);
    let chunks = Chunks { id: new_id("cmpl"), created: seconds_since_1970(), model, usage };
    let mut answering = begin(&shared, request.into_prompt()?).await?;
    if streams {
        return Ok(stream(answering, chunks));
    }
    let mut text = String::new();
    while let Some(pieces) = answering.next().await {
        for piece in pieces {
            if let Piece::Text(more, _) = piece {
                text.push_str(&more);
            }
        }
    }
    let (usage, reason) = answering.end(|_| {})?;
    let mut object = chunks.object(Some((&text, Some(reason))));
    object["usage"] = json!(UsageOut::from(usage));
    Ok(Json(object).into_response())
}

struct Chunks {
    id: String,
    created: u64,
    model: String,
    usage: bool,
}

impl Chunks {
    fn object(&self, choice: Option<(&str, Option<FinishReason>)>) -> Value {
        let reason = |reason| match reason {
            FinishReason::MaxTokens | FinishReason::ContextFull => "length",
            _ => "stop",
        };
        let choices: Vec<Value> = choice
            .into_iter()
            .map(
                |(text, ended)| json!({"index": 0, "text": text, "logprobs": null, "finish_reason": ended.map(reason)}),
            )
            .collect();
        json!({"id": self.id, "object": "text_completion", "created": self.created, "model": self.model, "choices": choices})
    }
}

impl Frames for Chunks {
    fn begin(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    fn piece(&mut self, piece: Piece, _so_far: Usage) -> Vec<Frame> {
        match piece {
            Piece::Text(text, _) => vec![(None, self.object(Some((&text, None))).to_string())],
            Piece::Begin(_) | Piece::End => Vec::new(),
        }
    }

    fn end(&mut self, usage: Usage, ending: Ending) -> Vec<Frame> {
        let mut frames = Vec::new();
        let reason = match &ending {
            Ending::Finished { reason, .. } => Some(*reason),
            // The server ends: what there is of the text was cut.
            Ending::Stopped => Some(FinishReason::MaxTokens),
            _ => None,
        };
        match reason {
            Some(reason) => {
                frames.push((None, self.object(Some(("", Some(reason)))).to_string()));
                if self.usage {
                    let mut last = self.object(None);
                    last["usage"] = json!(UsageOut::from(usage));
                    frames.push((None, last.to_string()));
                }
            }
            None => frames.push((None, crate::sse::error(&ending))),
        }
        frames.push((None, DONE.into()));
        frames
    }
}
