//! Copying text, with the button itself saying whether the browser allowed it.

use gloo_timers::future::TimeoutFuture;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Element;

use super::dom::{report, window};

const SHOWN_MS: u32 = 1500;

/// Copies `text`; the button shows the outcome in place of its label for a moment. Its text is a view's, and stays.
pub fn copy_from(button: &Element, text: String) {
    let button = button.clone();
    spawn_local(async move {
        // Browsers give the clipboard to secure pages only, as they do WebGPU.
        let copied = window().is_secure_context()
            && JsFuture::from(window().navigator().clipboard().write_text(&text)).await.is_ok();
        report(button.set_attribute("data-outcome", if copied { "copied" } else { "not allowed" }));
        TimeoutFuture::new(SHOWN_MS).await;
        report(button.remove_attribute("data-outcome"));
    });
}
