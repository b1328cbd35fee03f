//! A chat completion as it is asked for, and the prompt that it makes.

use gptoss_protocol::{ChatMessage, Effort, Prompt, PromptIds};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::logprobs::top;
use crate::prompt::{Content, Draw, EFFORTS, call, custom_call, effort, instruct, is_asked, on_channel, prompt, wrong};
use crate::reading::TextOr;
use crate::refused::{NOT_FOR_CHAT, refuse, refuse_stops_in_texts};
use crate::served::{Served, Sketch};
use crate::shape::{CHAT_FORMAT, Format, Wanted};
use crate::structured::{one_of, structured};
use crate::tools::{Choice, offered};

/// What was asked for, with all that is said of it in the answer.
pub(crate) struct Asked {
    pub prompt: Prompt,
    /// Names of tools whose input is plain text.
    pub custom: Vec<String>,
    /// Tools that the model is not told of.
    pub tools_left_out: Vec<String>,
    /// The field that says what form the answer has.
    pub format_field: String,
}

/// The body of a request. Fields that are not named here are in `draw`, where some are read, some refused, and what nobody knows is
/// ignored, as everybody's server does.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    messages: Option<Vec<ChatIn>>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    /// The model makes one call at a time, whatever this says.
    #[serde(default, rename = "parallel_tool_calls")]
    _parallel_tool_calls: Option<bool>,
    #[serde(default)]
    functions: Option<Value>,
    #[serde(default)]
    function_call: Option<Value>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    stop: Option<Stop>,
    /// Token ids that end the answer, beside those that end every answer.
    #[serde(default)]
    stop_token_ids: Option<Vec<u32>>,
    #[serde(default)]
    pub logprobs: Option<bool>,
    #[serde(default)]
    pub top_logprobs: Option<u32>,
    #[serde(default)]
    reasoning_effort: Option<String>,
    #[serde(default)]
    response_format: Option<Value>,
    #[serde(flatten)]
    draw: Draw,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// One text or several that end the answer.
pub(crate) type Stop = TextOr<String>;

impl Stop {
    /// The texts; an empty one ends nothing.
    pub fn texts(stop: Option<Self>) -> Vec<String> {
        let texts = match stop {
            None => Vec::new(),
            Some(Self::Text(text)) => vec![text],
            Some(Self::List(texts)) => texts,
        };
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a message, which is an object with a role")]
struct ChatIn {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    /// In the assistant's words why it says nothing else, which OpenAI has beside the content or as a part of it.
    #[serde(default)]
    refusal: Option<String>,
    /// What the model thought: vLLM and the cookbook say `reasoning`, DeepSeek's dialect `reasoning_content`.
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallIn>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a call, which is an object")]
struct CallIn {
    #[serde(default)]
    id: String,
    /// What was called: under `custom` a tool whose input is plain text.
    #[serde(default)]
    function: Option<CalledIn>,
    #[serde(default)]
    custom: Option<CustomIn>,
}

#[derive(Debug, Deserialize)]
struct CalledIn {
    name: String,
    /// A text by the book, an object from clients that parsed it.
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Deserialize)]
struct CustomIn {
    name: String,
    #[serde(default)]
    input: String,
}

/// A call in a history.
struct Made {
    id: String,
    name: String,
    input: String,
    is_custom: bool,
}

impl CallIn {
    fn made(self, param: &str) -> Result<Made, ApiError> {
        match self {
            Self { id, custom: Some(CustomIn { name, input }), .. } => Ok(Made { id, name, input, is_custom: true }),
            Self { id, function: Some(CalledIn { name, arguments }), .. } => {
                let input = match arguments {
                    Value::String(text) => text,
                    Value::Null => String::new(),
                    object => object.to_string(),
                };
                Ok(Made { id, name, input, is_custom: false })
            }
            _ => Err(ApiError::invalid(
                param,
                format!("{param} has neither function nor custom, expected what is called"),
            )),
        }
    }
}

impl ChatRequest {
    /// Whether the last chunk of a stream tells the usage.
    pub fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }

    /// The prompt, with what `served` knows of earlier turns, and what is told of it.
    pub fn into_asked(self, served: &Served) -> Result<Asked, ApiError> {
        self.refuse_what_cannot_be()?;
        let (wanted, tools_left_out) = self.wanted()?;
        let custom = wanted.custom_names();
        let format_field = wanted.format.field().unwrap_or(CHAT_FORMAT).to_owned();
        let effort = self.effort()?;
        let messages = self.messages.ok_or_else(|| {
            let message =
                "messages is missing, expected a list of messages, of which the last is the user's or a tool's";
            ApiError::invalid("messages", message)
        })?;
        let (history, instructions) = history(messages, served)?;
        let limit = self.max_completion_tokens.or(self.max_tokens);
        if limit == Some(0) {
            return Err(ApiError::invalid("max_completion_tokens", "max_completion_tokens is 0, expected at least 1"));
        }
        let stop = Stop::texts(self.stop);
        refuse_stops_in_texts(&self.draw, &stop)?;
        let prompt = Prompt {
            effort,
            sampling: self.draw.sampling()?,
            logits: Box::new(self.draw.changes()?),
            stop,
            ids: Box::new(PromptIds { prompt: Vec::new(), stop: self.stop_token_ids.unwrap_or_default() }),
            top_tokens: self.top_logprobs,
            max_new_tokens: limit.unwrap_or(u32::MAX),
            ..prompt(history, instructions)
        };
        Ok(Asked { prompt: wanted.apply(prompt)?, custom, tools_left_out, format_field })
    }

    /// What is asked of the answer's form, and the tools that are left out.
    fn wanted(&self) -> Result<(Wanted, Vec<String>), ApiError> {
        let (tools, left_out) = offered(self.tools.as_deref().unwrap_or_default())?;
        let choice = Choice::read(self.tool_choice.as_ref(), &tools)?;
        let format = one_of(Format::read(CHAT_FORMAT, self.response_format.as_ref())?, structured(&self.draw)?)?;
        Ok((Wanted { tools, choice, format }, left_out))
    }

    /// How long the model is to think: by the book, or where llama-server's clients say it, among the variables of a template.
    fn effort(&self) -> Result<Effort, ApiError> {
        const OF_TEMPLATE: &str = "chat_template_kwargs.reasoning_effort";
        let of_template = self.draw.get("chat_template_kwargs").and_then(|variables| variables.get("reasoning_effort"));
        match (&self.reasoning_effort, of_template) {
            (None, Some(Value::String(name))) => effort(OF_TEMPLATE, Some(name)),
            (None, Some(other)) if !other.is_null() => Err(wrong(OF_TEMPLATE, other, EFFORTS)),
            (name, _) => effort("reasoning_effort", name.as_deref()),
        }
    }

    /// What would be a lie to accept.
    fn refuse_what_cannot_be(&self) -> Result<(), ApiError> {
        refuse(&self.draw, NOT_FOR_CHAT)?;
        let top = top("top_logprobs", self.top_logprobs)?;
        if top.is_some_and(|top| top > 0) && self.logprobs != Some(true) {
            let message = format!("top_logprobs is {}, expected logprobs to be true with it", top.unwrap_or(0));
            return Err(ApiError::invalid("top_logprobs", message));
        }
        if self.functions.is_some() || self.function_call.is_some() {
            let message = "functions and function_call are the names of old: expected tools and tool_choice";
            return Err(ApiError::invalid("functions", message));
        }
        Ok(())
    }
}

/// What was said, and the texts of system and developer.
fn history(messages: Vec<ChatIn>, served: &Served) -> Result<(Vec<ChatMessage>, String), ApiError> {
    let (mut history, mut instructions) = (Vec::new(), Vec::new());
    // Ids of calls, with the function of each.
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut last_role = String::new();
    for (at, message) in messages.into_iter().enumerate() {
        let param = format!("messages[{at}]");
        let content = message.content.as_ref().map(|content| content.text(&format!("{param}.content"))).transpose()?;
        // Only the model may say nothing: it can have called functions instead.
        let said = || {
            let param = format!("{param}.content");
            let message = format!("{param} is missing, expected what the {} says", message.role);
            content.clone().ok_or_else(|| ApiError::invalid(param, message))
        };
        last_role.clone_from(&message.role);
        match message.role.as_str() {
            "system" | "developer" => instruct(said()?, &mut instructions, &mut history),
            "user" => history.push(ChatMessage::User { text: said()? }),
            "assistant" => assistant(&param, message, content, served, &mut calls, &mut history)?,
            "tool" => {
                let result = said()?;
                let id = message.tool_call_id.ok_or_else(|| {
                    let param = format!("{param}.tool_call_id");
                    ApiError::invalid(
                        &param,
                        format!("{param} is missing, expected the id of the call that this answers"),
                    )
                })?;
                let call = calls.iter().rev().find(|(known, _)| *known == id).ok_or_else(|| {
                    let message =
                        format!("{param}.tool_call_id is {id:?}, and no message before it has a call of that id");
                    ApiError::invalid(format!("{param}.tool_call_id"), message)
                })?;
                history.push(ChatMessage::FunctionResult { name: call.1.clone(), result });
            }
            other => {
                let expected = "system, developer, user, assistant or tool";
                let message = format!("{param}.role is {other:?}, expected {expected}");
                return Err(ApiError::invalid(format!("{param}.role"), message));
            }
        }
    }
    if !is_asked(&history, &instructions) || last_role == "assistant" {
        let message = "the last of messages is to be anybody's but the assistant's, which the model then answers";
        return Err(ApiError::invalid("messages", message));
    }
    Ok((history, instructions.join("\n\n")))
}

fn assistant(
    param: &str,
    message: ChatIn,
    content: Option<String>,
    served: &Served,
    calls: &mut Vec<(String, String)>,
    history: &mut Vec<ChatMessage>,
) -> Result<(), ApiError> {
    let given = message.tool_calls.into_iter().flatten().enumerate();
    let made: Vec<Made> =
        given.map(|(at, call)| call.made(&format!("{param}.tool_calls[{at}]"))).collect::<Result<_, _>>()?;
    calls.extend(made.iter().map(|call| (call.id.clone(), call.name.clone())));
    // As where both are parts of the content.
    let content = match message.refusal.filter(|text| !text.is_empty()) {
        Some(refusal) => Some(content.unwrap_or_default() + &refusal),
        None => content,
    };
    let sketched = made.iter().map(|call| (call.id.clone(), call.name.clone(), call.input.clone()));
    let sketch = Sketch { text: content.clone().unwrap_or_default(), calls: sketched.collect() };
    if let Some(messages) = served.recall(&sketch) {
        history.extend(messages);
        return Ok(());
    }
    let reasoning = message.reasoning.or(message.reasoning_content).filter(|text| !text.is_empty());
    history.extend(reasoning.map(|text| on_channel("analysis", text)));
    let is_preamble = !made.is_empty();
    history.extend(content.filter(|text| !text.is_empty()).map(|text| match is_preamble {
        true => on_channel("commentary", text),
        false => ChatMessage::said(text),
    }));
    history.extend(made.into_iter().map(|Made { name, input, is_custom, .. }| match is_custom {
        true => custom_call(&name, input),
        false => call(&name, input),
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prompt_of(body: Value) -> Result<Prompt, ApiError> {
        let request: ChatRequest = serde_json::from_value(body).expect("of the shape");
        request.into_asked(&Served::default()).map(|asked| asked.prompt)
    }

    fn refused(change: (&str, Value)) -> String {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
        body[change.0] = change.1;
        let error = prompt_of(body).expect_err("refused");
        assert!(error.param.as_deref().is_some_and(|param| error.message.contains(param)), "{error:?}");
        error.message
    }

    #[test]
    fn messages_become_a_conversation() {
        let prompt = prompt_of(json!({
            "model": "m", "reasoning_effort": "xhigh", "max_tokens": 7, "temperature": 0.5, "stop": "\n",
            "user": "somebody", "unknown": 1,
            "tools": [
                {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},
                {"type": "web_search"},
            ],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Add."}]},
                {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "2?"}]},
                {"role": "assistant", "content": "One moment.", "reasoning": "Add them.", "tool_calls": [
                    {"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "3"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c2", "type": "custom", "custom": {"name": "note", "input": "3\n"}},
                    {"id": "c3", "type": "function", "function": {"name": "add", "arguments": "{\"a\":"}}]},
                {"role": "tool", "tool_call_id": "c2", "content": "noted"},
                {"role": "assistant", "content": "3.", "reasoning_content": "Done."},
                {"role": "user", "content": "Sure?"},
            ],
        }))
        .expect("good");
        assert_eq!(
            (prompt.effort, prompt.max_new_tokens, prompt.instructions.as_str()),
            (Effort::High, 7, "Be brief.\n\nAdd.")
        );
        assert_eq!((prompt.sampling.temperature, &prompt.stop[..]), (0.5, &["\n".to_owned()][..]));
        assert_eq!(prompt.functions.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["add"]);
        let want = [
            ChatMessage::User { text: "1 + 2?".into() },
            on_channel("analysis", "Add them.".into()),
            on_channel("commentary", "One moment.".into()),
            call("add", "{\"a\":1}".into()),
            ChatMessage::FunctionResult { name: "add".into(), result: "3".into() },
            custom_call("note", "3\n".into()),
            call("add", "{\"a\":".into()),
            ChatMessage::FunctionResult { name: "note".into(), result: "noted".into() },
            on_channel("analysis", "Done.".into()),
            ChatMessage::said("3."),
            ChatMessage::User { text: "Sure?".into() },
        ];
        assert_eq!(prompt.history, want);
        assert_eq!(prompt.user, "");
    }

    #[test]
    fn a_turn_of_this_server_goes_back_token_by_token() {
        let served = Served::default();
        let own = ChatMessage::Assistant {
            channel: Some("final".into()),
            recipient: None,
            content_type: None,
            text: "3.".into(),
            tokens: Some(vec![5, 6]),
        };
        served.remember(&Sketch { text: "3.".into(), calls: Vec::new() }, std::slice::from_ref(&own));
        let body = json!({"messages": [
            {"role": "user", "content": "1 + 2?"}, {"role": "assistant", "content": "3."}, {"role": "user", "content": "Sure?"}
        ]});
        let request: ChatRequest = serde_json::from_value(body).expect("of the shape");
        assert_eq!(request.into_asked(&served).expect("good").prompt.history[1], own);
    }

    #[test]
    fn a_refusal_is_what_the_assistant_said() {
        for said in
            [json!({"content": null, "refusal": "No."}), json!({"content": [{"type": "refusal", "refusal": "No."}]})]
        {
            let mut turn = said.clone();
            turn["role"] = "assistant".into();
            let user = json!({"role": "user", "content": "Hi"});
            let prompt = prompt_of(json!({"messages": [user, turn, user]})).expect("good");
            assert_eq!(prompt.history[1], ChatMessage::said("No."), "{said}");
        }
    }

    #[test]
    fn the_effort_may_stand_among_the_variables_of_a_template() {
        let effort_of = |more: Value| {
            let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
            body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
            prompt_of(body).expect("good").effort
        };
        let variables = json!({"reasoning_effort": "high", "enable_thinking": false});
        assert_eq!(effort_of(json!({"chat_template_kwargs": variables})), Effort::High);
        let both = json!({"chat_template_kwargs": variables, "reasoning_effort": "low"});
        assert_eq!(effort_of(both), Effort::Low, "the book is first");
        assert_eq!(effort_of(json!({"chat_template_kwargs": {"enable_thinking": false}})), Effort::Medium);
    }

    #[test]
    fn a_stop_sequence_is_no_part_of_the_answer() {
        let body = |stop: Value| {
            let user = json!({"role": "user", "content": "Hi"});
            json!({"messages": [user], "stop": stop, "include_stop_str_in_output": true})
        };
        assert!(prompt_of(body(Value::Null)).is_ok(), "there is none");
        let error = prompt_of(body(json!("x"))).expect_err("refused");
        assert_eq!(error.param.as_deref(), Some("include_stop_str_in_output"), "{error}");
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        refused(("n", json!(2)));
        assert!(refused(("messages", Value::Null)).starts_with("messages is missing"));
        assert!(refused(("messages", json!([]))).starts_with("the last of messages"));
        refused(("temperature", json!(3)));
        refused(("top_p", json!(0)));
        refused(("presence_penalty", json!(2.5)));
        refused(("frequency_penalty", json!(-2.5)));
        refused(("logit_bias", json!({"5": 101})));
        refused(("logit_bias", json!({"word": 1})));
        refused(("logit_bias", json!([5])));
        refused(("response_format", json!({"type": "xml"})));
        refused(("tool_choice", json!("required")));
        refused(("reasoning_effort", json!("utmost")));
        for value in [json!("utmost"), json!(2)] {
            let said = refused(("chat_template_kwargs", json!({"reasoning_effort": value})));
            assert!(said.starts_with("chat_template_kwargs.reasoning_effort"), "{said}");
        }
        refused(("max_completion_tokens", json!(0)));
        refused(("functions", json!([])));
        for field in ["allowed_token_ids", "truncate_prompt_tokens", "prompt_logprobs"] {
            refused((field, json!(1)));
        }
        refused(("include_reasoning", json!(false)));
        refused(("return_token_ids", json!(true)));
        let nested = refused(("response_format", json!({"type": "json_schema"})));
        assert!(nested.starts_with("response_format.json_schema is missing"), "{nested}");
        refused(("tools", json!([{"type": "function", "function": {"name": "two words"}}])));
        let said = |message: Value| refused(("messages", json!([{"role": "user", "content": "Hi"}, message])));
        said(json!({"role": "critic", "content": "?"}));
        said(json!({"role": "assistant", "content": "Hello."}));
        said(json!({"role": "tool", "tool_call_id": "none", "content": "3"}));
        let nothing = json!({"role": "assistant", "tool_calls": [{"id": "c"}]});
        assert!(said(nothing).contains("messages[1].tool_calls[0]"));
        assert!(said(json!({"role": "tool", "content": "3"})).contains("tool_call_id is missing"));
        assert!(said(json!({"role": "user"})).contains("messages[1].content is missing"));
        assert!(said(json!({"role": "tool", "tool_call_id": "none"})).contains("messages[1].content is missing"));
        let image = said(json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}));
        assert!(image.contains("messages[1].content[0]") && image.contains("text only"), "{image}");
    }
}
