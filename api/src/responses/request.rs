//! A response as it is asked for.

use gptoss_protocol::{Effort, Prompt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::input::{Conversation, Input};
use super::store::Store;
use crate::error::ApiError;
use crate::logprobs::top;
use crate::models::Model;
use crate::prompt::{Draw, effort, is_asked, prompt};
use crate::refused::{NOT_FOR_RESPONSES, refuse};
use crate::server::Engaged;
use crate::shape::{Format, Wanted};
use crate::tools::{Choice, offered};

/// What `include` names log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

/// The body of a request. Fields that are not named here are in `draw`.
#[derive(Debug, Deserialize)]
pub(crate) struct ResponsesRequest {
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    input: Option<Input>,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    previous_response_id: Option<String>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    background: Option<bool>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    reasoning: Option<ReasoningIn>,
    #[serde(default)]
    text: Option<TextIn>,
    #[serde(default)]
    top_logprobs: Option<u32>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    conversation: Option<Value>,
    #[serde(default)]
    prompt: Option<Value>,
    #[serde(default)]
    truncation: Option<String>,
    #[serde(default)]
    max_tool_calls: Option<u32>,
    #[serde(default)]
    prompt_cache_key: Option<String>,
    #[serde(default)]
    safety_identifier: Option<String>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    draw: Draw,
}

#[derive(Debug, Default, Deserialize)]
struct ReasoningIn {
    #[serde(default)]
    effort: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TextIn {
    #[serde(default)]
    format: Option<Value>,
    #[serde(default)]
    verbosity: Option<String>,
}

/// What is told again, and has no effect here.
#[derive(Clone, Debug)]
pub(crate) struct Echoes {
    pub verbosity: String,
    pub max_tool_calls: Option<u32>,
    pub prompt_cache_key: Option<String>,
    pub safety_identifier: Option<String>,
}

/// What was asked for, with all that is said of it in the response.
pub(crate) struct Asked {
    pub prompt: Prompt,
    pub model: String,
    pub is_stored: bool,
    pub is_background: bool,
    pub input: Vec<Value>,
    pub calls: Vec<(String, String)>,
    pub instructions: Option<String>,
    /// What system and developer said among the items, in this and in earlier turns.
    pub said_instructions: Vec<String>,
    pub previous_response_id: Option<String>,
    pub tools: Vec<Value>,
    /// Names of tools whose input is plain text.
    pub custom: Vec<String>,
    /// `text.format`, as it is told again.
    pub format: Value,
    pub tool_choice: Value,
    pub parallel_tool_calls: bool,
    pub max_output_tokens: Option<u32>,
    /// Log probabilities of the texts are told, with as many of the most likely tokens.
    pub logprobs: Option<u32>,
    pub echoes: Echoes,
    pub metadata: Map<String, Value>,
    pub effort: Effort,
}

impl ResponsesRequest {
    /// The prompt, with what is known of earlier turns, and what is told of it.
    pub fn into_asked<A: Engaged>(self, model: &Model<A>, store: &Store) -> Result<Asked, ApiError> {
        self.refuse_what_cannot_be()?;
        let Some(input) = self.input else {
            return Err(ApiError::invalid("input", "input is missing, expected a text or a list of items"));
        };
        let input = input.resolved(|id| store.item(id))?;
        let mut conversation = Conversation::default();
        if let Some(id) = &self.previous_response_id {
            let said = store.recall(id).ok_or_else(|| unknown(id))?.said.ok_or_else(|| unfinished(id))?;
            (conversation.history, conversation.calls) = (said.history_for(model.id()), said.calls);
            conversation.instructions = said.instructions;
        }
        conversation.hear(&input, &model.served)?;
        let Conversation { history, instructions, calls, left_out: items_left_out, .. } = conversation;
        if !is_asked(&history, &instructions) {
            let message = "input is to end with anybody's words but the assistant's, which the model then answers";
            return Err(ApiError::invalid("input", message));
        }
        let echoes = Echoes {
            verbosity: self.text.as_ref().and_then(|text| text.verbosity.clone()).unwrap_or_else(|| "medium".into()),
            max_tool_calls: self.max_tool_calls,
            prompt_cache_key: self.prompt_cache_key,
            safety_identifier: self.safety_identifier,
        };
        let tool_choice = self.tool_choice.filter(|choice| !choice.is_null()).unwrap_or_else(|| "auto".into());
        let tools = self.tools.unwrap_or_default();
        let format = self.text.and_then(|text| text.format).filter(|format| !format.is_null());
        let (offered, left_out) = offered(&tools)?;
        let choice = Choice::read(Some(&tool_choice), &offered)?;
        let wanted = Wanted { tools: offered, choice, format: Format::read("text.format", format.as_ref())? };
        let custom = wanted.custom_names();
        let mut metadata = self.metadata.unwrap_or_default();
        for (name, left_out) in [("pylon.tools_left_out", left_out), ("pylon.items_left_out", items_left_out)] {
            if !left_out.is_empty() {
                metadata.insert(name.into(), left_out.join(", ").into());
            }
        }
        let all: Vec<String> =
            self.instructions.iter().filter(|text| !text.is_empty()).cloned().chain(instructions.clone()).collect();
        let effort = effort("reasoning.effort", self.reasoning.unwrap_or_default().effort.as_deref())?;
        let logprobs = logprobs(self.include.as_deref(), self.top_logprobs);
        let prompt = Prompt {
            effort,
            sampling: self.draw.sampling()?,
            logits: Box::new(self.draw.changes()?),
            max_new_tokens: self.max_output_tokens.unwrap_or(u32::MAX),
            top_tokens: logprobs,
            ..prompt(history, all.join("\n\n"))
        };
        Ok(Asked {
            prompt: wanted.apply(prompt)?,
            model: model.id().to_owned(),
            is_stored: self.store.unwrap_or(true),
            is_background: self.background == Some(true),
            input: input.items(),
            calls,
            instructions: self.instructions,
            said_instructions: instructions,
            previous_response_id: self.previous_response_id,
            tools,
            custom,
            format: format.unwrap_or_else(|| json!({"type": "text"})),
            tool_choice,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            max_output_tokens: self.max_output_tokens,
            logprobs,
            echoes,
            metadata,
            effort,
        })
    }

    /// What would be a lie to accept.
    fn refuse_what_cannot_be(&self) -> Result<(), ApiError> {
        refuse(&self.draw, NOT_FOR_RESPONSES)?;
        if self.background == Some(true) && self.store == Some(false) {
            let message = "background is true and store is false: what is not stored could not be asked for";
            return Err(ApiError::invalid("background", message));
        }
        if let Some(tokens @ ..16) = self.max_output_tokens {
            let message = format!("max_output_tokens is {tokens}, expected at least 16, as with OpenAI");
            return Err(ApiError::invalid("max_output_tokens", message));
        }
        top("top_logprobs", self.top_logprobs)?;
        let conversation =
            "conversation is given, and there are none here: go on with previous_response_id, or send all items";
        let prompt =
            "prompt is given, and there are no prompt templates here: send their text as instructions and input";
        for (param, field, message) in
            [("conversation", &self.conversation, conversation), ("prompt", &self.prompt, prompt)]
        {
            if field.as_ref().is_some_and(|value| !value.is_null()) {
                return Err(ApiError::invalid(param, message));
            }
        }
        one_of("truncation", self.truncation.as_deref(), &["disabled", "auto"])?;
        one_of(
            "text.verbosity",
            self.text.as_ref().and_then(|text| text.verbosity.as_deref()),
            &["low", "medium", "high"],
        )?;
        if let Some((name, _)) = self.metadata.iter().flatten().find(|(_, value)| !value.is_string()) {
            let param = format!("metadata.{name}");
            return Err(ApiError::invalid(&param, format!("{param} is to be a text")));
        }
        Ok(())
    }
}

fn one_of(param: &str, given: Option<&str>, words: &[&str]) -> Result<(), ApiError> {
    match given {
        Some(given) if !words.contains(&given) => {
            Err(ApiError::invalid(param, format!("{param} is {given:?}, expected {}", words.join(" or "))))
        }
        _ => Ok(()),
    }
}

/// How many of the most likely tokens are told with each token of a text. Asking for some asks for log probabilities.
fn logprobs(include: Option<&[String]>, top: Option<u32>) -> Option<u32> {
    let is_included = include.is_some_and(|include| include.iter().any(|what| what == LOGPROBS));
    (is_included || top.is_some_and(|top| top > 0)).then(|| top.unwrap_or(0))
}

fn unknown(id: &str) -> ApiError {
    ApiError {
        code: Some("previous_response_not_found"),
        ..ApiError::invalid(
            "previous_response_id",
            format!("previous_response_id is {id:?}, and no response of that id is stored here"),
        )
    }
}

fn unfinished(id: &str) -> ApiError {
    let message = "is under way, was cancelled or failed: only from a whole response another one goes on";
    ApiError::invalid("previous_response_id", format!("previous_response_id is {id:?}, which {message}"))
}

impl Asked {
    /// `tools` as they are told again: with the fields that a client may have left out.
    pub fn told_tools(&self) -> Vec<Value> {
        let tools = self.tools.iter().cloned().map(|mut tool| {
            if let Some(fields) = tool.as_object_mut().filter(|fields| fields.get("type") == Some(&json!("function"))) {
                for (name, value) in
                    [("description", Value::Null), ("parameters", Value::Null), ("strict", json!(false))]
                {
                    fields.entry(name).or_insert(value);
                }
            }
            tool
        });
        tools.collect()
    }
}
