//! What a page and a worker have in common: fetch, clock, timer, chance, and whether there is a network.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::select;
use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{EventTarget, Request, Window, WorkerGlobalScope};

use super::browser_error;
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

/// Time since this page or worker started; never goes back.
pub fn now() -> Duration {
    let performance = match global() {
        Ok(Global::Worker(worker)) => worker.performance(),
        Ok(Global::Page(window)) => window.performance(),
        Err(_) => None,
    };
    milliseconds(performance.map_or_else(js_sys::Date::now, |performance| performance.now()))
}

/// Time since 1970 by the machine's clock.
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

/// A random number from 0 to 1.
pub fn random() -> f64 {
    js_sys::Math::random()
}

/// A future that completes after a time. Dropping it early leaves nothing behind.
pub struct Sleep {
    timer: i32,
    done: JsFuture,
}

impl Sleep {
    pub fn new(time: Duration) -> Result<Self, SourceError> {
        let global = global()?;
        // Rounded up: never early. Timers take no more than 31 bits.
        let milliseconds = (time.as_secs_f64() * 1000.0).ceil().min(f64::from(i32::MAX)) as i32;
        let mut started = Ok(0);
        let promise = Promise::new(&mut |resolve, _| {
            started = match &global {
                Global::Worker(worker) => {
                    worker.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds)
                }
                Global::Page(window) => {
                    window.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds)
                }
            };
        });
        Ok(Self { timer: started.map_err(browser_error("setTimeout"))?, done: JsFuture::from(promise) })
    }
}

pub async fn pause(duration: Duration) {
    // Without a timer, continuing too early is better than never.
    if let Ok(sleep) = Sleep::new(duration) {
        sleep.await;
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.done).poll(context).map(drop)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        match global() {
            Ok(Global::Worker(worker)) => worker.clear_timeout_with_handle(self.timer),
            Ok(Global::Page(window)) => window.clear_timeout_with_handle(self.timer),
            Err(_) => {}
        }
    }
}

/// Whether there may be a network: `false` only when the browser is certain that there is none.
pub fn is_online() -> bool {
    match global() {
        Ok(Global::Worker(worker)) => worker.navigator().on_line(),
        Ok(Global::Page(window)) => window.navigator().on_line(),
        Err(_) => true,
    }
}

/// How often to check for a network besides waiting for the event, in case a browser does not send it to workers.
const LOOK_FOR_NETWORK_EVERY: Duration = Duration::from_secs(5);

/// Completes when there is a network.
pub async fn online() -> Result<(), SourceError> {
    while !is_online() {
        select(OnlineEvent::listen()?, Sleep::new(LOOK_FOR_NETWORK_EVERY)?).await;
    }
    Ok(())
}

/// A future of the next `online` event.
struct OnlineEvent {
    target: EventTarget,
    /// The promise's own resolve function is the listener.
    resolve: Function,
    done: JsFuture,
}

impl OnlineEvent {
    const NAME: &'static str = "online";

    fn listen() -> Result<Self, SourceError> {
        let target: EventTarget = js_sys::global().unchecked_into();
        let mut resolve = Function::default();
        let promise = Promise::new(&mut |resolver, _| resolve = resolver);
        target
            .add_event_listener_with_callback(Self::NAME, &resolve)
            .map_err(browser_error("listening to the network"))?;
        Ok(Self { target, resolve, done: JsFuture::from(promise) })
    }
}

impl Future for OnlineEvent {
    type Output = Result<JsValue, JsValue>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context)
    }
}

impl Drop for OnlineEvent {
    fn drop(&mut self) {
        // Only a target that never had the listener refuses.
        let _ = self.target.remove_event_listener_with_callback(Self::NAME, &self.resolve);
    }
}
