//! Web Locks: one user of a cached model at a time, in all tabs of this origin together.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::JsValue;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::prelude::wasm_bindgen;

use super::promise::{SOON, settled};
use super::surroundings::pause;

#[wasm_bindgen]
extern "C" {
    // web-sys has these behind a flag, though every browser has them.
    #[wasm_bindgen(js_namespace = ["navigator", "locks"], js_name = request, catch)]
    fn request_lock(name: &str, options: &Object, callback: &JsValue) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["navigator", "locks"], js_name = query, catch)]
    fn query_locks() -> Result<Promise, JsValue>;

}

/// A lock that is held until this guard is dropped, or until its tab or worker ends in whatever way.
pub struct LockGuard(Function);

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Resolving a promise cannot fail.
        let _ = self.0.call0(&JsValue::UNDEFINED);
    }
}

/// Takes the lock if nobody has it. Dropping the future early leaves no lock behind.
pub async fn try_lock(name: &str) -> Result<Option<LockGuard>, JsValue> {
    let options = Object::new();
    Reflect::set(&options, &"ifAvailable".into(), &true.into())?;
    let lock = Rc::new(RefCell::new(None));
    let wanted = Rc::downgrade(&lock);
    let mut requested = Err(JsValue::UNDEFINED);
    // Resolves once it is known whether somebody else has the lock.
    let outcome = Promise::new(&mut |outcome, _| {
        let wanted = wanted.clone();
        let callback = Closure::once_into_js(move |granted: JsValue| {
            // The grant may come so late that nobody waits for it.
            let held = wanted.upgrade().filter(|_| !granted.is_null()).map(|lock| {
                // The browser holds the lock for as long as this is not resolved.
                Promise::new(&mut |release, _| *lock.borrow_mut() = Some(LockGuard(release)))
            });
            // Resolving cannot fail.
            let _ = outcome.call0(&JsValue::UNDEFINED);
            held.map_or(JsValue::UNDEFINED, JsValue::from)
        });
        requested = request_lock(name, &options, &callback);
    });
    // The request itself settles first only when it is refused.
    settled(Promise::race(&Array::of2(outcome.as_ref(), requested?.as_ref())), SOON).await?;
    Ok(lock.take())
}

/// Like [`try_lock`], but waits for a lock that is about to be released, for example by a tab that was just closed or
/// reloaded.
pub async fn lock_soon(name: &str, patience: Duration) -> Result<Option<LockGuard>, JsValue> {
    const STEP: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        let lock = try_lock(name).await?;
        if lock.is_some() || waited >= patience {
            return Ok(lock);
        }
        pause(STEP).await;
        waited += STEP;
    }
}

/// Names of all locks of this origin that somebody holds.
pub async fn held_locks() -> Result<Vec<String>, JsValue> {
    let snapshot = settled(query_locks()?, SOON).await?;
    let held = Array::from(&Reflect::get(&snapshot, &"held".into())?);
    Ok(held.iter().filter_map(|lock| Reflect::get(&lock, &"name".into()).ok()?.as_string()).collect())
}
