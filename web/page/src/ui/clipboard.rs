//! Copying text, with the button itself saying whether the browser allowed it.

use gloo_timers::future::TimeoutFuture;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Element;

use super::dom::{element, window};

const SHOWN_MS: u32 = 1500;

/// Copies `text`; the button with this id shows the outcome for a moment, then its label again.
pub fn copy(button: &'static str, text: String) {
    copy_from(&element::<Element>(button), text);
}

/// Copies `text`; the button shows the outcome for a moment, then its label again.
pub fn copy_from(button: &Element, text: String) {
    let button = button.clone();
    spawn_local(async move {
        let label = button.text_content();
        // Browsers give the clipboard to secure pages only, as they do WebGPU.
        let copied = window().is_secure_context()
            && JsFuture::from(window().navigator().clipboard().write_text(&text)).await.is_ok();
        button.set_text_content(Some(if copied { "copied" } else { "not allowed" }));
        TimeoutFuture::new(SHOWN_MS).await;
        button.set_text_content(label.as_deref());
    });
}
