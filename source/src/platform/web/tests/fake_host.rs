//! A host in place of the network, which fails as it is told to.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use js_sys::{Array, Function, JSON, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};

use crate::retry::RetryPolicy;
use crate::{FetchNews, FetchObserver, FetchReport, HttpOptions};

pub struct FakeHost {
    pub url: String,
    log: Array,
}

impl FakeHost {
    /// `faults` is a JSON list of what befalls the requests in turn; see `fake_host.js`.
    pub fn new(name: &str, file: &[u8], faults: &str) -> Self {
        // The address must not look like this machine.
        let url = format!("http://model.example/{name}.gguf");
        let serve = Function::new_with_args("url, file, faults", include_str!("fake_host.js"));
        let faults = JSON::parse(faults).expect("JSON");
        let log = serve.call3(&JsValue::NULL, &JsValue::from_str(&url), &Uint8Array::from(file), &faults);
        Self { url, log: log.expect("the script runs").unchecked_into() }
    }

    /// Ranges that were asked for, without `bytes=`, and `abort` for each request that was aborted before it ended.
    pub fn log(&self) -> Vec<String> {
        let text = |entry: JsValue| entry.as_string().expect("a text").trim_start_matches("bytes=").to_owned();
        self.log.iter().map(text).collect()
    }

    /// Number of requests so far.
    pub fn requests(&self) -> usize {
        self.log().iter().filter(|entry| *entry != "abort").count()
    }
}

/// An observer that records its reports as lines.
#[derive(Default)]
pub struct Recorder(RefCell<Vec<String>>);

impl Recorder {
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

impl FetchObserver for Recorder {
    fn fetching(&self, report: &FetchReport<'_>) {
        let FetchReport { offset_bytes, missing_bytes, news, .. } = report;
        let news = match news {
            FetchNews::TryingAgain { kind, attempt, attempts, .. } => format!("{kind:?} {attempt}/{attempts}"),
            FetchNews::Offline => "Offline".to_owned(),
            FetchNews::GoingOn { attempts, .. } => format!("GoingOn {attempts}"),
        };
        self.0.borrow_mut().push(format!("{offset_bytes} {missing_bytes} {news}"));
    }
}

/// Options that wait milliseconds where the defaults wait seconds.
pub fn quick() -> (HttpOptions, Rc<Recorder>) {
    let retry = RetryPolicy {
        attempts: 4,
        first_wait: Duration::from_millis(2),
        longest_wait: Duration::from_millis(10),
        stall: Duration::from_millis(150),
        ..RetryPolicy::default()
    };
    let recorder = Rc::new(Recorder::default());
    let observer: Rc<dyn FetchObserver> = Rc::<Recorder>::clone(&recorder);
    (HttpOptions { retry, observer: Some(observer) }, recorder)
}
