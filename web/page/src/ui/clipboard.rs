//! Copying text, with the button itself saying whether the browser allowed it.

use gloo_timers::future::TimeoutFuture;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::HtmlElement;

use super::dom::{element, window};

const SHOWN_MS: u32 = 1500;

/// Copies `text`; the button shows the outcome for a moment, then `label` again.
pub fn copy(button: &'static str, label: &'static str, text: String) {
    spawn_local(async move {
        // Browsers give the clipboard to secure pages only, as they do WebGPU.
        let copied = window().is_secure_context()
            && JsFuture::from(window().navigator().clipboard().write_text(&text)).await.is_ok();
        let button: HtmlElement = element(button);
        button.set_text_content(Some(if copied { "copied" } else { "not allowed" }));
        TimeoutFuture::new(SHOWN_MS).await;
        button.set_text_content(Some(label));
    });
}
