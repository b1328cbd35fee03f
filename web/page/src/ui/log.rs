//! The event log: the last lines on the page, all that the page has for copy and export.

use gptoss_protocol::{Envelope, Recording};
use js_sys::Array;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, BlobPropertyBag, Element, File, HtmlAnchorElement, Url};

use super::dom::{append, document, element, report};
use super::now_ms;
use crate::describe::event_line;
use crate::state::State;

/// Lines on the page.
const SHOWN: usize = 120;
/// Every line moves when one is added, which makes the log the dearest part of the page to draw.
const LEAST_MS_BETWEEN_DRAWINGS: f64 = 250.0;

pub struct LogView {
    list: Element,
    /// Events of the whole run that were taken into account so far.
    taken: u64,
    drawn_at_ms: f64,
}

impl LogView {
    pub fn new() -> Self {
        Self { list: element("log"), taken: 0, drawn_at_ms: f64::NEG_INFINITY }
    }

    /// Adds the lines of events that came since the last drawing; `false` when it is too early for that.
    pub fn draw(&mut self, recording: &Recording<State>) -> bool {
        let total = recording.dropped() + recording.events().len() as u64;
        let new = (total - self.taken).min(SHOWN as u64) as usize;
        if new == 0 {
            return true;
        }
        let now_ms = now_ms();
        if now_ms - self.drawn_at_ms < LEAST_MS_BETWEEN_DRAWINGS {
            return false;
        }
        self.drawn_at_ms = now_ms;
        self.taken = total;
        let events = recording.events();
        for envelope in events.iter().skip(events.len().saturating_sub(new)) {
            self.add_line(envelope);
        }
        while self.list.child_element_count() as usize > SHOWN {
            if let Some(first) = self.list.first_element_child() {
                first.remove();
            }
        }
        true
    }

    fn add_line(&self, envelope: &Envelope) {
        let (kind, text) = event_line(&envelope.event);
        let Some(line) = append(&self.list, "li", if kind == "failed" { "failed" } else { "" }, "") else { return };
        append(&line, "span", "at", &clock(envelope.at_ms));
        append(&line, "span", "kind", kind);
        append(&line, "span", "text", &text);
    }
}

/// All recorded events as lines of text.
pub fn as_text(recording: &Recording<State>) -> String {
    let mut text = String::new();
    for envelope in recording.events() {
        let (kind, line) = event_line(&envelope.event);
        text.push_str(&format!("{:>12} {kind:<9} {line}\n", clock(envelope.at_ms)));
    }
    text
}

/// Saves the recording as a file of JSON lines.
pub fn export(recording: &Recording<State>) {
    let json = match recording.to_json_lines() {
        Ok(json) => json,
        Err(error) => return web_sys::console::error_1(&error.to_string().into()),
    };
    save("gpt-oss-recording.jsonl", "application/jsonl", json);
}

/// Saves a text as a file.
pub fn save(name: &str, kind: &str, text: String) {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    let saved = Blob::new_with_str_sequence_and_options(&Array::of1(&text.into()), &options).and_then(|blob| {
        let url = Url::create_object_url_with_blob(&blob)?;
        let link: HtmlAnchorElement = document().create_element("a")?.unchecked_into();
        link.set_href(&url);
        link.set_download(name);
        link.click();
        Url::revoke_object_url(&url)
    });
    report(saved);
}

/// Reads a file that the user picked.
pub fn read_text(file: File, then: impl FnOnce(String, String) + 'static) {
    spawn_local(async move {
        if let Some(text) = report(JsFuture::from(file.text()).await) {
            then(file.name(), text.as_string().unwrap_or_default());
        }
    });
}

fn clock(at_ms: f64) -> String {
    format!("{:.3} s", at_ms / 1000.0)
}
