//! Input items, as clients send them, and the history that they make.

use gptoss_protocol::ChatMessage;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::prompt::{Content, call, custom_call, instruct, new_id, on_channel, wrong};
use crate::reading::{TextOr, read_at};
use crate::served::{Served, Sketch};

/// `input`: one text, or items.
pub(crate) type Input = TextOr<Value>;

/// Types of items that can be read here.
const READ: [&str; 6] =
    ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"];

/// Types of items that OpenAI's clients send back, of tools that its servers run or know by themselves: they say nothing that this
/// model could read.
const LEFT_OUT: [&str; 24] = [
    "web_search_call",
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "code_interpreter_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "tool_search_call",
    "tool_search_output",
    "additional_tools",
    "program",
    "program_output",
    "compaction",
    "compaction_summary",
    "compaction_trigger",
];

/// The fields of all items that are read here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    phase: Option<String>,
    content: Option<Content>,
    summary: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<Value>,
    input: Option<String>,
    output: Option<Content>,
}

/// What was said, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub history: Vec<ChatMessage>,
    /// Texts of system and developer.
    pub instructions: Vec<String>,
    /// Ids of calls, with the function of each.
    pub calls: Vec<(String, String)>,
    /// Types of items that were left out, each once.
    pub left_out: Vec<String>,
    /// The assistant's turn that is being read.
    turn: Turn,
}

#[derive(Debug, Default)]
struct Turn {
    sketch: Sketch,
    messages: Vec<ChatMessage>,
}

impl Input {
    /// The same with the items that are referred to in place of the references.
    ///
    /// # Errors
    /// An item is not among those that are kept.
    pub fn resolved(self, find: impl Fn(&str) -> Option<Value>) -> Result<Self, ApiError> {
        let Self::List(items) = self else { return Ok(self) };
        let resolved = items.into_iter().enumerate().map(|(at, item)| {
            let is_bare = item["type"].is_null() && item["role"].is_null() && item["id"].is_string();
            if item["type"] != "item_reference" && !is_bare {
                return Ok(item);
            }
            let id = item["id"].as_str().unwrap_or_default();
            find(id).ok_or_else(|| {
                let param = format!("input[{at}].id");
                let message = format!(
                    "{param} is {id:?}, and no response that is stored here has an item of that id: send the item itself"
                );
                ApiError::invalid(param, message)
            })
        });
        resolved.collect::<Result<_, _>>().map(Self::List)
    }

    /// Items as they are told again: with ids, types and states, and texts in parts.
    pub fn items(&self) -> Vec<Value> {
        let items = match self {
            Self::Text(text) => {
                let content = json!([{"type": "input_text", "text": text}]);
                vec![json!({"type": "message", "role": "user", "content": content})]
            }
            Self::List(items) => items.clone(),
        };
        items.into_iter().map(told).collect()
    }
}

/// An item as it is told again, with the fields that clients may leave out.
fn told(mut item: Value) -> Value {
    let Some(fields) = item.as_object_mut() else { return item };
    let kind = fields.entry("type").or_insert_with(|| "message".into()).as_str().unwrap_or_default().to_owned();
    let prefix = if kind == "message" { "msg" } else { "item" };
    fields.entry("id").or_insert_with(|| new_id(prefix).into());
    if READ.contains(&kind.as_str()) {
        fields.entry("status").or_insert_with(|| "completed".into());
    }
    if kind == "message" {
        let is_said = fields.get("role").is_some_and(|role| role == "assistant");
        let text_kind = if is_said { "output_text" } else { "input_text" };
        let content = fields.entry("content").or_insert(Value::Null);
        if let Value::String(text) = content {
            *content = json!([{"type": text_kind, "text": text}]);
        }
        let parts = content.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        for part in parts.filter(|part| part.get("type").is_some_and(|kind| kind == "output_text")) {
            for name in ["annotations", "logprobs"] {
                part.entry(name).or_insert_with(|| json!([]));
            }
        }
    }
    item
}

impl Conversation {
    /// Goes on with `input`.
    pub fn hear(&mut self, input: &Input, served: &Served) -> Result<(), ApiError> {
        match input {
            Input::Text(text) => self.history.push(ChatMessage::User { text: text.clone() }),
            Input::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let param = format!("input[{at}]");
                    if !item.is_object() {
                        return Err(wrong(&param, item, "an item, which is an object"));
                    }
                    match item["type"].as_str() {
                        Some(kind) if LEFT_OUT.contains(&kind) => self.leave_out(kind),
                        Some(kind) if !READ.contains(&kind) => {
                            let expected = format!("{}, or an item of a tool of OpenAI's servers", READ.join(", "));
                            return Err(wrong(&format!("{param}.type"), &item["type"], &expected));
                        }
                        _ => self.item(&param, read_at(&param, item)?, served)?,
                    }
                }
            }
        }
        self.end_turn(served);
        Ok(())
    }

    fn leave_out(&mut self, kind: &str) {
        if !self.left_out.iter().any(|known| known == kind) {
            self.left_out.push(kind.to_owned());
        }
    }

    fn item(&mut self, param: &str, item: Item, served: &Served) -> Result<(), ApiError> {
        // Reasoning may come without its text: other servers give it encrypted only.
        let text = |content: Option<&Content>, field: &str| {
            content.map(|content| content.text(&format!("{param}.{field}"))).transpose().map(Option::unwrap_or_default)
        };
        let required = |content: Option<&Content>, field: &str| {
            content.ok_or_else(|| missing(param, field))?.text(&format!("{param}.{field}"))
        };
        match item.kind.as_deref().unwrap_or("message") {
            "message" => {
                let said = required(item.content.as_ref(), "content")?;
                match item.role.as_deref() {
                    Some("system" | "developer") => {
                        self.end_turn(served);
                        instruct(said, &mut self.instructions, &mut self.history);
                    }
                    Some("user") => {
                        self.end_turn(served);
                        self.history.push(ChatMessage::User { text: said });
                    }
                    Some("assistant") => {
                        self.turn.sketch.text.push_str(&said);
                        let is_preamble = item.phase.as_deref() == Some("commentary");
                        let message =
                            if is_preamble { on_channel("commentary", said) } else { ChatMessage::said(said) };
                        self.turn.messages.push(message);
                    }
                    other => {
                        let expected = "system, developer, user or assistant";
                        let got = other.map_or_else(|| "missing".to_owned(), |role| format!("{role:?}"));
                        let message = format!("{param}.role is {got}, expected {expected}");
                        return Err(ApiError::invalid(format!("{param}.role"), message));
                    }
                }
            }
            "reasoning" => {
                let said = text(item.content.as_ref(), "content")?;
                let said = if said.is_empty() { text(item.summary.as_ref(), "summary")? } else { said };
                self.turn.messages.extend((!said.is_empty()).then(|| on_channel("analysis", said)));
            }
            "function_call" => {
                let name = item.name.ok_or_else(|| missing(param, "name"))?;
                let arguments = match item.arguments {
                    Some(Value::String(text)) => text,
                    None | Some(Value::Null) => String::new(),
                    Some(object) => object.to_string(),
                };
                let id = item.call_id.ok_or_else(|| missing(param, "call_id"))?;
                self.calls.push((id.clone(), name.clone()));
                self.turn.messages.push(call(&name, arguments.clone()));
                self.turn.sketch.calls.push((id, name, arguments));
            }
            "custom_tool_call" => {
                let name = item.name.ok_or_else(|| missing(param, "name"))?;
                let input = item.input.ok_or_else(|| missing(param, "input"))?;
                let id = item.call_id.ok_or_else(|| missing(param, "call_id"))?;
                self.calls.push((id.clone(), name.clone()));
                self.turn.messages.push(custom_call(&name, input.clone()));
                self.turn.sketch.calls.push((id, name, input));
            }
            "function_call_output" | "custom_tool_call_output" => {
                self.end_turn(served);
                let id = item.call_id.ok_or_else(|| missing(param, "call_id"))?;
                let known = self.calls.iter().rev().find(|(known, _)| *known == id).ok_or_else(|| {
                    let message = format!("{param}.call_id is {id:?}, and no item before it is a call of that id");
                    ApiError::invalid(format!("{param}.call_id"), message)
                })?;
                let name = known.1.clone();
                self.history
                    .push(ChatMessage::FunctionResult { name, result: required(item.output.as_ref(), "output")? });
            }
            // Those of other types were left out.
            _ => {}
        }
        Ok(())
    }

    /// The assistant's turn is over: what it wrote is taken from memory, if it was written here.
    fn end_turn(&mut self, served: &Served) {
        let Turn { sketch, messages } = std::mem::take(&mut self.turn);
        if !messages.is_empty() {
            self.history.extend(served.recall(&sketch).unwrap_or(messages));
        }
    }
}

fn missing(param: &str, field: &str) -> ApiError {
    let param = format!("{param}.{field}");
    ApiError::invalid(&param, format!("{param} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(items: Value) -> Result<Conversation, ApiError> {
        let mut conversation = Conversation::default();
        let input: Input = serde_json::from_value(items).expect("text or items");
        conversation.hear(&input, &Served::default())?;
        Ok(conversation)
    }

    #[test]
    fn items_of_real_clients_become_a_conversation() {
        let conversation = heard(json!([
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"role": "user", "content": "1 + 2?", "id": "msg_1"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Add."}],
             "encrypted_content": null},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "status": "completed"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "shell_call_output", "call_id": "s", "output": [{"stdout": "", "stderr": "", "outcome": {}}]},
            {"type": "computer_call_output", "call_id": "s", "output": {"type": "computer_screenshot"}, "content": 5},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "3"}]},
            {"type": "custom_tool_call", "call_id": "c2", "name": "note", "input": "3\n", "status": "completed"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "noted"},
            {"type": "message", "role": "assistant", "phase": "commentary", "content": "Well."},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3.", "annotations": []}]},
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Sure?"},
        ]))
        .expect("good");
        assert_eq!(conversation.instructions, ["Be brief."]);
        let want = [
            ChatMessage::User { text: "1 + 2?".into() },
            on_channel("analysis", "Add.".into()),
            call("add", "{}".into()),
            ChatMessage::FunctionResult { name: "add".into(), result: "3".into() },
            custom_call("note", "3\n".into()),
            ChatMessage::FunctionResult { name: "note".into(), result: "noted".into() },
            on_channel("commentary", "Well.".into()),
            ChatMessage::said("3."),
            ChatMessage::Developer { text: "Be kind.".into() },
            ChatMessage::User { text: "Sure?".into() },
        ];
        assert_eq!(conversation.history, want);
        assert_eq!(conversation.left_out, ["web_search_call", "shell_call_output", "computer_call_output"]);
    }

    #[test]
    fn items_of_other_servers_tools_are_left_out_once_each_and_what_nobody_knows_is_refused() {
        let user = json!({"role": "user", "content": "Hi"});
        let items: Vec<Value> = LEFT_OUT.iter().chain(&LEFT_OUT).map(|kind| json!({"type": kind})).collect();
        let conversation = heard(json!([&items[..], std::slice::from_ref(&user)].concat())).expect("good");
        assert_eq!(conversation.left_out, LEFT_OUT);
        assert_eq!(conversation.history, [ChatMessage::User { text: "Hi".into() }]);
        for kind in ["functioncall_output", "input_text", "bogus", ""] {
            let error = heard(json!([user, {"type": kind, "call_id": "c", "output": "3"}])).expect_err("refused");
            assert_eq!(error.param.as_deref(), Some("input[1].type"));
            assert!(error.message.contains(kind) && error.message.contains("function_call_output"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (item, param) in [
            (json!({"role": "critic", "content": "x"}), "input[0].role"),
            (json!({"type": "function_call_output", "call_id": "c9", "output": "3"}), "input[0].call_id"),
            (json!({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}), "input[0].content[0]"),
            (json!({"role": "user", "content": 5}), "input[0].content"),
            (json!({"type": "function_call_output", "call_id": "c", "output": {"a": 1}}), "input[0].output"),
            (json!({"role": "user", "content": [{"type": "input_text", "text": "a"}, 7]}), "input[0].content[1]"),
            (json!({"role": "user", "content": [{"text": "a"}]}), "input[0].content[0].type"),
            (json!({"type": 5, "content": "a"}), "input[0].type"),
            (json!("Hi"), "input[0]"),
            (json!({"role": "user"}), "input[0].content"),
            (json!({"type": "function_call", "call_id": "c", "arguments": "{}"}), "input[0].name"),
            (json!({"type": "function_call", "name": "add", "arguments": "{}"}), "input[0].call_id"),
            (json!({"type": "custom_tool_call", "call_id": "c", "name": "note"}), "input[0].input"),
            (json!({"type": "custom_tool_call_output", "call_id": "c9", "output": "3"}), "input[0].call_id"),
        ] {
            let error = heard(json!([item])).expect_err("refused");
            assert_eq!(error.param.as_deref(), Some(param));
            assert!(error.message.contains(param), "{error}");
        }
    }

    #[test]
    fn items_are_told_again_with_ids_and_types() {
        let items = Input::Text("Hi".into()).items();
        assert_eq!((&items[0]["type"], &items[0]["content"][0]["text"]), (&json!("message"), &json!("Hi")));
        assert!(items[0]["id"].as_str().is_some_and(|id| id.starts_with("msg_")));
        let said = json!({"role": "assistant", "content": "Hello."});
        let told = &Input::List(vec![said]).items()[0];
        assert_eq!((&told["status"], &told["content"][0]["type"]), (&json!("completed"), &json!("output_text")));
        let given =
            json!({"type": "function_call_output", "id": "own", "call_id": "c", "output": "3", "status": "incomplete"});
        assert_eq!(Input::List(vec![given.clone()]).items(), [given]);
    }

    #[test]
    fn references_stand_for_items_that_are_kept() {
        let kept = |id: &str| (id == "msg_1").then(|| json!({"id": "msg_1", "role": "assistant", "content": "Hello."}));
        let user = json!({"role": "user", "content": "Hi"});
        let input =
            Input::List(vec![user.clone(), json!({"type": "item_reference", "id": "msg_1"}), json!({"id": "msg_1"})]);
        let Input::List(items) = input.resolved(kept).expect("known") else { panic!("items") };
        assert_eq!(items, [user, kept("msg_1").expect("kept"), kept("msg_1").expect("kept")]);
        let unknown = Input::List(vec![json!({"type": "item_reference", "id": "msg_2"})]);
        let error = unknown.resolved(kept).expect_err("unknown");
        assert_eq!(error.param.as_deref(), Some("input[0].id"));
    }
}
