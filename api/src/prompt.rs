//! What the dialects have in common on the way in: texts, functions, numbers, and what they make of a prompt.

use std::time::{SystemTime, UNIX_EPOCH};

use gptoss_protocol::{Allowed, ChatMessage, Effort, Function, LogitChanges, Prompt, Sampling};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;

/// Range of penalties.
const PENALTIES: Allowed = Allowed { from: -2.0, is_from_included: true, to: 2.0, words: "a number from -2 to 2" };
/// Range of biases.
const BIASES: Allowed = Allowed { from: -100.0, is_from_included: true, to: 100.0, words: "a number from -100 to 100" };

/// How tokens are drawn, as every dialect spells it. What is not given is as the model was trained to be used: temperature 1, all
/// tokens, another seed for each request.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Draw {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<Value>,
}

impl Draw {
    /// The numbers, or which of them cannot be used.
    pub fn sampling(&self) -> Result<Sampling, ApiError> {
        Ok(Sampling {
            temperature: allowed("temperature", self.temperature, Sampling::TEMPERATURES)?.unwrap_or(1.0),
            top_p: allowed("top_p", self.top_p, Sampling::TOP_PS)?.unwrap_or(1.0),
            min_p: allowed("min_p", self.min_p, Sampling::MIN_PS)?.unwrap_or(0.0),
            top_k: self.top_k()?,
            seed: self.seed.map_or_else(any_seed, |seed| seed as u64),
        })
    }

    /// 0 and -1 both keep all, as servers have it that differ in which of them they take.
    fn top_k(&self) -> Result<u32, ApiError> {
        let wrong =
            |got| ApiError::invalid("top_k", format!("top_k is {got}, expected a number from 1, or 0 or -1 for all"));
        match self.top_k {
            None | Some(-1) => Ok(0),
            Some(top_k) => u32::try_from(top_k).map_err(|_| wrong(top_k)),
        }
    }

    /// What is added to logits.
    pub fn changes(&self) -> Result<LogitChanges, ApiError> {
        let penalty = |param, value| Ok::<f32, ApiError>(allowed(param, value, PENALTIES)?.unwrap_or(0.0));
        let mut bias = Vec::new();
        let given = match &self.logit_bias {
            None | Some(Value::Null) => None,
            Some(Value::Object(given)) => Some(given),
            Some(_) => {
                return Err(ApiError::invalid("logit_bias", "logit_bias is to be an object of token ids and numbers"));
            }
        };
        for (token, value) in given.into_iter().flatten() {
            let param = format!("logit_bias.{token}");
            let is_no_id = |_| ApiError::invalid(&param, format!("{param}: {token:?} is no token id"));
            let is_wrong = || ApiError::invalid(&param, format!("{param} is {value}, expected {}", BIASES.words));
            let number = value.as_f64().map(|value| value as f32).filter(|value| BIASES.holds(*value));
            bias.push((token.parse().map_err(is_no_id)?, number.ok_or_else(is_wrong)?));
        }
        Ok(LogitChanges {
            bias,
            presence_penalty: penalty("presence_penalty", self.presence_penalty)?,
            frequency_penalty: penalty("frequency_penalty", self.frequency_penalty)?,
        })
    }
}

fn allowed(param: &str, value: Option<f32>, allowed: Allowed) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !allowed.holds(value) => {
            Err(ApiError::invalid(param, format!("{param} is {value}, expected {}", allowed.words)))
        }
        value => Ok(value),
    }
}

fn any_seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| seconds_since_1970())
}

/// Now, as every dialect has it.
pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An id that nobody guesses: `resp_…`, `call_…`.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{:016x}{:08x}", any_seed(), any_seed() as u32)
}

/// The model knows three efforts; what is beyond them is the nearest.
pub(crate) fn effort(param: &str, name: Option<&str>) -> Result<Effort, ApiError> {
    match name {
        Some("none" | "minimal" | "low") => Ok(Effort::Low),
        None | Some("medium") => Ok(Effort::Medium),
        Some("high" | "xhigh" | "max") => Ok(Effort::High),
        Some(other) => {
            let expected = "none, minimal, low, medium, high, xhigh or max";
            Err(ApiError::invalid(param, format!("{param} is {other:?}, expected {expected}")))
        }
    }
}

/// The name under which an effort is told.
pub(crate) fn effort_name(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
    }
}

/// A text, or its parts.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a message. Only texts can be read by this model.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

impl Content {
    /// The whole text.
    pub fn text(&self, param: &str) -> Result<String, ApiError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Parts(parts) => {
                parts.iter().enumerate().map(|(at, part)| part.text(&format!("{param}[{at}]"))).collect()
            }
        }
    }
}

impl ContentPart {
    fn text(&self, param: &str) -> Result<&str, ApiError> {
        let text = self.text.as_ref().or(self.refusal.as_ref());
        match self.kind.as_str() {
            "text" | "input_text" | "output_text" | "refusal" | "summary_text" | "reasoning_text" => {
                text.map(String::as_str).ok_or_else(|| ApiError::invalid(param, format!("{param} has no text")))
            }
            other => {
                let message = format!("{param} is of type {other:?}: gpt-oss reads text only, expected type \"text\"");
                Err(ApiError::invalid(param, message))
            }
        }
    }
}

/// A function as Harmony has it.
pub(crate) fn function(
    param: &str,
    name: &str,
    description: Option<String>,
    parameters: Option<Value>,
) -> Result<Function, ApiError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        let expected = "1 to 64 letters, digits, _ or -";
        return Err(ApiError::invalid(param, format!("{param} is {name:?}, expected {expected}")));
    }
    Ok(Function { name: name.to_owned(), description: description.unwrap_or_default(), parameters })
}

/// A call that the model made, as it stands in a history whose tokens are not known any more.
pub(crate) fn call(name: &str, arguments: String) -> ChatMessage {
    ChatMessage::Assistant {
        channel: Some("commentary".into()),
        recipient: Some(format!("functions.{name}")),
        content_type: Some("<|constrain|>json".into()),
        text: arguments,
        tokens: None,
    }
}

/// A call of a tool whose input is plain text, as it stands in such a history.
pub(crate) fn custom_call(name: &str, input: String) -> ChatMessage {
    ChatMessage::Assistant {
        channel: Some("commentary".into()),
        recipient: Some(format!("functions.{name}")),
        content_type: None,
        text: input,
        tokens: None,
    }
}

/// Words of the model on a channel other than the final one.
pub(crate) fn on_channel(channel: &str, text: String) -> ChatMessage {
    ChatMessage::Assistant { channel: Some(channel.into()), recipient: None, content_type: None, text, tokens: None }
}

/// Puts what system or developer says where it was said: at the beginning it is an instruction; later on moving it there would change
/// the order, and the KV cache could not be used for anything behind it.
pub(crate) fn instruct(text: String, instructions: &mut Vec<String>, history: &mut Vec<ChatMessage>) {
    match history.is_empty() {
        true => instructions.push(text),
        false => history.push(ChatMessage::Developer { text }),
    }
}

/// Whether there is something for the model to answer, or to begin from: instructions alone are that.
pub(crate) fn is_asked(history: &[ChatMessage], instructions: &[String]) -> bool {
    history.last().map_or(instructions.iter().any(|text| !text.is_empty()), ChatMessage::asks)
}

/// A conversation that the model is to go on with, and what shapes its answer.
pub(crate) fn prompt(history: Vec<ChatMessage>, instructions: String) -> Prompt {
    Prompt { history, instructions, date: Some(today()), max_new_tokens: u32::MAX, ..Prompt::default() }
}

/// Today in UTC, as the system message has it: `YYYY-MM-DD`.
fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}
