//! Tasks on the page's own thread that took longer than 50 ms, as the browser's Long Tasks API reports them.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Array, Object, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{PerformanceEntry, PerformanceObserver, PerformanceObserverEntryList, PerformanceObserverInit};

use super::dom::{report, window};
use super::now_ms;
use crate::panels::page::LongTaskCounts;

const ENTRY_TYPE: &str = "longtask";

pub struct LongTasks {
    /// `None` where the browser has no such API: then nothing was measured.
    counts: Cell<Option<LongTaskCounts>>,
    /// When loading or answering began and, if it is over, ended, in page time.
    busy_from_ms: Cell<f64>,
    busy_to_ms: Cell<f64>,
}

impl LongTasks {
    pub fn observe() -> Rc<Self> {
        let tasks = Rc::new(Self {
            counts: Cell::new(is_supported().then(LongTaskCounts::default)),
            busy_from_ms: Cell::new(f64::INFINITY),
            busy_to_ms: Cell::new(f64::INFINITY),
        });
        if tasks.counts.get().is_some() {
            let counted = Rc::clone(&tasks);
            let callback = Closure::<dyn FnMut(PerformanceObserverEntryList)>::new(move |list| counted.count(&list));
            if let Some(observer) = report(PerformanceObserver::new(callback.as_ref().unchecked_ref())) {
                observer.observe(&buffered());
            }
            callback.forget();
        }
        tasks
    }

    pub fn counts(&self) -> Option<LongTaskCounts> {
        self.counts.get()
    }

    /// Called with every drawing, so the borders are exact to one frame.
    pub fn set_busy(&self, busy: bool) {
        let was_busy = self.busy_from_ms.get().is_finite() && self.busy_to_ms.get().is_infinite();
        if busy == was_busy {
            return;
        }
        let now = now_ms();
        if busy {
            self.busy_from_ms.set(now);
            self.busy_to_ms.set(f64::INFINITY);
        } else {
            self.busy_to_ms.set(now);
        }
    }

    fn count(&self, list: &PerformanceObserverEntryList) {
        let mut counts = self.counts.get().unwrap_or_default();
        for entry in list.get_entries().iter() {
            let Ok(entry) = entry.dyn_into::<PerformanceEntry>() else { continue };
            let (from, to) = (entry.start_time(), entry.start_time() + entry.duration());
            counts.all += 1;
            counts.longest_ms = counts.longest_ms.max(entry.duration());
            if to >= self.busy_from_ms.get() && from <= self.busy_to_ms.get() {
                counts.busy += 1;
            }
        }
        self.counts.set(Some(counts));
    }
}

/// `{ type, buffered }`: those that came before the observer count too. web-sys knows only the older form, which cannot.
fn buffered() -> PerformanceObserverInit {
    let options = Object::new();
    report(Reflect::set(&options, &JsValue::from_str("type"), &JsValue::from_str(ENTRY_TYPE)));
    report(Reflect::set(&options, &JsValue::from_str("buffered"), &JsValue::TRUE));
    options.unchecked_into()
}

/// Observing a type that the browser does not know prints a warning, so it is asked first.
fn is_supported() -> bool {
    let observer = Reflect::get(&window(), &JsValue::from_str("PerformanceObserver"));
    let types = observer.and_then(|observer| Reflect::get(&observer, &JsValue::from_str("supportedEntryTypes")));
    types.is_ok_and(|types| {
        types.dyn_ref::<Array>().is_some_and(|types| types.includes(&JsValue::from_str(ENTRY_TYPE), 0))
    })
}
