//! The event log: the last lines on the page, all that is kept for copy and export.

use gptoss_telemetry::Envelope;
use js_sys::Array;
use wasm_bindgen::JsCast;
use web_sys::{Blob, BlobPropertyBag, Element, HtmlAnchorElement, Url};

use super::dom::{append, document, element, report, window};
use crate::page::describe::event_line;
use crate::page::state::State;

/// Lines on the page.
const SHOWN: usize = 200;

pub struct LogView {
    list: Element,
    /// Events of the whole run that were taken into account so far.
    taken: u64,
}

impl LogView {
    pub fn new() -> Self {
        Self { list: element("log"), taken: 0 }
    }

    /// Adds the lines of events that came since the last drawing.
    pub fn draw(&mut self, state: &State) {
        let total = state.log_dropped + state.log.len() as u64;
        let new = (total - self.taken).min(SHOWN as u64) as usize;
        if new == 0 {
            return;
        }
        self.taken = total;
        for envelope in state.log.iter().skip(state.log.len().saturating_sub(new)) {
            self.add_line(envelope);
        }
        while self.list.child_element_count() as usize > SHOWN {
            if let Some(first) = self.list.first_element_child() {
                first.remove();
            }
        }
    }

    fn add_line(&self, envelope: &Envelope) {
        let (kind, text) = event_line(&envelope.event);
        let Some(line) = append(&self.list, "li", if kind == "failed" { "failed" } else { "" }, "") else { return };
        append(&line, "span", "at", &clock(envelope.at_ms));
        append(&line, "span", "kind", kind);
        append(&line, "span", "text", &text);
    }
}

pub fn copy(state: &State) {
    let mut text = String::new();
    for envelope in &state.log {
        let (kind, line) = event_line(&envelope.event);
        text.push_str(&format!("{:>12} {kind:<9} {line}\n", clock(envelope.at_ms)));
    }
    copy_text(&text);
}

/// Browsers give the clipboard to secure pages only, as they do WebGPU.
pub fn copy_text(text: &str) {
    if window().is_secure_context() {
        // Whether the user grants it is the user's business.
        let _ = window().navigator().clipboard().write_text(text);
    }
}

/// Saves all kept envelopes as one JSON file.
pub fn export(state: &State) {
    let events: Vec<String> = state.log.iter().map(Envelope::to_json).collect();
    let json = format!("{{\"dropped\":{},\"events\":[\n{}\n]}}\n", state.log_dropped, events.join(",\n"));
    let options = BlobPropertyBag::new();
    options.set_type("application/json");
    let saved = Blob::new_with_str_sequence_and_options(&Array::of1(&json.into()), &options).and_then(|blob| {
        let url = Url::create_object_url_with_blob(&blob)?;
        let link: HtmlAnchorElement = document().create_element("a")?.unchecked_into();
        link.set_href(&url);
        link.set_download("gpt-oss-events.json");
        link.click();
        Url::revoke_object_url(&url)
    });
    report(saved);
}

fn clock(at_ms: f64) -> String {
    format!("{:.3} s", at_ms / 1000.0)
}
