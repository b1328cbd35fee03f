//! The parts of a conversation.

use std::fmt;

use serde_json::Value;

use super::prompt::FUNCTIONS;

/// Where in its turn a message of the model belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Reasoning, not meant for the user.
    Analysis,
    /// Tool calls, and preambles that the user may see.
    Commentary,
    /// The answer.
    Final,
    /// A name that the format does not define.
    Other(String),
}

impl Channel {
    /// The channel called `name`.
    pub fn from_name(name: &str) -> Channel {
        match name {
            "analysis" => Channel::Analysis,
            "commentary" => Channel::Commentary,
            "final" => Channel::Final,
            other => Channel::Other(other.to_owned()),
        }
    }

    /// Its name, as headers have it.
    pub fn name(&self) -> &str {
        match self {
            Channel::Analysis => "analysis",
            Channel::Commentary => "commentary",
            Channel::Final => "final",
            Channel::Other(name) => name,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who wrote a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// The rules of the conversation: who the model is and how it answers.
    System,
    /// Instructions of the application, and the functions that it offers.
    Developer,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// A tool, by its full name such as `functions.get_weather`.
    Tool(String),
}

impl Role {
    /// The role that a header calls `name`; any name that is not a role is a tool's.
    pub fn from_name(name: &str) -> Role {
        match name {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            tool => Role::Tool(tool.to_owned()),
        }
    }

    /// Its name, as headers have it.
    pub fn name(&self) -> &str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool(name) => name,
        }
    }
}

/// What kind of text a message holds, such as `json`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentType {
    /// Name of the type, as the header spells it.
    pub name: String,
    /// Whether it was announced with `<|constrain|>`.
    pub constrained: bool,
}

impl ContentType {
    /// `<|constrain|>json`, the type of a function call's arguments.
    pub fn json() -> ContentType {
        ContentType { name: "json".to_owned(), constrained: true }
    }
}

/// What the header of a message says. Names hold no special token's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// Author of the message.
    pub role: Role,
    /// Channel that the header names, if any.
    pub channel: Option<Channel>,
    /// Recipient of the message: for the assistant a tool, such as `functions.get_weather`.
    pub recipient: Option<String>,
    /// Type of the text, if the header names one.
    pub content_type: Option<ContentType>,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The model's thoughts, not meant for the user.
    Reasoning,
    /// What the model tells the user before it answers or calls a tool.
    Preamble,
    /// What the model tells the user in the end. A message on no channel, or on an unknown one, is an answer, too, so
    /// that nothing is lost.
    Answer,
    /// A tool's arguments.
    Call,
    /// The message is not the model's: it comes from a transcript, or the model made it up.
    Foreign,
}

impl Purpose {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Reasoning => "reasoning",
            Purpose::Preamble => "preamble",
            Purpose::Answer => "answer",
            Purpose::Call => "call",
            Purpose::Foreign => "foreign",
        }
    }
}

impl Header {
    /// The tool that this message calls. On any channel a recipient makes a call; the names of roles, and everybody,
    /// are not tools.
    pub fn called_tool(&self) -> Option<&str> {
        let recipient = self.recipient.as_deref()?;
        let is_tool = matches!(Role::from_name(recipient), Role::Tool(_)) && recipient != "all";
        (self.role == Role::Assistant && is_tool).then_some(recipient)
    }

    /// What a message with this header is for.
    pub fn purpose(&self) -> Purpose {
        if self.role != Role::Assistant {
            return Purpose::Foreign;
        }
        match &self.channel {
            _ if self.called_tool().is_some() => Purpose::Call,
            Some(Channel::Analysis) => Purpose::Reasoning,
            Some(Channel::Commentary) => Purpose::Preamble,
            Some(Channel::Final | Channel::Other(_)) | None => Purpose::Answer,
        }
    }
}

/// How much the model reasons before it answers; the system message asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Effort {
    /// Little reasoning, for quick answers.
    Low,
    /// The effort that gpt-oss uses when nothing is asked for.
    #[default]
    Medium,
    /// Long reasoning, for hard questions.
    High,
}

impl Effort {
    /// The effort called `low`, `medium` or `high`.
    pub fn from_name(name: &str) -> Option<Effort> {
        match name {
            "low" => Some(Effort::Low),
            "medium" => Some(Effort::Medium),
            "high" => Some(Effort::High),
            _ => None,
        }
    }

    /// Its name, as the system message has it.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }
    }
}

/// A function the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionTool {
    /// Name of the function, without its namespace.
    pub name: String,
    /// What the function does, for the model to read.
    pub description: String,
    /// JSON Schema of its arguments, an object; `None` for a function without arguments. Its properties are shown to
    /// the model in the order they have here.
    pub parameters: Option<Value>,
}

/// Functions under one name, such as `functions` or `browser`.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolNamespace {
    /// Name of the namespace, which comes before a function's name with a dot between.
    pub name: String,
    /// What the tools of the namespace are for; comes before them in the prompt.
    pub description: Option<String>,
    /// Empty for a tool that takes plain text, such as `python`: its description is then all there is.
    pub tools: Vec<FunctionTool>,
}

impl ToolNamespace {
    /// The functions of a developer message, called as `functions.{name}`; none make no namespace.
    pub fn functions(tools: Vec<FunctionTool>) -> Option<ToolNamespace> {
        (!tools.is_empty()).then(|| ToolNamespace { name: FUNCTIONS.to_owned(), description: None, tools })
    }
}

/// The first message: who the model is and how it is to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemMessage {
    /// First line of the message: who the model is.
    pub identity: String,
    /// Month up to which the model knows the world, such as `2024-06`.
    pub knowledge_cutoff: Option<String>,
    /// Today's date, such as `2026-01-31`.
    pub current_date: Option<String>,
    /// Reasoning effort to ask for; `None` leaves the line out.
    pub effort: Option<Effort>,
    /// Tools that are part of the system, such as `browser`; functions belong to the developer message.
    pub tools: Vec<ToolNamespace>,
    /// The channels the model is told to use; none leaves the section out.
    pub valid_channels: Vec<Channel>,
}

impl Default for SystemMessage {
    /// The wording that gpt-oss was trained with, without a date.
    fn default() -> SystemMessage {
        SystemMessage {
            identity: "You are ChatGPT, a large language model trained by OpenAI.".to_owned(),
            knowledge_cutoff: Some("2024-06".to_owned()),
            current_date: None,
            effort: Some(Effort::default()),
            tools: Vec::new(),
            valid_channels: vec![Channel::Analysis, Channel::Commentary, Channel::Final],
        }
    }
}

/// Instructions, the functions that may be called, and formats of answers. Rendered only where it says something.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeveloperMessage {
    /// Text under the heading "Instructions"; empty leaves the section out.
    pub instructions: String,
    /// Tools, as a rule one namespace of functions: see [`ToolNamespace::functions`].
    pub tools: Vec<ToolNamespace>,
    /// Formats that the answer may have.
    pub response_formats: Vec<ResponseFormat>,
}

/// A format of answers.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseFormat {
    /// Name of the format.
    pub name: String,
    /// What it is for; each line becomes a comment.
    pub description: String,
    /// JSON Schema of the answer. Its properties are shown in the order they have here.
    pub schema: Value,
}

/// A message that the model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssistantMessage {
    /// Channel to write in the header, if any.
    pub channel: Option<Channel>,
    /// Tool that the message calls, with its namespace; `None` for a message to the user.
    pub recipient: Option<String>,
    /// Type of the text to write in the header, if any.
    pub content_type: Option<ContentType>,
    /// The message itself: words for the user, or a call's arguments.
    pub text: String,
    /// The tokens that the model wrote it as: after `<|start|>`, up to but without the token that ended the message.
    /// Where present they are rendered instead of the fields, so that the model meets its own words unchanged.
    pub exact_tokens: Option<Vec<u32>>,
}

impl AssistantMessage {
    /// A message with `text` on `channel`, to the user.
    pub fn new(channel: Channel, text: impl Into<String>) -> AssistantMessage {
        AssistantMessage {
            channel: Some(channel),
            recipient: None,
            content_type: None,
            text: text.into(),
            exact_tokens: None,
        }
    }

    /// A call of the function `name` (without `functions.`) with JSON `arguments`.
    pub fn function_call(name: &str, arguments: impl Into<String>) -> AssistantMessage {
        AssistantMessage {
            recipient: Some(format!("functions.{name}")),
            content_type: Some(ContentType::json()),
            ..AssistantMessage::new(Channel::Commentary, arguments)
        }
    }
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolMessage {
    /// The tool's full name, such as `functions.get_weather`.
    pub name: String,
    /// Recipient to write in the header, if any; tools address the assistant.
    pub recipient: Option<String>,
    /// Channel to write in the header, if any.
    pub channel: Option<Channel>,
    /// What the tool returned.
    pub text: String,
}

impl ToolMessage {
    /// The answer of the function `name` (without `functions.`), addressed as the format documents it.
    pub fn function_result(name: &str, text: impl Into<String>) -> ToolMessage {
        ToolMessage {
            name: format!("functions.{name}"),
            recipient: Some("assistant".to_owned()),
            channel: Some(Channel::Commentary),
            text: text.into(),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first message of a conversation.
    System(SystemMessage),
    /// Instructions and functions of the application.
    Developer(DeveloperMessage),
    /// Text of the person who asks.
    User(String),
    /// An earlier message of the model.
    Assistant(AssistantMessage),
    /// The result of a tool call.
    Tool(ToolMessage),
}

/// Messages in the order they were said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// All messages, the first one first.
    pub messages: Vec<Message>,
}

impl Conversation {
    /// Whether any developer message offers functions.
    pub(super) fn has_functions(&self) -> bool {
        let is_functions = |namespace: &ToolNamespace| namespace.name == FUNCTIONS && !namespace.tools.is_empty();
        self.messages.iter().any(|message| matches!(message, Message::Developer(d) if d.tools.iter().any(is_functions)))
    }
}
