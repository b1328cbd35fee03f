//! What the dialects have in common on the way in: texts, functions, numbers, and what they make of a prompt.

use std::time::{SystemTime, UNIX_EPOCH};

use gptoss_protocol::{Allowed, ChatMessage, Effort, Function, LogitChanges, Prompt, Sampling};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::reading::{Listed, TextOr};
use crate::refused::{NOT_SERVED, refuse};

/// Range of penalties.
const PENALTIES: Allowed = Allowed { from: -2.0, is_from_included: true, to: 2.0, words: "a number from -2 to 2" };
/// Range of biases.
const BIASES: Allowed = Allowed { from: -100.0, is_from_included: true, to: 100.0, words: "a number from -100 to 100" };

/// The fields of a request that its dialect has no field of its own for: how tokens are drawn, as every dialect spells it, what
/// other servers know ([`NOT_SERVED`]), and what is ignored. They stay values until they are used: whatever reads flattened fields
/// by their types does not tell which of them has a wrong one.
///
/// What is not given is as the model was trained to be used: temperature 1, all tokens, another seed for each request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Draw(Map<String, Value>);

impl Draw {
    /// A field, unless it is missing or null.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// The numbers, or which of them cannot be used; what would change the draw and is not served is refused.
    pub fn sampling(&self) -> Result<Sampling, ApiError> {
        refuse(self, NOT_SERVED)?;
        Ok(Sampling {
            temperature: self.number("temperature", Sampling::TEMPERATURES)?.unwrap_or(1.0),
            top_p: self.number("top_p", Sampling::TOP_PS)?.unwrap_or(1.0),
            min_p: self.number("min_p", Sampling::MIN_PS)?.unwrap_or(0.0),
            top_k: self.top_k()?,
            seed: self.seed()?,
        })
    }

    fn number(&self, field: &str, allowed: Allowed) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().map(|value| value as f32).filter(|value| allowed.holds(*value));
        number.map(Some).ok_or_else(|| wrong(field, value, allowed.words))
    }

    /// 0 and -1 both keep all, as servers have it that differ in which of them they take.
    fn top_k(&self) -> Result<u32, ApiError> {
        let Some(value) = self.get("top_k") else { return Ok(0) };
        let top_k = if value.as_i64() == Some(-1) { Some(0) } else { value.as_u64() };
        let top_k = top_k.and_then(|top_k| u32::try_from(top_k).ok());
        top_k.ok_or_else(|| wrong("top_k", value, "a whole number from 1, or 0 or -1 for all"))
    }

    fn seed(&self) -> Result<u64, ApiError> {
        let Some(value) = self.get("seed") else { return Ok(any_seed()) };
        let seed = value.as_i64().map(|seed| seed as u64);
        seed.ok_or_else(|| wrong("seed", value, "a whole number of at most 64 bits with its sign"))
    }

    /// What is added to logits.
    pub fn changes(&self) -> Result<LogitChanges, ApiError> {
        let penalty = |field| Ok::<f32, ApiError>(self.number(field, PENALTIES)?.unwrap_or(0.0));
        let mut bias = Vec::new();
        let given = match self.get("logit_bias") {
            None => None,
            Some(Value::Object(given)) => Some(given),
            Some(value) => return Err(wrong("logit_bias", value, "an object of token ids and numbers")),
        };
        for (token, value) in given.into_iter().flatten() {
            let param = format!("logit_bias.{token}");
            let is_no_id = |_| ApiError::invalid(&param, format!("{param}: {token:?} is no token id"));
            let number = value.as_f64().map(|value| value as f32).filter(|value| BIASES.holds(*value));
            bias.push((token.parse().map_err(is_no_id)?, number.ok_or_else(|| wrong(&param, value, BIASES.words))?));
        }
        Ok(LogitChanges {
            bias,
            presence_penalty: penalty("presence_penalty")?,
            frequency_penalty: penalty("frequency_penalty")?,
        })
    }
}

/// A field has a value that it cannot have.
pub(crate) fn wrong(field: &str, value: &Value, expected: &str) -> ApiError {
    let got = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        plain => plain.to_string(),
    };
    ApiError::invalid(field, format!("{field} is {got}, expected {expected}"))
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

/// What efforts are called.
pub(crate) const EFFORTS: &str = "none, minimal, low, medium, high, xhigh or max";

/// The model knows three efforts; what is beyond them is the nearest.
pub(crate) fn effort(param: &str, name: Option<&str>) -> Result<Effort, ApiError> {
    match name {
        Some("none" | "minimal" | "low") => Ok(Effort::Low),
        None | Some("medium") => Ok(Effort::Medium),
        Some("high" | "xhigh" | "max") => Ok(Effort::High),
        Some(other) => Err(ApiError::invalid(param, format!("{param} is {other:?}, expected {EFFORTS}"))),
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
pub(crate) type Content = TextOr<ContentPart>;

impl Listed for ContentPart {
    const EXPECTED: &'static str = "a text or a list of parts";
}

/// A part of a message. Only texts can be read by this model.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a part, which is an object with a type")]
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
            Self::List(parts) => {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A dialect's request, whose own fields come first.
    #[derive(Debug, Deserialize)]
    struct Whole {
        model: String,
        #[serde(flatten)]
        draw: Draw,
    }

    fn draw(fields: &Value) -> Draw {
        let mut body = fields.clone();
        body["model"] = "m".into();
        let Whole { model, draw } = serde_json::from_str(&body.to_string()).expect("of the shape");
        assert_eq!((model.as_str(), draw.get("model")), ("m", None));
        draw
    }

    #[test]
    fn a_field_of_a_wrong_type_is_named() {
        for (field, value) in [
            ("temperature", json!("hot")),
            ("temperature", json!(1e300)),
            ("top_p", json!([1])),
            ("min_p", json!({})),
            ("top_k", json!(1.5)),
            ("top_k", json!(-2)),
            ("seed", json!("seven")),
            ("seed", json!(0.5)),
            ("presence_penalty", json!(true)),
            ("frequency_penalty", json!("0")),
            ("logit_bias", json!("none")),
        ] {
            let draw = draw(&json!({ field: value }));
            let error = draw.sampling().map(drop).and_then(|()| draw.changes().map(drop)).expect_err(field);
            assert_eq!(error.param.as_deref(), Some(field), "{error}");
            assert!(
                error.message.starts_with(&format!("{field} is ")) && error.message.contains("expected"),
                "{error}"
            );
        }
    }

    #[test]
    fn null_is_as_missing_and_numbers_are_read() {
        let nulls = json!({"temperature": null, "top_p": null, "top_k": null, "min_p": null, "logit_bias": null, "presence_penalty": null});
        let sampling = draw(&nulls).sampling().expect("good");
        assert_eq!((sampling.temperature, sampling.top_p, sampling.min_p, sampling.top_k), (1.0, 1.0, 0.0, 0));
        assert_eq!(draw(&nulls).changes().expect("good"), LogitChanges::default());
        let some = draw(
            &json!({"temperature": 0, "top_k": -1, "seed": -3, "frequency_penalty": 2, "logit_bias": {"5": -100}}),
        );
        let sampling = some.sampling().expect("good");
        assert_eq!((sampling.temperature, sampling.top_k, sampling.seed), (0.0, 0, -3_i64 as u64));
        let changes = some.changes().expect("good");
        assert_eq!((changes.frequency_penalty, changes.bias), (2.0, vec![(5, -100.0)]));
    }
}
