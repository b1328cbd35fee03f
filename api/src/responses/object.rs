//! The response object, and its items, as they are told.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request::Asked;
use crate::logprobs::Logprob;
use crate::prompt::{effort_name, seconds_since_1970};
use crate::said::Usage;

/// A response: every key is always there, since clients and schemas ask for them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResponseObject {
    pub id: String,
    object: &'static str,
    created_at: u64,
    completed_at: Option<u64>,
    pub status: &'static str,
    background: bool,
    pub error: Option<Value>,
    pub incomplete_details: Option<Value>,
    instructions: Option<String>,
    max_output_tokens: Option<u32>,
    max_tool_calls: Option<u32>,
    model: String,
    pub output: Vec<Value>,
    parallel_tool_calls: bool,
    previous_response_id: Option<String>,
    prompt_cache_key: Option<String>,
    reasoning: Value,
    safety_identifier: Option<String>,
    service_tier: &'static str,
    store: bool,
    temperature: f32,
    text: Value,
    tool_choice: Value,
    tools: Vec<Value>,
    top_logprobs: u32,
    top_p: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    truncation: &'static str,
    usage: Option<Value>,
    pub metadata: Map<String, Value>,
}

impl ResponseObject {
    /// A response that has just begun.
    pub fn new(id: String, asked: &Asked) -> Self {
        let sampling = asked.prompt.sampling;
        Self {
            id,
            object: "response",
            created_at: seconds_since_1970(),
            completed_at: None,
            status: "in_progress",
            background: asked.is_background,
            error: None,
            incomplete_details: None,
            instructions: asked.instructions.clone(),
            max_output_tokens: asked.max_output_tokens,
            max_tool_calls: asked.echoes.max_tool_calls,
            model: asked.model.clone(),
            output: Vec::new(),
            parallel_tool_calls: asked.parallel_tool_calls,
            previous_response_id: asked.previous_response_id.clone(),
            prompt_cache_key: asked.echoes.prompt_cache_key.clone(),
            reasoning: json!({"effort": effort_name(asked.effort), "summary": null}),
            safety_identifier: asked.echoes.safety_identifier.clone(),
            service_tier: "default",
            store: asked.is_stored,
            temperature: sampling.temperature,
            text: json!({"format": asked.format, "verbosity": asked.echoes.verbosity}),
            tool_choice: asked.tool_choice.clone(),
            tools: asked.told_tools(),
            top_logprobs: asked.logprobs.unwrap_or(0),
            top_p: sampling.top_p,
            presence_penalty: asked.prompt.logits.presence_penalty,
            frequency_penalty: asked.prompt.logits.frequency_penalty,
            truncation: "disabled",
            usage: None,
            metadata: asked.metadata.clone(),
        }
    }

    /// It has ended.
    pub fn end(&mut self, status: &'static str, usage: Usage) {
        self.status = status;
        self.completed_at = (status == "completed").then(seconds_since_1970);
        // The dialect has no word for what nobody knows.
        let cached_tokens = usage.cached_tokens.unwrap_or(0);
        self.usage = Some(json!({
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.new_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.new_tokens,
        }));
    }
}

/// An item of the output, as far as it has come.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Reasoning {
        id: String,
        text: String,
    },
    Message {
        id: String,
        phase: &'static str,
        text: String,
        /// Log probabilities of the text's tokens; empty where nobody wants them.
        logprobs: Vec<Logprob>,
    },
    Call {
        id: String,
        call_id: String,
        name: String,
        arguments: String,
    },
    /// A call of a tool whose input is plain text.
    CustomCall {
        id: String,
        call_id: String,
        name: String,
        input: String,
    },
}

impl Item {
    pub fn id(&self) -> &str {
        match self {
            Self::Reasoning { id, .. }
            | Self::Message { id, .. }
            | Self::Call { id, .. }
            | Self::CustomCall { id, .. } => id,
        }
    }

    /// What has come of its text or arguments.
    pub fn text(&mut self) -> &mut String {
        match self {
            Self::Reasoning { text, .. }
            | Self::Message { text, .. }
            | Self::Call { arguments: text, .. }
            | Self::CustomCall { input: text, .. } => text,
        }
    }

    /// The one part of an item that has parts.
    pub fn part(&self) -> Option<Value> {
        match self {
            Self::Reasoning { text, .. } => Some(json!({"type": "reasoning_text", "text": text})),
            Self::Message { text, logprobs, .. } => {
                Some(json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}))
            }
            Self::Call { .. } | Self::CustomCall { .. } => None,
        }
    }

    /// The item, with its part once it has one.
    pub fn object(&self, status: &'static str, has_part: bool) -> Value {
        let content: Vec<Value> = self.part().filter(|_| has_part).into_iter().collect();
        match self {
            Self::Reasoning { id, .. } => {
                json!({"type": "reasoning", "id": id, "summary": [], "content": content, "status": status})
            }
            Self::Message { id, phase, .. } => {
                json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": content, "phase": phase})
            }
            Self::Call { id, call_id, name, arguments } => {
                json!({"type": "function_call", "id": id, "call_id": call_id, "name": name, "arguments": arguments, "status": status})
            }
            Self::CustomCall { id, call_id, name, input } => {
                json!({"type": "custom_tool_call", "id": id, "call_id": call_id, "name": name, "input": input, "status": status})
            }
        }
    }
}
