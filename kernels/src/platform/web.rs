use std::time::Duration;

use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::patience::TURN;

/// Backends to look for adapters on.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::BROWSER_WEBGPU
}

/// Why there is none, in words. Browsers do not say; wgpu's own words list the backends of other platforms.
pub(crate) fn no_adapter(_error: &wgpu::RequestAdapterError) -> String {
    "the browser offers this page none".to_owned()
}

/// The browser runs callbacks from its event loop.
pub(crate) fn run_callbacks(_device: &wgpu::Device) {}

/// Gives the event loop back for [`TURN`]. Whether there is anything left to do is not known.
pub(crate) async fn turn(_device: &wgpu::Device, _idle: bool) -> Result<bool, String> {
    pause(TURN).await;
    Ok(true)
}

/// Vendor, architecture, device and description, as far as the browser tells: wgpu passes on the description only.
pub(crate) fn adapter_details(device: &wgpu::Device, _info: &wgpu::AdapterInfo) -> String {
    let Some(device) = device.as_webgpu() else { return String::new() };
    let get = |object: &JsValue, name: &str| Reflect::get(object, &JsValue::from_str(name)).ok();
    let Some(info) = get(device.as_ref(), "adapterInfo").filter(JsValue::is_object) else { return String::new() };
    let words = ["vendor", "architecture", "device", "description"].map(|name| get(&info, name)?.as_string());
    words.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Gives the event loop back for so long. Where there is no timer, not at all.
pub(crate) async fn pause(duration: Duration) {
    if let Some((_timer, passed)) = Timer::start(duration) {
        // A rejection ends the pause as well as time does.
        drop(JsFuture::from(passed).await);
    }
}

/// One of the global object's timers: a page's window or a worker's scope. Dropped before its time, it leaves nothing behind.
struct Timer {
    global: Object,
    id: JsValue,
}

impl Timer {
    fn start(duration: Duration) -> Option<(Self, Promise)> {
        let global = js_sys::global();
        let set: Function = Reflect::get(&global, &JsValue::from_str("setTimeout")).ok()?.dyn_into().ok()?;
        let milliseconds = JsValue::from_f64(duration.as_secs_f64() * 1e3);
        let mut id = None;
        let passed = Promise::new(&mut |resolve, _| id = set.call2(&global, &resolve, &milliseconds).ok());
        Some((Self { global, id: id? }, passed))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let clear = Reflect::get(&self.global, &JsValue::from_str("clearTimeout"));
        if let Ok(clear) = clear.and_then(|clear| clear.dyn_into::<Function>()) {
            // A timer that is over has nothing to clear.
            drop(clear.call1(&self.global, &self.id));
        }
    }
}
