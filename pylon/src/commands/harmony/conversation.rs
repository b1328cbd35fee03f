//! Conversations in the JSON of OpenAI's harmony library, as typed messages.

use gptoss_text::harmony::{
    AssistantMessage, Channel, ContentType, Conversation, DeveloperMessage, Effort, FunctionTool, Message,
    SystemMessage, ToolMessage, ToolNamespace,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::rows::RowError;

const EXPECTED_MESSAGES: &str = "\"messages\", an array of objects with \"role\" and \"content\"";

#[derive(Deserialize)]
struct JsonMessage {
    role: String,
    /// The tool's full name, for the role `tool`.
    name: Option<String>,
    content: Value,
    channel: Option<String>,
    recipient: Option<String>,
    content_type: Option<String>,
}

/// One part of a message's content.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    SystemContent(SystemContent),
    DeveloperContent(DeveloperContent),
}

#[derive(Deserialize)]
struct SystemContent {
    model_identity: Option<String>,
    reasoning_effort: Option<String>,
    knowledge_cutoff: Option<String>,
    conversation_start_date: Option<String>,
    channel_config: Option<ChannelConfig>,
    tools: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct ChannelConfig {
    valid_channels: Vec<String>,
}

#[derive(Deserialize)]
struct DeveloperContent {
    instructions: Option<String>,
    tools: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Namespace {
    name: String,
    description: Option<String>,
    #[serde(default)]
    tools: Vec<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Option<Value>,
}

/// Reads the conversation in a row's `messages`.
pub fn conversation(messages: Option<&Value>) -> Result<Conversation, RowError> {
    let Some(Value::Array(messages)) = messages else {
        return Err(RowError::new("it has no array \"messages\"", EXPECTED_MESSAGES));
    };
    let typed = messages.iter().enumerate().map(|(index, json)| {
        message(json).map_err(|RowError { problem, expected }| {
            RowError::new(format_args!("message {} of {}: {problem}", index + 1, messages.len()), expected)
        })
    });
    Ok(Conversation { messages: typed.collect::<Result<_, _>>()? })
}

fn message(json: &Value) -> Result<Message, RowError> {
    let JsonMessage { role, name, content, channel, recipient, content_type } = read(json, EXPECTED_MESSAGES)?;
    let channel = channel.map(|name| Channel::from_name(&name));
    let parts = parts(content)?;
    Ok(match role.as_str() {
        "system" => match parts.as_slice() {
            [Part::SystemContent(content)] => Message::System(system(content)?),
            _ => return Err(RowError::new("a system message says something else", "one part of type system_content")),
        },
        "developer" => match parts.as_slice() {
            [Part::DeveloperContent(content)] => Message::Developer(developer(content)?),
            _ => {
                let problem = "a developer message says something else";
                return Err(RowError::new(problem, "one part of type developer_content"));
            }
        },
        "user" => Message::User(text(&parts)?),
        "assistant" => Message::Assistant(AssistantMessage {
            channel,
            recipient,
            content_type: content_type.map(|name| match name.strip_prefix("<|constrain|>") {
                Some(name) => ContentType { name: name.to_owned(), constrained: true },
                None => ContentType { name, constrained: false },
            }),
            text: text(&parts)?,
            exact_tokens: None,
        }),
        "tool" => {
            let named = name.ok_or_else(|| RowError::new("a tool message has no \"name\"", "the tool's full name"))?;
            Message::Tool(ToolMessage { name: named, recipient, channel, text: text(&parts)? })
        }
        other => {
            let expected = "system, developer, user, assistant or tool";
            return Err(RowError::new(format_args!("its role is {other:?}"), expected));
        }
    })
}

fn read<T: for<'a> Deserialize<'a>>(json: &Value, expected: &str) -> Result<T, RowError> {
    T::deserialize(json).map_err(|error| RowError::new(error, expected))
}

/// Reads content; a plain string is one part of text.
fn parts(content: Value) -> Result<Vec<Part>, RowError> {
    let expected = "\"content\", a string or an array of parts of type text, system_content or developer_content";
    match content {
        Value::String(text) => Ok(vec![Part::Text { text }]),
        Value::Array(parts) => parts.iter().map(|part| read(part, expected)).collect(),
        _ => Err(RowError::new("its content is neither", expected)),
    }
}

/// Parts of text follow each other without anything between them.
fn text(parts: &[Part]) -> Result<String, RowError> {
    let part = |part: &Part| match part {
        Part::Text { text } => Ok(text.clone()),
        _ => Err(RowError::new("its content is not text", "parts of type text")),
    };
    parts.iter().map(part).collect()
}

fn system(content: &SystemContent) -> Result<SystemMessage, RowError> {
    let effort = |name: &String| {
        Effort::from_name(&name.to_lowercase())
            .ok_or_else(|| RowError::new(format_args!("\"reasoning_effort\" is {name:?}"), "low, medium or high"))
    };
    let channels = content.channel_config.iter().flat_map(|config| &config.valid_channels);
    Ok(SystemMessage {
        identity: content.model_identity.clone().unwrap_or(SystemMessage::default().identity),
        knowledge_cutoff: content.knowledge_cutoff.clone(),
        current_date: content.conversation_start_date.clone(),
        effort: content.reasoning_effort.as_ref().map(effort).transpose()?,
        tools: namespaces(content.tools.as_ref())?,
        valid_channels: channels.map(|name| Channel::from_name(name)).collect(),
    })
}

fn developer(content: &DeveloperContent) -> Result<DeveloperMessage, RowError> {
    Ok(DeveloperMessage {
        instructions: content.instructions.clone().unwrap_or_default(),
        tools: namespaces(content.tools.as_ref())?,
        response_formats: Vec::new(),
    })
}

fn namespaces(tools: Option<&Map<String, Value>>) -> Result<Vec<ToolNamespace>, RowError> {
    let expected = "\"tools\", namespaces with \"name\" and \"tools\", an array of objects with \"name\"";
    let typed = |json: &Value| {
        let Namespace { name, description, tools } = read(json, expected)?;
        let function = |tool: Function| FunctionTool {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters,
        };
        Ok(ToolNamespace { name, description, tools: tools.into_iter().map(function).collect() })
    };
    tools.into_iter().flat_map(Map::values).map(typed).collect()
}
