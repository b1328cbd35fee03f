use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// Backends to look for adapters on.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::BROWSER_WEBGPU
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
