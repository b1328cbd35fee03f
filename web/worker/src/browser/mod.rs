//! The worker in the browser.

mod cache;
mod download;
mod hashes;
mod panic;
mod platform;
mod storage;
mod timer;

use std::cell::Cell;
use std::rc::Rc;

use gptoss_node::{Node, Teller};
use gptoss_protocol::{Envelope, Event, Failure, FailureKind, Request, Sequencer, Stage};
use js_sys::Array;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{DedicatedWorkerGlobalScope, File, MessageEvent};

use self::platform::BrowserPlatform;

/// Starts the worker. Called once, by `main.rs`.
pub fn run() {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let (sending, failing) = (scope.clone(), scope.clone());
    // Milliseconds since 1970 tell one worker from another on any one page.
    let run_id = js_sys::Date::now() as u64;
    let teller = Teller::new(run_id, move |envelope| post_text(&sending, &envelope.to_json()));
    let teller = Rc::new(teller.noticing(heap_growth()));
    panic::report(move |message| post_text(&failing, &failure_of_panic(message).to_json()));
    let platform = BrowserPlatform::new(scope.clone(), Rc::clone(&teller));
    let node = Rc::new(Node::new(platform, Rc::clone(&teller)));
    let (submitting, refusing) = (Rc::clone(&node), Rc::clone(&teller));
    let receive = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| match read(&message.data()) {
        Ok((request, files)) => submitting.submit(request, files),
        Err(detail) => refusing.tell(Event::Failed { stage: Stage::GpuDevice, failure: unreadable(&detail) }),
    });
    scope.set_onmessage(Some(receive.as_ref().unchecked_ref()));
    receive.forget();
    spawn_local(async move { node.run().await });
    teller.tell(Event::HostReady);
}

/// A message is a list: a request as text, and the picked files where there are any.
fn read(data: &JsValue) -> Result<(Request, Vec<File>), String> {
    let parts: &Array = data.dyn_ref().ok_or("it is not a list")?;
    let json = parts.get(0).as_string().ok_or("it has no text")?;
    let request = Request::from_json(&json).map_err(|error| error.to_string())?;
    let files = parts.iter().skip(1).map(|file| file.dyn_into().map_err(|_| "something beside it is not a file"));
    Ok((request, files.collect::<Result<_, _>>()?))
}

fn unreadable(detail: &str) -> Failure {
    let message = format!("the page sent a command that cannot be read: {detail}");
    let advice = "Reload the page so that both sides are of the same build.".to_owned();
    Failure { kind: FailureKind::Internal, message, advice, parameter: None }
}

/// Tells the size of the wasm heap, which only grows, when it has grown.
fn heap_growth() -> impl Fn() -> Option<Event> {
    const PAGE_BYTES: u64 = 64 << 10;
    let told_bytes = Cell::new(0);
    move || {
        let bytes = core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES;
        (told_bytes.replace(bytes) != bytes).then_some(Event::WasmHeap { bytes })
    }
}

/// A text always can be posted; should a browser refuse, the page sees the gap in the numbers.
fn post_text(scope: &DedicatedWorkerGlobalScope, text: &str) {
    if let Err(error) = scope.post_message(&JsValue::from_str(text)) {
        web_sys::console::error_1(&error);
    }
}

/// Words for the page before a panic ends the worker. Nothing of the worker's own state can be trusted then, so the message is
/// numbered as if it were the first.
fn failure_of_panic(message: &str) -> Envelope {
    let failure = Failure {
        kind: FailureKind::Internal,
        message: format!("the engine's worker stopped: {message}"),
        advice: "Load the model again. If it happens again, please report it with the event log.".to_owned(),
        parameter: None,
    };
    Sequencer::new(0).wrap(0.0, None, Event::Failed { stage: Stage::GpuDevice, failure })
}
