//! Time passing, for those who wait.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::Promise;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::DedicatedWorkerGlobalScope;

/// Lets other work of this worker go on for at least so long.
pub async fn sleep(duration: Duration) {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let passed = Promise::new(&mut |resolve, _| {
        let set = scope.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, duration.as_millis() as i32);
        if let Err(error) = set {
            web_sys::console::error_1(&error);
            // Better too early than never.
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    });
    // It is never rejected.
    let _ = JsFuture::from(passed).await;
}

/// What `awaited` comes to, if it does within so long.
pub async fn within<T>(patience: Duration, awaited: impl Future<Output = T>) -> Option<T> {
    match select(pin!(awaited), pin!(sleep(patience))).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}
