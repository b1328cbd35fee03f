//! A message as it is asked for, and the prompt that it makes.

use gptoss_protocol::{ChatMessage, Effort, Prompt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::prompt::{Content, Draw, call, effort, instruct, is_asked, on_channel, prompt, wrong};
use crate::reading::{Listed, TextOr, read_at};
use crate::refused::{NOT_FOR_MESSAGES, refuse, refuse_stops_in_texts};
use crate::served::{Served, Sketch};
use crate::shape::{Format, Wanted};
use crate::tools::{Choice, SCHEMA, Tool};

/// By this Anthropic's own clients know that they have to send all messages again, which they then do.
pub(super) const NO_THREADS: &str = "thread_unsupported_request";

/// The body of a request. Fields that are not named here are in `draw`.
#[derive(Debug, Deserialize)]
pub(crate) struct MessagesRequest {
    #[serde(default)]
    pub model: Option<String>,
    messages: Vec<MessageIn>,
    #[serde(default)]
    system: Option<Content>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    tools: Option<Vec<ToolIn>>,
    #[serde(default)]
    tool_choice: Option<ChoiceIn>,
    #[serde(default)]
    stop_sequences: Option<Vec<String>>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    thinking: Option<ThinkingIn>,
    #[serde(default)]
    output_config: Option<OutputConfig>,
    /// Where Anthropic's clients once said what form the answer has.
    #[serde(default)]
    output_format: Option<Value>,
    /// A conversation that the server is to keep.
    #[serde(default)]
    thread: Option<Value>,
    #[serde(flatten)]
    draw: Draw,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a message, which is an object with role and content")]
struct MessageIn {
    role: String,
    content: Said,
}

/// What a message says: a text, or blocks.
type Said = TextOr<Block>;

impl Listed for Block {
    const EXPECTED: &'static str = "a text or a list of blocks";
}

/// Types of blocks that come back in an assistant's turn and that this model has no words for: other servers' own tools, and thoughts
/// that nobody can read.
const LEFT_OUT: [&str; 15] = [
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "advisor_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_tool_listing",
    "container_upload",
    "compaction",
    "fallback",
];

/// A block of any type, with the fields of all.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "a block, which is an object with a type")]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    tool_use_id: Option<String>,
    /// Of any form: blocks of Anthropic's own servers have others than results of tools.
    #[serde(default)]
    content: Value,
    #[serde(default)]
    is_error: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a tool, which is an object")]
struct ToolIn {
    /// Tools that the client runs have none, or "custom"; others are of Anthropic's own servers.
    #[serde(rename = "type", default)]
    kind: Option<String>,
    /// Some tools of those servers have none.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    mcp_server_name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ChoiceIn {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ThinkingIn {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    display: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    #[serde(default)]
    effort: Option<String>,
    #[serde(default)]
    format: Option<Value>,
}

/// A request that can be answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub prompt: Prompt,
    /// Whether the client wants to see what the model thinks.
    pub shows_thinking: bool,
    /// Tools that the model is not told of.
    pub left_out: Vec<String>,
    /// Types of blocks that the model does not read, each once.
    pub blocks_left_out: Vec<String>,
    /// The field that says what form the answer has.
    pub format_field: &'static str,
}

/// Where the answer's form is asked for.
const FORMAT: &str = "output_config.format";

impl MessagesRequest {
    /// The prompt, with what `served` knows of earlier turns.
    pub fn into_asked(self, served: &Served) -> Result<Asked, ApiError> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_null()) {
            let message = "thread is given, and conversations are not kept here in this dialect: send all messages";
            return Err(ApiError { code: Some(NO_THREADS), ..ApiError::invalid("thread", message) });
        }
        if self.max_tokens == Some(0) {
            return Err(ApiError::invalid("max_tokens", "max_tokens is 0, expected at least 1"));
        }
        refuse(&self.draw, NOT_FOR_MESSAGES)?;
        let (named_effort, given_format) =
            self.output_config.map_or((None, None), |config| (config.effort, config.format));
        let (format_field, given_format) = one_format(given_format, self.output_format)?;
        let thinking = self.thinking.as_ref().map(|thinking| thinking.kind.as_str());
        let effort = match (named_effort.as_deref(), thinking) {
            (None, Some("disabled")) => Effort::Low,
            (named, None | Some("disabled" | "enabled" | "adaptive" | "between_tools")) => {
                effort("output_config.effort", named)?
            }
            (_, Some(other)) => {
                let message =
                    format!("thinking.type is {other:?}, expected enabled, adaptive, between_tools or disabled");
                return Err(ApiError::invalid("thinking.type", message));
            }
        };
        let is_omitted = self.thinking.as_ref().is_some_and(|it| it.display.as_deref() == Some("omitted"));
        let shows_thinking = thinking.is_some_and(|kind| kind != "disabled") && !is_omitted;
        let (tools, left_out) = tools(self.tools)?;
        let choice = choice(self.tool_choice, &tools)?;
        let wanted = Wanted { tools, choice, format: format(format_field, given_format)? };
        let system = self.system.map(|system| system.text("system")).transpose()?;
        let (history, instructions, blocks_left_out) = history(self.messages, system, served)?;
        let stop: Vec<String> = self.stop_sequences.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        refuse_stops_in_texts(&self.draw, &stop)?;
        let prompt = Prompt {
            effort,
            sampling: self.draw.sampling()?,
            logits: Box::new(self.draw.changes()?),
            stop,
            max_new_tokens: self.max_tokens.unwrap_or(u32::MAX),
            ..prompt(history, instructions)
        };
        Ok(Asked { prompt: wanted.apply(prompt)?, shows_thinking, left_out, blocks_left_out, format_field })
    }
}

/// The tools that clients run, and the names of those of Anthropic's own servers, of which the model is not told.
fn tools(given: Option<Vec<ToolIn>>) -> Result<(Vec<Tool>, Vec<String>), ApiError> {
    let (mut tools, mut left_out) = (Vec::new(), Vec::new());
    for (at, tool) in given.into_iter().flatten().enumerate() {
        let ToolIn { kind, name, mcp_server_name, description, input_schema, strict } = tool;
        if kind.as_deref() == Some("") {
            let param = format!("tools[{at}].type");
            return Err(wrong(&param, &json!(""), "custom, none, or the type of a tool of Anthropic's servers"));
        }
        if let Some(kind) = kind.filter(|kind| kind != "custom") {
            let named = mcp_server_name.map(|server| format!("{kind} {server}"));
            left_out.push(name.or(named).unwrap_or(kind));
            continue;
        }
        if let Some(other) = input_schema.as_ref().filter(|schema| !schema.is_null() && !schema.is_object()) {
            return Err(wrong(&format!("tools[{at}].input_schema"), other, SCHEMA));
        }
        let of_everybody = json!({
            "type": "function", "name": name, "description": description, "parameters": input_schema, "strict": strict,
        });
        let read = Tool::read(&format!("tools[{at}]"), &of_everybody)?;
        tools.extend(read.map(|tool| Tool { input_param: format!("tools[{at}].input_schema"), ..tool }));
    }
    Ok((tools, left_out))
}

/// The choice as every dialect has it. One call at a time is what the model makes anyway.
fn choice(given: Option<ChoiceIn>, tools: &[Tool]) -> Result<Choice, ApiError> {
    let of_everybody = given.map(|ChoiceIn { kind, name }| match kind.as_str() {
        "any" => json!("required"),
        "tool" => json!({"type": "function", "name": name}),
        other => json!(other),
    });
    Choice::read(of_everybody.as_ref(), tools)
}

/// The one place where a form is asked for: under the field's name of today or of once.
fn one_format(today: Option<Value>, once: Option<Value>) -> Result<(&'static str, Option<Value>), ApiError> {
    const ONCE: &str = "output_format";
    let some = |format: Option<Value>| format.filter(|format| !format.is_null());
    match (some(today), some(once)) {
        (Some(_), Some(_)) => {
            let message = format!("{ONCE} and {FORMAT} both say what form the answer has, expected one of them");
            Err(ApiError::invalid(ONCE, message))
        }
        (None, Some(once)) => Ok((ONCE, Some(once))),
        (today, None) => Ok((FORMAT, today)),
    }
}

/// The format as every dialect has it, which needs a name.
fn format(field: &str, given: Option<Value>) -> Result<Format, ApiError> {
    let given = given.map(|mut format| {
        if let Some(fields) = format.as_object_mut() {
            fields.entry("name").or_insert_with(|| json!("answer"));
        }
        format
    });
    Format::read(field, given.as_ref())
}

/// What was said, the texts of the system, which may also stand among the messages, and types of blocks that are left out.
fn history(
    messages: Vec<MessageIn>,
    system: Option<String>,
    served: &Served,
) -> Result<(Vec<ChatMessage>, String, Vec<String>), ApiError> {
    let mut instructions: Vec<_> = system.into_iter().collect();
    let (mut history, mut left_out) = (Vec::new(), Vec::new());
    // Ids of calls, with the function of each.
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut last_role = String::new();
    for (at, MessageIn { role, content }) in messages.into_iter().enumerate() {
        let param = format!("messages[{at}]");
        let blocks = match content {
            Said::Text(text) => vec![Block { kind: "text".into(), text: Some(text), ..Block::default() }],
            Said::List(blocks) => blocks,
        };
        match role.as_str() {
            "user" => user(&param, blocks, &calls, &mut history)?,
            "assistant" => {
                let blocks = without_others(&param, blocks, &mut left_out)?;
                assistant(&param, blocks, served, &mut calls, &mut history)?;
            }
            "system" => instruct(system_text(&param, blocks)?, &mut instructions, &mut history),
            other => {
                let message = format!("{param}.role is {other:?}, expected user, assistant or system");
                return Err(ApiError::invalid(format!("{param}.role"), message));
            }
        }
        last_role = role;
    }
    if !is_asked(&history, &instructions) || last_role == "assistant" {
        let message = "the last of messages is to be anybody's but the assistant's, which the model then answers";
        return Err(ApiError::invalid("messages", message));
    }
    Ok((history, instructions.join("\n\n"), left_out))
}

/// The blocks of an assistant's turn that the model reads, with their places. Types of others are noted once.
fn without_others(
    param: &str,
    blocks: Vec<Block>,
    left_out: &mut Vec<String>,
) -> Result<Vec<(usize, Block)>, ApiError> {
    let mut read = Vec::new();
    for (at, block) in blocks.into_iter().enumerate() {
        match block.kind.as_str() {
            "text" | "thinking" | "tool_use" => read.push((at, block)),
            known if !LEFT_OUT.contains(&known) => {
                let expected = "text, thinking, tool_use, or a block of a tool of Anthropic's servers";
                return Err(block.unknown(&format!("{param}.content[{at}]"), expected));
            }
            _ if left_out.contains(&block.kind) => {}
            _ => left_out.push(block.kind),
        }
    }
    Ok(read)
}

fn system_text(param: &str, blocks: Vec<Block>) -> Result<String, ApiError> {
    let text = |(at, block): (usize, Block)| match block.kind.as_str() {
        "text" => Block::field(&format!("{param}.content[{at}]"), "text", block.text),
        _ => Err(block.unknown(&format!("{param}.content[{at}]"), "text")),
    };
    blocks.into_iter().enumerate().map(text).collect()
}

impl Block {
    /// A field that a block of this type has.
    fn field<T>(param: &str, name: &str, value: Option<T>) -> Result<T, ApiError> {
        value.ok_or_else(|| ApiError::invalid(format!("{param}.{name}"), format!("{param}.{name} is missing")))
    }

    fn unknown(&self, param: &str, expected: &str) -> ApiError {
        let message = format!("{param} is of type {:?}: gpt-oss reads text only, expected {expected}", self.kind);
        ApiError::invalid(param, message)
    }
}

/// Results of functions, and texts; neighbouring texts are one.
fn user(
    param: &str,
    blocks: Vec<Block>,
    calls: &[(String, String)],
    history: &mut Vec<ChatMessage>,
) -> Result<(), ApiError> {
    let mut said: Option<String> = None;
    for (at, block) in blocks.into_iter().enumerate() {
        let param = format!("{param}.content[{at}]");
        match block.kind.as_str() {
            "text" => said.get_or_insert_default().push_str(&Block::field(&param, "text", block.text)?),
            "tool_result" => {
                history.extend(said.take().map(|text| ChatMessage::User { text }));
                let id = Block::field(&param, "tool_use_id", block.tool_use_id)?;
                let name = calls.iter().rev().find(|(known, _)| *known == id).map(|(_, name)| name.clone());
                let name = name.ok_or_else(|| {
                    let message =
                        format!("{param}.tool_use_id is {id:?}, and no message before it has a tool_use of that id");
                    ApiError::invalid(format!("{param}.tool_use_id"), message)
                })?;
                let text = result_text(&format!("{param}.content"), &block.content)?;
                // The model has no field for it.
                let result = if block.is_error == Some(true) { format!("Error: {text}") } else { text };
                history.push(ChatMessage::FunctionResult { name, result });
            }
            _ => return Err(block.unknown(&param, "text or tool_result")),
        }
    }
    history.extend(said.map(|text| ChatMessage::User { text }));
    Ok(())
}

/// What a tool gave back; nothing at all is an empty text.
fn result_text(param: &str, content: &Value) -> Result<String, ApiError> {
    let content: Option<Content> = read_at(param, content)?;
    content.map_or_else(|| Ok(String::new()), |content| content.text(param))
}

fn assistant(
    param: &str,
    blocks: Vec<(usize, Block)>,
    served: &Served,
    calls: &mut Vec<(String, String)>,
    history: &mut Vec<ChatMessage>,
) -> Result<(), ApiError> {
    let (mut sketch, mut thoughts) = (Sketch::default(), String::new());
    for (at, block) in blocks {
        let param = format!("{param}.content[{at}]");
        match block.kind.as_str() {
            "text" => sketch.text.push_str(&Block::field(&param, "text", block.text)?),
            "thinking" => thoughts.push_str(&Block::field(&param, "thinking", block.thinking)?),
            // A call: of other types there are none among these.
            _ => {
                let id = Block::field(&param, "id", block.id)?;
                let name = Block::field(&param, "name", block.name)?;
                calls.push((id.clone(), name.clone()));
                sketch.calls.push((id, name, arguments_of(&block.input)));
            }
        }
    }
    if let Some(messages) = served.recall(&sketch) {
        history.extend(messages);
        return Ok(());
    }
    let some = |text: String| (!text.is_empty()).then_some(text);
    history.extend(some(thoughts).map(|text| on_channel("analysis", text)));
    let is_preamble = !sketch.calls.is_empty();
    history.extend(some(sketch.text).map(|text| match is_preamble {
        true => on_channel("commentary", text),
        false => ChatMessage::said(text),
    }));
    history.extend(sketch.calls.into_iter().map(|(_, name, arguments)| call(&name, arguments)));
    Ok(())
}

/// A call's input as the model writes arguments: see [`input_of`].
pub(super) fn arguments_of(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        object => object.to_string(),
    }
}

/// A call's arguments as this dialect has them, which is a value rather than a text. What is no JSON is passed on as the text that
/// it is.
pub(super) fn input_of(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into())
}

#[cfg(test)]
mod tests;
