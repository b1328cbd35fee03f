use std::convert::Infallible;

use gptoss_protocol::Tier;
use gptoss_source::pause;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::patience::{OPENING, TURN, within};

/// Backends on which adapters are looked for.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::BROWSER_WEBGPU
}

/// Why there is no adapter, in words. Browsers do not say; wgpu's own words list the backends of other platforms.
pub(crate) fn no_adapter(_error: &wgpu::RequestAdapterError) -> String {
    "the browser offers this page none".to_owned()
}

/// Does nothing: the browser runs callbacks from its event loop.
pub(crate) fn run_callbacks(_device: &wgpu::Device) {}

/// Yields to the event loop for [`TURN`]. Whether anything is left to do is unknown.
pub(crate) async fn turn(
    _device: &wgpu::Device,
    _submission: Option<&wgpu::SubmissionIndex>,
    _idle: bool,
) -> Result<bool, String> {
    pause(TURN).await;
    Ok(true)
}

/// Vendor, architecture, device and description, as far as the browser tells them; wgpu passes on the description
/// alone.
pub(crate) fn adapter_details(device: &wgpu::Device, _info: &wgpu::AdapterInfo) -> String {
    let Some(device) = device.as_webgpu() else { return String::new() };
    let get = |object: &JsValue, name: &str| Reflect::get(object, &JsValue::from_str(name)).ok();
    let Some(info) = get(device.as_ref(), "adapterInfo").filter(JsValue::is_object) else { return String::new() };
    let words = ["vendor", "architecture", "device", "description"].map(|name| get(&info, name)?.as_string());
    words.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Requests the feature `subgroups`, for which wgpu has no name in browsers. While this value lives, `requestDevice` is
/// replaced so that the device is requested with the feature if the adapter has it. The request goes to an adapter of
/// our own, because wgpu does not share its adapter.
pub(crate) struct WithSubgroups(Option<Replaced>);

/// The replaced method `requestDevice` of adapters.
struct Replaced {
    prototype: JsValue,
    original: JsValue,
    /// The function that is called in its place.
    _closure: Closure<dyn FnMut(JsValue) -> Result<JsValue, JsValue>>,
}

const REQUEST_DEVICE: &str = "requestDevice";
const SUBGROUPS: &str = "subgroups";

impl WithSubgroups {
    /// `highest`: the highest wanted tier.
    pub async fn new(highest: Tier) -> Self {
        if highest < Tier::F16Subgroups {
            return Self(None);
        }
        let asked = adapter_with_subgroups();
        // A browser that does not answer has no subgroups.
        let turn = async |_: bool| {
            pause(TURN).await;
            Ok::<_, Infallible>(true)
        };
        let Ok(answer) = within(OPENING, asked, turn).await;
        Self(answer.and_then(|(adapter, _)| adapter).and_then(|adapter| replace(adapter).ok()))
    }
}

impl Drop for WithSubgroups {
    fn drop(&mut self) {
        if let Some(Replaced { prototype, original, .. }) = &self.0 {
            // The property was settable before.
            let _is_set = Reflect::set(prototype, &REQUEST_DEVICE.into(), original);
        }
    }
}

/// An adapter like the one that wgpu requests, if it has subgroups.
async fn adapter_with_subgroups() -> Option<JsValue> {
    let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).ok().filter(|it| !it.is_undefined());
    let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let request: Function = get(&gpu, "requestAdapter")?.dyn_into().ok()?;
    let promise: Promise = request.call1(&gpu, &options).ok()?.dyn_into().ok()?;
    let adapter = JsFuture::from(promise).await.ok().filter(JsValue::is_object)?;
    has_feature(&adapter).then_some(adapter)
}

fn has_feature(adapter_or_device: &JsValue) -> bool {
    let has = || {
        let features = Reflect::get(adapter_or_device, &"features".into()).ok()?;
        let has: Function = Reflect::get(&features, &"has".into()).ok()?.dyn_into().ok()?;
        has.call1(&features, &SUBGROUPS.into()).ok()?.as_bool()
    };
    has().unwrap_or(false)
}

fn replace(adapter: JsValue) -> Result<Replaced, JsValue> {
    let prototype: JsValue = Object::get_prototype_of(&adapter).into();
    let original = Reflect::get(&prototype, &REQUEST_DEVICE.into())?;
    let request: Function = original.clone().dyn_into()?;
    let closure = Closure::wrap(Box::new(move |descriptor: JsValue| {
        let features = Array::from(&Reflect::get(&descriptor, &"requiredFeatures".into())?);
        features.push(&SUBGROUPS.into());
        Reflect::set(&descriptor, &"requiredFeatures".into(), &features)?;
        request.call1(&adapter, &descriptor)
    }) as Box<dyn FnMut(JsValue) -> Result<JsValue, JsValue>>);
    Reflect::set(&prototype, &REQUEST_DEVICE.into(), closure.as_ref())?;
    Ok(Replaced { prototype, original, _closure: closure })
}

/// Whether the device has subgroups that wgpu does not know of.
pub(crate) fn has_subgroups(device: &wgpu::Device) -> bool {
    device.as_webgpu().is_some_and(|device| has_feature(device.as_ref()))
}

/// The kernel's source for the browser.
pub(crate) fn wgsl(source: &str) -> &str {
    source
}
