//! The events of a response, in the order that clients rely on: created, in_progress, then each item from its beginning to its
//! end, then one that ends it all.

use std::sync::Arc;

use gptoss_protocol::{ChatMessage, FinishReason, TokenInfo};
use serde_json::{Value, json};

use super::background::Background;
use super::object::{Item, ResponseObject};
use super::request::Asked;
use super::store::Said;
use crate::answer::error_of;
use crate::logprobs::Logprob;
use crate::models::Model;
use crate::prompt::new_id;
use crate::said::{Ending, Part, Piece, Usage};
use crate::served::Sketch;
use crate::server::{Engaged, Shared};
use crate::sse::{DONE, Frame, Frames};

const CUSTOM_INPUT_DELTA: &str = "response.custom_tool_call_input.delta";

/// Writes one response, as events and as an object.
pub(crate) struct Writer<A> {
    shared: Arc<Shared<A>>,
    model: Arc<Model<A>>,
    asked: Asked,
    response: ResponseObject,
    /// The item that is being written.
    open: Option<Item>,
    sketch: Sketch,
    /// Calls of what was not offered, by name.
    not_offered: Vec<String>,
    sequence: u64,
}

impl<A: Engaged> Writer<A> {
    pub fn new((shared, model): (Arc<Shared<A>>, Arc<Model<A>>), asked: Asked) -> Self {
        let response = ResponseObject::new(new_id("resp"), &asked);
        let (sketch, not_offered) = (Sketch::default(), Vec::new());
        Self { shared, model, asked, response, open: None, sketch, not_offered, sequence: 0 }
    }

    /// Takes a piece in, and gives its events.
    pub fn write(&mut self, piece: Piece) -> Vec<Frame> {
        match piece {
            // It is told in the metadata, and none of the client's business otherwise: its text and end find no open item.
            Piece::Begin(Part::NotOffered(name)) => {
                self.not_offered.push(name);
                Vec::new()
            }
            Piece::Begin(part) => self.begin_item(part),
            Piece::Text(text, token) => self.add(&text, token.as_deref()),
            Piece::Token(_) => Vec::new(),
            Piece::End => self.end_item("completed"),
            Piece::Cut => self.end_item("incomplete"),
        }
    }

    /// The whole response; it is kept, if that is wanted.
    pub fn finish(&mut self, usage: Usage, ending: Ending) -> ResponseObject {
        if !self.not_offered.is_empty() {
            self.response.metadata.insert("pylon.calls_not_offered".into(), self.not_offered.join(", ").into());
        }
        let Ending::Finished { end, messages } = ending else {
            let error = error_of(&ending).body();
            self.response.error = Some(json!({"code": error.code.unwrap_or("server_error"), "message": error.message}));
            self.response.end("failed", usage);
            return self.response.clone();
        };
        let is_cut = matches!(end.reason, FinishReason::MaxTokens | FinishReason::ContextFull);
        if is_cut {
            self.response.incomplete_details = Some(json!({"reason": "max_output_tokens"}));
        }
        self.response.end(if is_cut { "incomplete" } else { "completed" }, usage);
        self.model.served.remember(&self.sketch, &messages);
        if self.asked.is_stored {
            self.keep(messages);
        }
        self.response.clone()
    }

    /// It was cancelled: what there is of it stands, and nothing goes on from it.
    pub fn cancelled(&mut self, usage: Usage) -> Vec<Frame> {
        let mut frames = self.end_item("incomplete");
        self.response.end("cancelled", usage);
        // No event of the streams is of its own name; this is the one for what is neither whole nor failed.
        frames.push(self.of_response("response.incomplete"));
        frames.push((None, DONE.into()));
        frames
    }

    /// The response as it is told.
    pub fn object(&self) -> Value {
        serde_json::to_value(&self.response).expect("texts and numbers become JSON")
    }

    /// Items that are complete.
    pub fn items(&self) -> usize {
        self.response.output.len()
    }

    /// Keeps it from its beginning on.
    pub fn keep_under_way(&self, background: &Arc<Background>) {
        let (id, input) = (self.response.id.clone(), self.asked.input.clone());
        self.shared.store.keep_under_way(id, input, Arc::clone(background));
    }

    fn keep(&self, messages: Vec<ChatMessage>) {
        let mut history = self.asked.prompt.history.clone();
        history.extend(messages);
        let own = self.sketch.calls.iter().map(|(id, name, _)| (id.clone(), name.clone()));
        let calls = self.asked.calls.iter().cloned().chain(own).collect();
        let instructions = self.asked.said_instructions.clone();
        let said = Said { model: self.asked.model.clone(), history, instructions, calls };
        let id = self.response.id.clone();
        match self.asked.is_background {
            true => self.shared.store.keep_said(&id, said),
            false => self.shared.store.keep(id, self.object(), self.asked.input.clone(), said),
        }
    }

    fn begin_item(&mut self, part: Part) -> Vec<Frame> {
        let item = match part {
            Part::Reasoning => Item::Reasoning { id: new_id("rs"), text: String::new() },
            Part::Preamble => {
                Item::Message { id: new_id("msg"), phase: "commentary", text: String::new(), logprobs: Vec::new() }
            }
            Part::Answer => {
                Item::Message { id: new_id("msg"), phase: "final_answer", text: String::new(), logprobs: Vec::new() }
            }
            Part::Call(name) => {
                let call_id = new_id("call");
                self.sketch.calls.push((call_id.clone(), name.clone(), String::new()));
                match self.asked.custom.contains(&name) {
                    true => Item::CustomCall { id: new_id("ctc"), call_id, name, input: String::new() },
                    false => Item::Call { id: new_id("fc"), call_id, name, arguments: String::new() },
                }
            }
            Part::NotOffered(_) => return Vec::new(),
        };
        let mut frames =
            vec![self.event("response.output_item.added", &item, json!({"item": item.object("in_progress", false)}))];
        if let Some(part) = item.part() {
            frames.push(self.event("response.content_part.added", &item, json!({"content_index": 0, "part": part})));
        }
        self.open = Some(item);
        frames
    }

    fn add(&mut self, text: &str, token: Option<&TokenInfo>) -> Vec<Frame> {
        let Some(mut item) = self.open.take() else { return Vec::new() };
        item.text().push_str(text);
        let frame = match &mut item {
            Item::Reasoning { .. } => {
                self.event("response.reasoning_text.delta", &item, json!({"content_index": 0, "delta": text}))
            }
            Item::Message { logprobs, .. } => {
                self.sketch.text.push_str(text);
                let logprob = token.zip(self.asked.logprobs).map(|(token, top)| Logprob::of(text, token, top));
                logprobs.extend(logprob.clone());
                let delta = json!({"content_index": 0, "delta": text, "logprobs": Vec::from_iter(logprob)});
                self.event("response.output_text.delta", &item, delta)
            }
            Item::Call { .. } | Item::CustomCall { .. } => {
                if let Some((_, _, input)) = self.sketch.calls.last_mut() {
                    input.push_str(text);
                }
                let is_custom = matches!(item, Item::CustomCall { .. });
                let name = if is_custom { CUSTOM_INPUT_DELTA } else { "response.function_call_arguments.delta" };
                self.event(name, &item, json!({"delta": text}))
            }
        };
        self.open = Some(item);
        vec![frame]
    }

    fn end_item(&mut self, status: &'static str) -> Vec<Frame> {
        let Some(item) = self.open.take() else { return Vec::new() };
        let mut frames = vec![match &item {
            Item::Reasoning { text, .. } => {
                self.event("response.reasoning_text.done", &item, json!({"content_index": 0, "text": text}))
            }
            Item::Message { text, logprobs, .. } => {
                let done = json!({"content_index": 0, "text": text, "logprobs": logprobs});
                self.event("response.output_text.done", &item, done)
            }
            Item::Call { name, arguments, .. } => {
                let done = json!({"name": name, "arguments": arguments});
                self.event("response.function_call_arguments.done", &item, done)
            }
            Item::CustomCall { input, .. } => {
                self.event("response.custom_tool_call_input.done", &item, json!({"input": input}))
            }
        }];
        if let Some(part) = item.part() {
            frames.push(self.event("response.content_part.done", &item, json!({"content_index": 0, "part": part})));
        }
        let object = item.object(status, true);
        frames.push(self.event("response.output_item.done", &item, json!({"item": object})));
        self.response.output.push(object);
        frames
    }

    /// An event about an item: those about items that have parts say of which item and part they are.
    fn event(&mut self, name: &'static str, item: &Item, fields: Value) -> Frame {
        let mut fields = fields;
        fields["output_index"] = self.response.output.len().into();
        if !name.starts_with("response.output_item") {
            fields["item_id"] = item.id().into();
        }
        self.numbered(name, fields)
    }

    fn of_response(&mut self, name: &'static str) -> Frame {
        let response = self.object();
        self.numbered(name, json!({"response": response}))
    }

    fn numbered(&mut self, name: &'static str, mut fields: Value) -> Frame {
        fields["type"] = name.into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        (Some(name), fields.to_string())
    }
}

impl<A: Engaged> Frames for Writer<A> {
    fn begin(&mut self) -> Vec<Frame> {
        vec![self.of_response("response.created"), self.of_response("response.in_progress")]
    }

    fn piece(&mut self, piece: Piece, _so_far: Usage) -> Vec<Frame> {
        self.write(piece)
    }

    fn end(&mut self, usage: Usage, ending: Ending) -> Vec<Frame> {
        let mut frames = self.end_item("incomplete");
        let name = match self.finish(usage, ending).status {
            "completed" => "response.completed",
            "incomplete" => "response.incomplete",
            _ => "response.failed",
        };
        frames.push(self.of_response(name));
        frames.push((None, DONE.into()));
        frames
    }
}
