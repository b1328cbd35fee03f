//! The browser's promises, waited for no longer than makes sense: some never settle, those of storage after "Clear site
//! data" among them.

use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::{Error, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use super::surroundings::sleep;

/// Time limit for operations that a browser finishes in a moment.
pub const SOON: Duration = Duration::from_secs(20);
/// Time limit for operations that take a browser longer: reading megabytes from a slow disk, deleting gigabytes.
pub const LATER: Duration = Duration::from_secs(180);

/// Awaits a promise for at most `patience`.
///
/// # Errors
/// What it was rejected with; an error that says how long it was waited for.
pub async fn settled(promise: Promise, patience: Duration) -> Result<JsValue, JsValue> {
    match select(JsFuture::from(promise), sleep(patience)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => {
            Err(Error::new(&format!("the browser gave no answer within {} s", patience.as_secs())).into())
        }
    }
}
