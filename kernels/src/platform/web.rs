use gptoss_source::pause;
use js_sys::Reflect;
use wasm_bindgen::JsValue;

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
