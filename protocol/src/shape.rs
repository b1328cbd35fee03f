//! What an answer has to look like, in words that no API's dialect has: a host with grammars enforces it, token by token.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the model's turn may end with. Reasoning, and what it tells the user before a call, is free whatever this says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerShape {
    /// What an answer to the user is like; `None`: there is none, the turn ends with a call.
    pub answer: Option<TextShape>,
    /// Functions of which one may be called in place of an answer.
    #[serde(default)]
    pub calls: Vec<CallShape>,
}

/// A function that may be called, and what its input is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallShape {
    /// Its name, without `functions.`.
    pub name: String,
    /// What the call's text is like.
    pub input: TextShape,
}

/// What a text is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextShape {
    /// Any text.
    Any,
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid against this JSON Schema. Properties come in the order in which the schema names them.
    JsonSchema(Value),
    /// A text of the language that this Lark grammar describes, in llguidance's dialect.
    Lark(String),
    /// A text that this regular expression matches from its beginning to its end.
    Regex(String),
}

/// A format of answers that the model is told of: the section `# Response Formats` of the developer message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseFormat {
    /// Its name.
    pub name: String,
    /// What it is for, in words for the model; empty where there is nothing to say.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the answer.
    pub schema: Value,
}

/// What is added to logits before a token is drawn. The default adds nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogitChanges {
    /// Added to the logit of a token, by its id.
    pub bias: Vec<(u32, f32)>,
    /// Taken from the logit of every token that the texts of this answer have already, reasoning included. The tokens of
    /// message headers are left alone: they are no text, and an answer without them cannot be read.
    pub presence_penalty: f32,
    /// The same, once for each time that they have it.
    pub frequency_penalty: f32,
}

impl LogitChanges {
    /// Whether nothing is ever added.
    pub fn is_none(&self) -> bool {
        self.bias.is_empty() && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0
    }
}
