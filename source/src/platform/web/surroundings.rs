//! What a page and a worker have in common: fetch, clock, timer, chance, and whether there is a network.

use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::select;
use gloo_events::EventListener;
use gloo_timers::future::TimeoutFuture;
use js_sys::Promise;
use wasm_bindgen::JsCast;
use web_sys::{EventTarget, Request, Window, WorkerGlobalScope};

use crate::SourceError;

/// The global object of wherever this runs.
enum Global {
    Worker(WorkerGlobalScope),
    Page(Window),
}

fn global() -> Result<Global, SourceError> {
    let elsewhere = |_| SourceError::Browser {
        action: "looking for fetch",
        detail: "this is neither a page nor a worker".to_owned(),
    };
    match js_sys::global().dyn_into::<WorkerGlobalScope>() {
        Ok(worker) => Ok(Global::Worker(worker)),
        Err(other) => Ok(Global::Page(other.dyn_into().map_err(elsewhere)?)),
    }
}

pub fn start_fetch(request: &Request) -> Result<Promise, SourceError> {
    Ok(match global()? {
        Global::Worker(worker) => worker.fetch_with_request(request),
        Global::Page(window) => window.fetch_with_request(request),
    })
}

/// Time since this page or worker began.
pub fn now() -> Duration {
    let performance = match global() {
        Ok(Global::Worker(worker)) => worker.performance(),
        Ok(Global::Page(window)) => window.performance(),
        Err(_) => None,
    };
    milliseconds(performance.map_or_else(js_sys::Date::now, |performance| performance.now()))
}

/// Time since 1970, as the machine's clock has it.
pub fn since_1970() -> Duration {
    milliseconds(js_sys::Date::now())
}

/// An HTTP date as the time since 1970.
pub fn parse_date(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(js_sys::Date::parse(text) / 1000.0).ok()
}

fn milliseconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value / 1000.0).unwrap_or_default()
}

/// From 0 to 1.
pub fn random() -> f64 {
    js_sys::Math::random()
}

/// Ends after a time; dropped before, it leaves nothing behind.
pub fn sleep(time: Duration) -> TimeoutFuture {
    // Rounded up: never early. Timers take no more than 31 bits.
    TimeoutFuture::new((time.as_secs_f64() * 1000.0).ceil().min(f64::from(i32::MAX)) as u32)
}

/// Lets whatever else is awaited beside it go on for at least so long.
pub async fn pause(duration: Duration) {
    sleep(duration).await;
}

/// `false` when the browser is certain that there is no network; `true` promises nothing.
pub fn is_online() -> bool {
    match global() {
        Ok(Global::Worker(worker)) => worker.navigator().on_line(),
        Ok(Global::Page(window)) => window.navigator().on_line(),
        Err(_) => true,
    }
}

/// Beside the event, in case that a browser does not send it to workers.
const LOOK_FOR_NETWORK_EVERY: Duration = Duration::from_secs(5);

/// Ends when there is a network.
pub async fn online() {
    while !is_online() {
        let (told, came) = oneshot::channel();
        let target: EventTarget = js_sys::global().unchecked_into();
        let _listener = EventListener::once(&target, "online", move |_| {
            // Nobody listens any more when the time was up first.
            let _ = told.send(());
        });
        select(came, sleep(LOOK_FOR_NETWORK_EVERY)).await;
    }
}
