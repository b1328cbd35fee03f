use std::time::Duration;

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Backends to look for adapters on.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::BROWSER_WEBGPU
}

/// Why there is none, in words. Browsers do not say; wgpu's own words list the backends of other platforms.
pub(crate) fn no_adapter(_error: &wgpu::RequestAdapterError) -> String {
    "the browser offers this page none".to_owned()
}

/// The browser runs callbacks from its event loop; awaiting is enough.
pub(crate) fn drive_callbacks(_device: &wgpu::Device) -> Result<(), String> {
    Ok(())
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
    let global = js_sys::global();
    let timer =
        Reflect::get(&global, &JsValue::from_str("setTimeout")).ok().and_then(|it| it.dyn_into::<Function>().ok());
    let Some(timer) = timer else { return };
    let milliseconds = JsValue::from_f64(duration.as_secs_f64() * 1e3);
    let promise = Promise::new(&mut |resolve, reject| {
        if timer.call2(&global, &resolve, &milliseconds).is_err() {
            // Then there is nothing to wait for.
            drop(reject.call0(&JsValue::UNDEFINED));
        }
    });
    // A rejection ends the pause as well as time does.
    drop(JsFuture::from(promise).await);
}
