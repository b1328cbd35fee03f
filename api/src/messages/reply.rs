//! A message as it is answered: one object, or an event for each change.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use gptoss_protocol::{FinishReason, StoppedBy};
use serde::Serialize;
use serde_json::{Value, json};

use super::error;
use super::request::{MessagesRequest, arguments_of, input_of};
use crate::answer::{begin, error_of};
use crate::error::ApiError;
use crate::models::Model;
use crate::prompt::new_id;
use crate::said::{Ending, Part, Piece, Usage};
use crate::served::Sketch;
use crate::server::{Engaged, Shared};
use crate::sse::{Frame, Frames, stream};

/// A message as it stands at the end or, in a stream, at the start.
#[derive(Clone, Serialize)]
struct Message {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: String,
    content: Vec<Block>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
    usage: UsageOut,
    /// Not Anthropic's.
    #[serde(skip_serializing_if = "Pylon::is_empty")]
    pylon: Pylon,
}

/// What a client of this server may want to know beside the answer.
#[derive(Clone, Default, Serialize)]
struct Pylon {
    /// Tools that the model was not told of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools_left_out: Vec<String>,
    /// Types of blocks of the conversation that the model did not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocks_left_out: Vec<String>,
    /// Tools whose input an engine elsewhere is not held to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools_not_enforced: Vec<String>,
    /// What the model called though nobody had offered it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls_not_offered: Vec<NotOffered>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct NotOffered {
    name: String,
    arguments: String,
}

impl Pylon {
    fn is_empty(&self) -> bool {
        let Self { tools_left_out, blocks_left_out, tools_not_enforced, calls_not_offered } = self;
        [tools_left_out, blocks_left_out, tools_not_enforced].into_iter().all(Vec::is_empty)
            && calls_not_offered.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    /// There is nothing to sign: whoever sends it back is believed.
    Thinking {
        thinking: String,
        signature: &'static str,
    },
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
}

/// Tokens as this dialect has them: those of the cache are not among those of the input.
#[derive(Clone, Copy, Serialize)]
struct UsageOut {
    input_tokens: u32,
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: Option<u32>,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
}

#[derive(Clone, Copy, Serialize)]
struct OutputDetails {
    thinking_tokens: u32,
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens.unwrap_or(0)),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.new_tokens,
            output_tokens_details: OutputDetails { thinking_tokens: usage.reasoning_tokens },
        }
    }
}

/// What of an answer is a block, as pieces come.
#[derive(Default)]
struct Blocks {
    shows_thinking: bool,
    blocks: Vec<Block>,
    /// The part that is under way is shown: as the last block.
    is_open: bool,
    /// Arguments of the call that is under way.
    arguments: String,
    /// Calls that are none of the client's tools'.
    not_offered: Vec<NotOffered>,
    /// One of those is under way.
    is_not_offered: bool,
}

/// A change of the last block.
enum Change {
    Begun,
    More(String),
    Ended,
}

impl Blocks {
    fn follow(&mut self, piece: Piece) -> Option<Change> {
        match piece {
            Piece::Begin(Part::Reasoning) if !self.shows_thinking => None,
            Piece::Begin(Part::NotOffered(name)) => {
                self.not_offered.push(NotOffered { name, arguments: String::new() });
                self.is_not_offered = true;
                None
            }
            Piece::Begin(part) => {
                self.is_open = true;
                self.blocks.push(match part {
                    Part::Reasoning => Block::Thinking { thinking: String::new(), signature: "" },
                    Part::Preamble | Part::Answer => Block::Text { text: String::new() },
                    Part::Call(name) | Part::NotOffered(name) => {
                        Block::ToolUse { id: new_id("toolu"), name, input: json!({}) }
                    }
                });
                Some(Change::Begun)
            }
            Piece::Text(more, _) if self.is_open => {
                match self.blocks.last_mut()? {
                    Block::Thinking { thinking: text, .. } | Block::Text { text } => text.push_str(&more),
                    Block::ToolUse { .. } => self.arguments.push_str(&more),
                }
                Some(Change::More(more))
            }
            Piece::Text(more, _) => {
                let call = self.not_offered.last_mut().filter(|_| self.is_not_offered)?;
                call.arguments.push_str(&more);
                None
            }
            Piece::Token(_) => None,
            Piece::End | Piece::Cut => {
                self.is_not_offered = false;
                if let (true, Some(Block::ToolUse { input, .. })) = (self.is_open, self.blocks.last_mut()) {
                    *input = input_of(&std::mem::take(&mut self.arguments));
                }
                std::mem::replace(&mut self.is_open, false).then_some(Change::Ended)
            }
        }
    }

    /// What a client can say of this turn later.
    fn sketch(&self) -> Sketch {
        let mut sketch = Sketch::default();
        for block in &self.blocks {
            match block {
                Block::Thinking { .. } => {}
                Block::Text { text } => sketch.text.push_str(text),
                Block::ToolUse { id, name, input } => {
                    sketch.calls.push((id.clone(), name.clone(), arguments_of(input)));
                }
            }
        }
        sketch
    }

    fn stop_reason(&self, reason: FinishReason) -> &'static str {
        let calls = self.blocks.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        match reason {
            FinishReason::MaxTokens => "max_tokens",
            FinishReason::ContextFull => "model_context_window_exceeded",
            _ if calls => "tool_use",
            FinishReason::StopSequence => "stop_sequence",
            FinishReason::Return | FinishReason::Call | FinishReason::Stopped => "end_turn",
        }
    }
}

/// Writes one message.
struct Writer<A> {
    model: Arc<Model<A>>,
    message: Message,
    blocks: Blocks,
    has_begun: bool,
}

/// `POST /v1/messages`.
pub(crate) async fn create<A: Engaged>(shared: Arc<Shared<A>>, request: MessagesRequest) -> Result<Response, ApiError> {
    let model = shared.model_of(request.model.as_deref())?;
    let streams = request.stream == Some(true);
    let mut asked = request.into_asked(&model.served)?;
    let tools_not_enforced = shared.loosen(&mut asked.prompt, asked.format_field)?;
    let mut answering = begin(&model, asked.prompt).await?;
    let message = Message {
        id: new_id("msg"),
        kind: "message",
        role: "assistant",
        model: model.id().to_owned(),
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        usage: Usage::default().into(),
        pylon: Pylon {
            tools_left_out: asked.left_out,
            blocks_left_out: asked.blocks_left_out,
            tools_not_enforced,
            ..Pylon::default()
        },
    };
    let shows_thinking = asked.shows_thinking;
    let blocks = Blocks { shows_thinking, ..Blocks::default() };
    let mut writer = Writer { model, message, blocks, has_begun: false };
    if streams {
        return Ok(stream(answering, writer));
    }
    while let Some(pieces) = answering.next().await {
        for piece in pieces {
            writer.blocks.follow(piece);
        }
    }
    let (usage, ending) = answering.into_ending();
    let message = writer.finish(usage, &ending)?;
    Ok(Json(message).into_response())
}

impl<A: Engaged> Writer<A> {
    /// The whole message.
    fn finish(&mut self, usage: Usage, ending: &Ending) -> Result<Message, ApiError> {
        let Ending::Finished { end, messages } = ending else { return Err(error_of(ending)) };
        // The answer may have been cut within a block.
        self.blocks.follow(Piece::End);
        self.model.served.remember(&self.blocks.sketch(), messages);
        let stop_sequence = match &end.stopped_by {
            Some(StoppedBy::Text(text)) => Some(text.clone()),
            Some(StoppedBy::Token(_)) | None => None,
        };
        Ok(Message {
            content: self.blocks.blocks.clone(),
            stop_reason: Some(self.blocks.stop_reason(end.reason)),
            stop_sequence,
            usage: usage.into(),
            pylon: Pylon { calls_not_offered: self.blocks.not_offered.clone(), ..self.message.pylon.clone() },
            ..self.message.clone()
        })
    }

    /// What a stream begins with, at the first word: then it is known how many tokens the prompt has, and how many of them the KV
    /// cache had. Of an engine elsewhere the latter is known at the end only, and stands in `message_delta`.
    fn start(&mut self, so_far: Usage) -> Option<Frame> {
        if std::mem::replace(&mut self.has_begun, true) {
            return None;
        }
        self.message.usage = so_far.into();
        Some(frame("message_start", json!({"message": self.message})))
    }

    fn change(&self, change: Change) -> Option<Frame> {
        let index = self.blocks.blocks.len() - 1;
        let last = self.blocks.blocks.last()?;
        Some(match change {
            Change::Begun => frame("content_block_start", json!({"index": index, "content_block": last})),
            Change::More(text) => {
                let delta = match last {
                    Block::Thinking { .. } => json!({"type": "thinking_delta", "thinking": text}),
                    Block::Text { .. } => json!({"type": "text_delta", "text": text}),
                    Block::ToolUse { .. } => json!({"type": "input_json_delta", "partial_json": text}),
                };
                frame("content_block_delta", json!({"index": index, "delta": delta}))
            }
            Change::Ended => frame("content_block_stop", json!({ "index": index })),
        })
    }
}

impl<A: Engaged> Frames for Writer<A> {
    fn begin(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    fn piece(&mut self, piece: Piece, so_far: Usage) -> Vec<Frame> {
        let start = self.start(so_far);
        let change = self.blocks.follow(piece).and_then(|change| self.change(change));
        start.into_iter().chain(change).collect()
    }

    fn end(&mut self, usage: Usage, ending: Ending) -> Vec<Frame> {
        if !matches!(ending, Ending::Finished { .. }) {
            let body = error::body(&error_of(&ending));
            return vec![(Some("error"), body.to_string())];
        }
        let mut frames: Vec<_> = self.start(usage).into_iter().collect();
        let cut = self.blocks.follow(Piece::End).and_then(|change| self.change(change));
        frames.extend(cut);
        // It is finished, and so there is a message.
        if let Ok(Message { stop_reason, stop_sequence, usage, pylon, .. }) = self.finish(usage, &ending) {
            let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
            let mut data = json!({"delta": delta, "usage": usage});
            if !pylon.is_empty() {
                data["pylon"] = json!(pylon);
            }
            frames.push(frame("message_delta", data));
        }
        frames.push(frame("message_stop", json!({})));
        frames
    }
}

/// An event and its data, which says its type once more.
fn frame(name: &'static str, mut data: Value) -> Frame {
    data["type"] = name.into();
    (Some(name), data.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_what_was_not_offered_is_no_block() {
        let mut blocks = Blocks::default();
        let text = |text: &str| Piece::Text(text.into(), None);
        for piece in [
            Piece::Begin(Part::NotOffered("browser.search".into())),
            text("{\"q\": "),
            text("1}"),
            Piece::End,
            Piece::Begin(Part::Answer),
            text("Done."),
            Piece::End,
        ] {
            blocks.follow(piece);
        }
        assert_eq!(blocks.blocks, [Block::Text { text: "Done.".into() }]);
        let call = NotOffered { name: "browser.search".into(), arguments: "{\"q\": 1}".into() };
        assert_eq!(blocks.not_offered, [call]);
    }
}
