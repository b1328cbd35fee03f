//! Recordings and other texts into files and back.

use gptoss_protocol::Recording;
use js_sys::Array;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, BlobPropertyBag, File, HtmlAnchorElement, Url};

use super::dom::{document, report};
use crate::state::State;

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
