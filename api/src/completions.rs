//! `/v1/completions`: a text, or token ids, that the model continues, without Harmony.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use gptoss_protocol::{FinishReason, Prompt, PromptFormat, PromptIds};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::begin;
use crate::chat::{Stop, UsageOut};
use crate::error::ApiError;
use crate::logprobs::{Logprob, columns, top};
use crate::prompt::{Draw, new_id, seconds_since_1970};
use crate::refused::{NOT_FOR_COMPLETIONS, refuse, refuse_stops_in_texts};
use crate::said::{End, Ending, Piece, Usage};
use crate::server::{Engaged, Shared};
use crate::sse::{DONE, Frame, Frames, stream};

/// Tokens of a completion where the request does not say: as OpenAI has it.
const USUAL_TOKENS: u32 = 16;

/// The body of a request. Fields that are not named here are in `draw`.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionRequest {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    prompt: Value,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    stop: Option<Stop>,
    /// Token ids that end the answer, beside those that end every answer.
    #[serde(default)]
    stop_token_ids: Option<Vec<u32>>,
    /// Whether the ids of the answer's tokens are told, as `token_ids` of a choice.
    #[serde(default)]
    return_token_ids: Option<bool>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<Value>,
    #[serde(default)]
    logprobs: Option<u32>,
    #[serde(flatten)]
    draw: Draw,
}

impl CompletionRequest {
    fn into_prompt(self) -> Result<Prompt, ApiError> {
        refuse(&self.draw, NOT_FOR_COMPLETIONS)?;
        if self.max_tokens == Some(0) {
            return Err(ApiError::invalid("max_tokens", "max_tokens is 0, expected at least 1"));
        }
        let (user, tokens, format) = match Asked::of(&self.prompt)? {
            Asked::Text(text) => (text, Vec::new(), PromptFormat::Text),
            Asked::Tokens(tokens) => (String::new(), tokens, PromptFormat::Tokens),
        };
        let stop = Stop::texts(self.stop);
        refuse_stops_in_texts(&self.draw, &stop)?;
        Ok(Prompt {
            user,
            format,
            ids: Box::new(PromptIds { prompt: tokens, stop: self.stop_token_ids.unwrap_or_default() }),
            max_new_tokens: self.max_tokens.unwrap_or(USUAL_TOKENS),
            sampling: self.draw.sampling()?,
            logits: Box::new(self.draw.changes()?),
            stop,
            top_tokens: top("logprobs", self.logprobs)?,
            ..Prompt::default()
        })
    }
}

/// What is to be continued.
#[derive(Debug, PartialEq)]
enum Asked {
    Text(String),
    Tokens(Vec<u32>),
}

impl Asked {
    /// A text or token ids; a list with one of them is the same.
    fn of(prompt: &Value) -> Result<Self, ApiError> {
        let refused = |got: &str| {
            let expected = "one text, or one list of token ids";
            ApiError::invalid("prompt", format!("prompt is {got}, expected {expected}"))
        };
        match prompt {
            Value::Null => Err(refused("missing")),
            Value::String(text) if text.is_empty() => Err(refused("empty")),
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(parts) => match &parts[..] {
                [] => Err(refused("an empty list")),
                [one @ (Value::String(_) | Value::Array(_))] => Self::of(one),
                [Value::String(_) | Value::Array(_), ..] => Err(refused("a list of several prompts")),
                ids => {
                    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
                    let wrong = |id: &Value| refused(&format!("a list with {id}, which is no token id"));
                    ids.iter()
                        .map(|value| id(value).ok_or_else(|| wrong(value)))
                        .collect::<Result<_, _>>()
                        .map(Self::Tokens)
                }
            },
            _ => Err(refused("neither")),
        }
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
    let tells_ids = request.return_token_ids == Some(true);
    let tokens = tells_ids.then(Vec::new);
    if request.logprobs.is_some() {
        shared.require_probabilities("logprobs")?;
    }
    let logprobs = request.logprobs.map(|top| Logprobs { top, offset: 0, of_tokens: Vec::new() });
    let said = Said { text: String::new(), tokens, logprobs };
    let (id, created) = (new_id("cmpl"), seconds_since_1970());
    let chunks = Chunks { id, created, model: model.id().to_owned(), usage, said };
    let mut prompt = request.into_prompt()?;
    // Completions have no forms that could be named.
    shared.loosen(&mut prompt, "response_format")?;
    let mut answering = begin(&model, prompt).await?;
    if streams {
        return Ok(stream(answering, chunks));
    }
    let mut said = chunks.said.clone();
    while let Some(pieces) = answering.next().await {
        pieces.into_iter().for_each(|piece| said.add(piece));
    }
    let (usage, end) = answering.end(|_| {})?;
    let mut object = chunks.object(Some((&said, Some(&end))));
    object["usage"] = json!(UsageOut::from(usage));
    Ok(Json(object).into_response())
}

/// What was said and has not been told.
#[derive(Clone, Default)]
struct Said {
    text: String,
    /// Ids of the tokens, where they are wanted.
    tokens: Option<Vec<u32>>,
    /// The tokens' log probabilities, where they are wanted.
    logprobs: Option<Logprobs>,
}

#[derive(Clone)]
struct Logprobs {
    /// As many of the most likely tokens are told.
    top: u32,
    /// Characters that were told before.
    offset: usize,
    of_tokens: Vec<Logprob>,
}

impl Said {
    fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Text(more, token) => {
                if let (Some(logprobs), Some(token)) = (&mut self.logprobs, token) {
                    logprobs.of_tokens.push(Logprob::of(&more, &token, logprobs.top));
                }
                self.text.push_str(&more);
            }
            Piece::Token(id) => self.tokens.iter_mut().for_each(|tokens| tokens.push(id)),
            Piece::Begin(_) | Piece::End | Piece::Cut => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.as_ref().is_none_or(Vec::is_empty)
    }

    fn take(&mut self) -> Self {
        let text = std::mem::take(&mut self.text);
        let logprobs = self.logprobs.as_mut().map(|logprobs| {
            let of_tokens = std::mem::take(&mut logprobs.of_tokens);
            let told = Logprobs { of_tokens, ..*logprobs };
            logprobs.offset += text.chars().count();
            told
        });
        Self { text, tokens: self.tokens.as_mut().map(std::mem::take), logprobs }
    }
}

struct Chunks {
    id: String,
    created: u64,
    model: String,
    usage: bool,
    said: Said,
}

impl Chunks {
    fn object(&self, choice: Option<(&Said, Option<&End>)>) -> Value {
        let reason = |end: &End| match end.reason {
            FinishReason::MaxTokens | FinishReason::ContextFull => "length",
            _ => "stop",
        };
        let object = |(said, ended): (&Said, Option<&End>)| {
            let logprobs = said.logprobs.as_ref().map(|logprobs| columns(&logprobs.of_tokens, logprobs.offset));
            let mut object =
                json!({"index": 0, "text": said.text, "logprobs": logprobs, "finish_reason": ended.map(reason)});
            if let Some(end) = ended {
                object["stop_reason"] = end.stop_reason();
            }
            if let Some(tokens) = &said.tokens {
                object["token_ids"] = json!(tokens);
            }
            object
        };
        let choices: Vec<Value> = choice.into_iter().map(object).collect();
        json!({"id": self.id, "object": "text_completion", "created": self.created, "model": self.model, "choices": choices})
    }

    /// A chunk of a stream. Where the last one tells the usage, the others have null there, as OpenAI has it.
    fn chunk(&self, said: &Said, end: Option<&End>) -> Frame {
        let mut object = self.object(Some((said, end)));
        if self.usage {
            object["usage"] = Value::Null;
        }
        (None, object.to_string())
    }
}

impl Frames for Chunks {
    fn begin(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    fn piece(&mut self, piece: Piece, _so_far: Usage) -> Vec<Frame> {
        // The token comes behind the text that it completed: both are one chunk.
        let is_whole = matches!(piece, Piece::Token(_));
        self.said.add(piece);
        if !is_whole || self.said.is_empty() {
            return Vec::new();
        }
        let said = self.said.take();
        vec![self.chunk(&said, None)]
    }

    fn end(&mut self, usage: Usage, ending: Ending) -> Vec<Frame> {
        let mut frames = Vec::new();
        let end = match &ending {
            Ending::Finished { end, .. } => Some(end.clone()),
            // The server ends: what there is of the text was cut.
            Ending::Stopped => Some(End { reason: FinishReason::MaxTokens, stopped_by: None }),
            _ => None,
        };
        match end {
            Some(end) => {
                let rest = self.said.take();
                frames.push(self.chunk(&rest, Some(&end)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_one_text_or_one_list_of_tokens() {
        let asked = |prompt: Value| Asked::of(&prompt).map_err(|error| error.message);
        assert_eq!(asked(json!("a")), Ok(Asked::Text("a".into())));
        assert_eq!(asked(json!(["a"])), Ok(Asked::Text("a".into())));
        for tokens in [json!([5, 0, 7]), json!([[5, 0, 7]])] {
            assert_eq!(asked(tokens), Ok(Asked::Tokens(vec![5, 0, 7])));
        }
        for (wrong, words) in [
            (Value::Null, "prompt is missing"),
            (json!(""), "empty"),
            (json!([]), "an empty list"),
            (json!([[]]), "an empty list"),
            (json!(["a", "b"]), "several"),
            (json!([[1], [2]]), "several"),
            (json!([1, -2]), "-2"),
            (json!([1, 4294967296_u64]), "4294967296"),
            (json!([1, "a"]), "\"a\""),
            (json!({}), "neither"),
        ] {
            let error = asked(wrong).expect_err(words);
            assert!(error.contains(words) && error.contains("token ids"), "{error}");
        }
    }
}
