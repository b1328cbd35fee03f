//! What is told of an answer: its tokens, calls, and why it ended.

use serde::{Deserialize, Serialize};

/// A generated token, and how it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Position among the generated tokens, from 0.
    pub index: u32,
    /// The token's number in the vocabulary.
    pub id: u32,
    /// Visible text that this token completed; empty for format tokens and in the middle of a UTF-8 sequence.
    pub text: String,
    /// Channel that `text` belongs to; `None` while a message header is being written.
    pub channel: Option<Channel>,
    /// Function that the message calls, as its header names it; `None` where it calls none.
    pub recipient: Option<String>,
    /// Probability of the chosen token under the model's own distribution (temperature 1); `None` when it was drawn by an engine
    /// elsewhere, which does not tell.
    pub probability: Option<f32>,
    /// Entropy of that distribution, in nats.
    pub entropy_nats: f32,
    /// The most likely tokens, best first.
    pub top: Vec<TopToken>,
    /// Time since the previous token; for the first one, since the prefill ended.
    pub elapsed_ms: f64,
    /// Rate of the tokens after the first so far; `None` for the first.
    pub decode_tokens_per_second: Option<f64>,
}

/// A token that could have come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopToken {
    /// The token's number in the vocabulary.
    pub id: u32,
    /// The token's text with specials shown by name; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Probability under the model's own distribution (temperature 1), from 0 to 1.
    pub probability: f32,
}

/// What a text of the model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Reasoning, which is not meant for the user.
    Analysis,
    /// What the model says to the user on the way, such as before a tool call.
    Commentary,
    /// The answer itself; text of other formats than Harmony counts as this.
    Final,
    /// Arguments of a tool call, whatever channel they came on.
    ToolCall,
}

/// A function that the model wants to be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The function's name, without `functions.`.
    pub name: String,
    /// Arguments as the model wrote them; JSON if the model did its job.
    pub arguments: String,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, with `<|return|>` or `<|endoftext|>`.
    Return,
    /// The model wants a tool, and said `<|call|>`.
    Call,
    /// It has as many tokens as the prompt allows ([`crate::Prompt::max_new_tokens`]).
    MaxTokens,
    /// The sequence has no room for another token.
    ContextFull,
    /// A stop sequence that the user gave appeared.
    StopSequence,
    /// The user stopped it.
    Stopped,
}

/// Which of a prompt's stops ended an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// This stop sequence ([`crate::Prompt::stop`]).
    Text(String),
    /// This token ([`crate::PromptIds::stop`]).
    Token(u32),
}
