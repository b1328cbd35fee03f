//! What this browser remembers for the engine from one visit to the next: a few short texts, such as that the kernels passed
//! their self-check on this adapter. Without it everything works, and takes a moment longer.

use web_sys::Storage;

use super::dom::window;

const ITEM: &str = "gptoss-remembered";
/// The oldest is forgotten first.
const MOST: usize = 16;

/// A browser may refuse; then nothing is remembered. (`gloo-storage` panics then.)
fn storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

pub fn remembered() -> Vec<String> {
    let text = storage().and_then(|storage| storage.get_item(ITEM).ok().flatten());
    // What cannot be read is of another version of the page.
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

pub fn remember(key: &str) {
    let mut keys = remembered();
    keys.retain(|known| known != key);
    keys.push(key.to_owned());
    keys.drain(..keys.len().saturating_sub(MOST));
    if let (Some(storage), Ok(text)) = (storage(), serde_json::to_string(&keys)) {
        // A full storage is none.
        let _ = storage.set_item(ITEM, &text);
    }
}
