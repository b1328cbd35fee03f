//! The token stream: each channel in its own block, each token a span that tells its probability.

use gptoss_protocol::Channel;
use web_sys::Element;

use super::dom::{Texts, append, element, report, show};
use crate::describe::stream_note;
use crate::format;
use crate::state::{Answer, StreamToken};

/// Below this probability a token is marked as unsure.
const UNSURE_BELOW: f32 = 0.5;

#[derive(Default)]
pub struct StreamView {
    answer: u32,
    tokens: usize,
    corrected: bool,
}

impl StreamView {
    /// Adds what came since the last drawing; a new answer begins with empty blocks.
    pub fn draw(&mut self, answer: &Answer, texts: &mut Texts) {
        if answer.number != self.answer {
            self.clear(answer.number);
        }
        let new = &answer.tokens[self.tokens.min(answer.tokens.len())..];
        if !new.is_empty() {
            for token in new {
                add_token(token);
            }
            self.tokens = answer.tokens.len();
        }
        let note = stream_note(answer);
        texts.set("stream-empty", note.as_deref().unwrap_or_default());
        show("stream-empty", note.is_some());
        if answer.finished.is_some() && !self.corrected {
            self.corrected = true;
            correct("final-text", &answer.final_text);
            correct("analysis-text", &answer.analysis_text);
            show("final-block", !answer.final_text.is_empty());
        }
    }

    fn clear(&mut self, answer: u32) {
        for channel in [Channel::Analysis, Channel::Commentary, Channel::ToolCall, Channel::Final] {
            let (block, text) = ids(channel);
            show(block, false);
            element::<Element>(text).set_text_content(None);
        }
        element::<Element>("tool-name").set_text_content(None);
        *self = Self { answer, ..Self::default() };
    }
}

fn ids(channel: Channel) -> (&'static str, &'static str) {
    match channel {
        Channel::Analysis => ("analysis-block", "analysis-text"),
        Channel::Commentary => ("commentary-block", "commentary-text"),
        Channel::ToolCall => ("tool-block", "tool-text"),
        Channel::Final => ("final-block", "final-text"),
    }
}

fn add_token(token: &StreamToken) {
    let (block, text) = ids(token.channel);
    let target: Element = element(text);
    if token.starts_message {
        show(block, true);
        if target.has_child_nodes() {
            append(&target, "span", "message-break", "");
        }
        if let Some(recipient) = &token.recipient {
            element::<Element>("tool-name").set_text_content(Some(recipient));
        }
    }
    let unsure = token.probability.is_some_and(|probability| probability < UNSURE_BELOW);
    let Some(span) = append(&target, "span", if unsure { "unsure" } else { "" }, &token.text) else { return };
    let probability = token.probability.map_or(format::NOT_MEASURED.to_owned(), |p| format::percent(f64::from(p)));
    let title = format!(
        "probability {probability}, entropy {:.2} nats, {}",
        token.entropy_nats,
        format::milliseconds(Some(token.elapsed_ms))
    );
    report(span.set_attribute("title", &title));
}

/// The engine's own text of a channel is the one that counts; normally it is what was streamed.
fn correct(id: &str, text: &str) {
    let target: Element = element(id);
    if target.text_content().unwrap_or_default() != text {
        target.set_text_content(Some(text));
    }
}
