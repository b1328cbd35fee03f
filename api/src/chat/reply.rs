//! A chat completion as it is answered: one object, or a chunk for each token.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use gptoss_protocol::FinishReason;
use serde::Serialize;
use serde_json::Value;

use super::request::{Asked, ChatRequest};
use crate::answer::{Answering, begin};
use crate::error::ApiError;
use crate::logprobs::Logprob;
use crate::models::Model;
use crate::prompt::{new_id, seconds_since_1970};
use crate::said::{End, Ending, Part, Piece, Usage};
use crate::served::Sketch;
use crate::server::{Engaged, Shared};
use crate::sse::{DONE, Frames, stream};

/// What every object of one completion says of it.
#[derive(Clone, Serialize)]
struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

#[derive(Serialize)]
struct Completion<C> {
    #[serde(flatten)]
    head: Head,
    choices: Vec<C>,
    /// Left out where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Told>,
}

/// What an object says of the usage.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    /// Null: a later chunk of the stream tells it.
    Later,
    Now(UsageOut),
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Message,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
    /// vLLM's: which of the request's own stops ended the answer.
    stop_reason: Value,
    #[serde(skip_serializing_if = "Pylon::is_empty")]
    pylon: Pylon,
}

/// What OpenAI's dialect has no words for.
#[derive(Clone, Default, Serialize)]
struct Pylon {
    /// Calls of what the request did not offer. They are no calls of the client's tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls_not_offered: Vec<Called>,
    /// Tools that the model is not told of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools_left_out: Vec<String>,
    /// Tools whose input an engine elsewhere is not held to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools_not_enforced: Vec<String>,
}

impl Pylon {
    fn is_empty(&self) -> bool {
        self.calls_not_offered.is_empty() && self.tools_left_out.is_empty() && self.tools_not_enforced.is_empty()
    }
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

#[derive(Clone, Serialize)]
struct Call {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Called>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<CustomCalled>,
}

#[derive(Clone, Serialize)]
struct Called {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

#[derive(Clone, Serialize)]
struct CustomCalled {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    input: String,
}

impl Call {
    /// A call, or more of one where it has neither id nor name.
    fn of(index: Option<usize>, begun: Option<(String, String)>, input: String, is_custom: bool) -> Self {
        let (id, name) = begun.unzip();
        let kind = id.is_some().then_some(if is_custom { "custom" } else { "function" });
        match is_custom {
            true => Self { index, id, kind, function: None, custom: Some(CustomCalled { name, input }) },
            false => Self { index, id, kind, function: Some(Called { name, arguments: input }), custom: None },
        }
    }
}

#[derive(Serialize)]
struct ChunkChoice {
    index: u32,
    delta: Delta,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
    /// It is told, and may be null, where `finish_reason` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<Value>,
    #[serde(skip_serializing_if = "Pylon::is_empty")]
    pylon: Pylon,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

/// Tokens as `usage` has them.
#[derive(Serialize)]
pub(crate) struct UsageOut {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    /// Left out where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.new_tokens,
            total_tokens: usage.prompt_tokens + usage.new_tokens,
            prompt_tokens_details: usage.cached_tokens.map(|cached_tokens| PromptDetails { cached_tokens }),
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

#[derive(Serialize)]
struct Logprobs {
    content: Vec<Logprob>,
    refusal: Option<Value>,
}

/// `finish_reason` of an answer that calls so many functions.
fn finish_reason(reason: FinishReason, calls: usize) -> &'static str {
    match reason {
        FinishReason::MaxTokens | FinishReason::ContextFull => "length",
        _ if calls > 0 => "tool_calls",
        FinishReason::Return | FinishReason::Call | FinishReason::StopSequence | FinishReason::Stopped => "stop",
    }
}

/// What a whole answer came to.
#[derive(Default)]
struct Whole {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, String)>,
    /// Names of tools whose input is plain text.
    custom: Vec<String>,
    pylon: Pylon,
    logprobs: Vec<Logprob>,
    part: Option<Part>,
}

impl Whole {
    fn of(custom: Vec<String>, pylon: Pylon) -> Self {
        Self { custom, pylon, ..Self::default() }
    }

    fn is_custom(&self, name: &str) -> bool {
        self.custom.iter().any(|custom| custom == name)
    }

    fn add(&mut self, piece: Piece, logprobs: Option<u32>) {
        match piece {
            Piece::Begin(part) => {
                match &part {
                    Part::Call(name) => self.calls.push((new_id("call"), name.clone(), String::new())),
                    Part::NotOffered(name) => {
                        let call = Called { name: Some(name.clone()), arguments: String::new() };
                        self.pylon.calls_not_offered.push(call);
                    }
                    Part::Reasoning | Part::Preamble | Part::Answer => {}
                }
                self.part = Some(part);
            }
            Piece::Text(text, token) => {
                let into = match self.part {
                    Some(Part::Reasoning) => &mut self.reasoning,
                    Some(Part::Call(_)) => &mut self.calls.last_mut().expect("a call was begun").2,
                    Some(Part::NotOffered(_)) => {
                        &mut self.pylon.calls_not_offered.last_mut().expect("a call was begun").arguments
                    }
                    Some(Part::Preamble | Part::Answer) | None => {
                        if let (Some(top), Some(token)) = (logprobs, token) {
                            self.logprobs.push(Logprob::of(&text, &token, top));
                        }
                        &mut self.text
                    }
                };
                into.push_str(&text);
            }
            Piece::Token(_) | Piece::End | Piece::Cut => {}
        }
    }
}

/// `POST /v1/chat/completions`.
pub(crate) async fn create<A: Engaged>(shared: Arc<Shared<A>>, request: ChatRequest) -> Result<Response, ApiError> {
    let model = shared.model_of(request.model.as_deref())?;
    let (id, created) = (new_id("chatcmpl"), seconds_since_1970());
    let head = Head { id, object: "chat.completion", created, model: model.id().to_owned() };
    if request.logprobs == Some(true) {
        shared.require_probabilities("logprobs")?;
    }
    let logprobs = (request.logprobs == Some(true)).then(|| request.top_logprobs.unwrap_or(0));
    let (streams, usage) = (request.stream == Some(true), request.wants_usage());
    let Asked { mut prompt, custom, tools_left_out, format_field } = request.into_asked(&model.served)?;
    let tools_not_enforced = shared.loosen(&mut prompt, &format_field)?;
    let said = Whole::of(custom, Pylon { tools_left_out, tools_not_enforced, ..Pylon::default() });
    let answering = begin(&model, prompt).await?;
    if streams {
        let head = Head { object: "chat.completion.chunk", ..head };
        let chunks = Chunks { model, head, logprobs, usage, whole: said };
        return Ok(stream(answering, chunks));
    }
    whole(&model, head, (said, logprobs), answering).await
}

async fn whole<A: Engaged>(
    model: &Model<A>,
    head: Head,
    (mut whole, logprobs): (Whole, Option<u32>),
    mut answering: Answering<A>,
) -> Result<Response, ApiError> {
    while let Some(pieces) = answering.next().await {
        pieces.into_iter().for_each(|piece| whole.add(piece, logprobs));
    }
    let (usage, end) = answering.end(|messages| model.served.remember(&sketch(&whole), messages))?;
    let finish_reason = finish_reason(end.reason, whole.calls.len());
    let some = |text: String| (!text.is_empty()).then_some(text);
    let reasoning = some(whole.reasoning);
    let custom = whole.custom;
    let tool_calls = whole.calls.into_iter().map(|(id, name, input)| {
        let is_custom = custom.contains(&name);
        Call::of(None, Some((id, name)), input, is_custom)
    });
    let message = Message {
        role: "assistant",
        content: some(whole.text),
        refusal: None,
        reasoning_content: reasoning.clone(),
        reasoning,
        tool_calls: tool_calls.collect(),
    };
    let logprobs = logprobs.map(|_| Logprobs { content: whole.logprobs, refusal: None });
    let stop_reason = end.stop_reason();
    let choice = Choice { index: 0, message, logprobs, finish_reason, stop_reason, pylon: whole.pylon };
    Ok(Json(Completion { head, choices: vec![choice], usage: Some(Told::Now(usage.into())) }).into_response())
}

fn sketch(whole: &Whole) -> Sketch {
    Sketch { text: whole.text.clone(), calls: whole.calls.clone() }
}

/// Writes a stream's chunks.
struct Chunks<A> {
    model: Arc<Model<A>>,
    head: Head,
    logprobs: Option<u32>,
    usage: bool,
    whole: Whole,
}

impl<A: Engaged> Chunks<A> {
    fn chunk(&self, delta: Delta, logprobs: Option<Logprobs>) -> String {
        let (finish_reason, stop_reason, pylon) = (None, None, Pylon::default());
        self.choice(ChunkChoice { index: 0, delta, logprobs, finish_reason, stop_reason, pylon })
    }

    /// The chunk that says how the answer ended.
    fn last_chunk(&self, end: &End) -> String {
        self.choice(ChunkChoice {
            index: 0,
            delta: Delta::default(),
            logprobs: None,
            finish_reason: Some(finish_reason(end.reason, self.whole.calls.len())),
            stop_reason: Some(end.stop_reason()),
            pylon: self.whole.pylon.clone(),
        })
    }

    fn choice(&self, choice: ChunkChoice) -> String {
        let choices = vec![choice];
        text(&Completion { head: self.head.clone(), choices, usage: self.usage.then_some(Told::Later) })
    }

    fn delta(&mut self, piece: &Piece) -> Option<Delta> {
        let last = self.whole.calls.len().saturating_sub(1);
        let is_custom = self.whole.calls.last().is_some_and(|(_, name, _)| self.whole.is_custom(name));
        let call = |begun, input| vec![Call::of(Some(last), begun, input, is_custom)];
        Some(match (piece, &self.whole.part) {
            (Piece::Begin(Part::Call(_)), _) => {
                let (id, name, _) = self.whole.calls.last()?;
                let begun = Some((id.clone(), name.clone()));
                Delta { tool_calls: call(begun, String::new()), ..Delta::default() }
            }
            (Piece::Text(text, _), Some(Part::Call(_))) => {
                Delta { tool_calls: call(None, text.clone()), ..Delta::default() }
            }
            // It is told with the end.
            (Piece::Text(..), Some(Part::NotOffered(_))) => return None,
            (Piece::Text(text, _), Some(Part::Reasoning)) => {
                Delta { reasoning: Some(text.clone()), reasoning_content: Some(text.clone()), ..Delta::default() }
            }
            (Piece::Text(text, _), _) => Delta { content: Some(text.clone()), ..Delta::default() },
            (Piece::Begin(_) | Piece::Token(_) | Piece::End | Piece::Cut, _) => return None,
        })
    }
}

impl<A: Engaged> Frames for Chunks<A> {
    fn begin(&mut self) -> Vec<(Option<&'static str>, String)> {
        let role = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
        vec![(None, self.chunk(role, None))]
    }

    fn piece(&mut self, piece: Piece, _so_far: Usage) -> Vec<(Option<&'static str>, String)> {
        let before = self.whole.logprobs.len();
        self.whole.add(piece.clone(), self.logprobs);
        let logprobs = (self.whole.logprobs.len() > before)
            .then(|| Logprobs { content: self.whole.logprobs.split_off(before), refusal: None });
        let delta = self.delta(&piece);
        delta.map(|delta| (None, self.chunk(delta, logprobs))).into_iter().collect()
    }

    fn end(&mut self, usage: Usage, ending: Ending) -> Vec<(Option<&'static str>, String)> {
        let mut frames = Vec::new();
        let end = match &ending {
            Ending::Finished { end, messages } => {
                self.model.served.remember(&sketch(&self.whole), messages);
                Some(end.clone())
            }
            // The server ends: what there is of the answer was cut.
            Ending::Stopped => Some(End { reason: FinishReason::MaxTokens, stopped_by: None }),
            _ => None,
        };
        match end {
            Some(end) => {
                frames.push((None, self.last_chunk(&end)));
                if self.usage {
                    let choices = Vec::<ChunkChoice>::new();
                    let usage = Some(Told::Now(usage.into()));
                    let last = Completion { head: self.head.clone(), choices, usage };
                    frames.push((None, text(&last)));
                }
            }
            None => frames.push((None, crate::sse::error(&ending))),
        }
        frames.push((None, DONE.into()));
        frames
    }
}

fn text(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("texts and numbers become JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_of_what_was_not_offered_stands_in_a_field_of_its_own() {
        let mut whole = Whole::of(Vec::new(), Pylon::default());
        let said = [
            Piece::Begin(Part::NotOffered("browser.search".into())),
            Piece::Text("[{\"q\":1}]".into(), None),
            Piece::End,
            Piece::Begin(Part::Answer),
            Piece::Text("Yes.".into(), None),
            Piece::End,
        ];
        said.into_iter().for_each(|piece| whole.add(piece, None));
        assert!(whole.calls.is_empty() && whole.text == "Yes.");
        let choice = ChunkChoice {
            index: 0,
            delta: Delta::default(),
            logprobs: None,
            finish_reason: Some(finish_reason(FinishReason::Call, whole.calls.len())),
            stop_reason: Some(Value::Null),
            pylon: whole.pylon,
        };
        let choice = serde_json::to_value(&choice).expect("JSON");
        assert_eq!(choice["finish_reason"], "stop");
        let call = json!({"name": "browser.search", "arguments": "[{\"q\":1}]"});
        assert_eq!(choice["pylon"], json!({"calls_not_offered": [call]}));
        let other = ChunkChoice {
            index: 0,
            delta: Delta::default(),
            logprobs: None,
            finish_reason: None,
            stop_reason: None,
            pylon: Pylon::default(),
        };
        assert_eq!(serde_json::to_value(&other).expect("JSON").get("pylon"), None);
    }

    #[test]
    fn an_answer_that_is_cut_is_cut_also_in_a_call() {
        assert_eq!(finish_reason(FinishReason::MaxTokens, 1), "length");
        assert_eq!(finish_reason(FinishReason::Call, 1), "tool_calls");
        assert_eq!(finish_reason(FinishReason::Return, 0), "stop");
    }
}
