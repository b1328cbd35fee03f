//! The page's event log, as its export button writes it.

use browser_driver::Browser;
use gptoss_protocol::{Envelope, Event, WorkCounters};
use serde_json::Value;

/// Keeps every blob that the page makes a link of, so that a script can read what a user would download.
const CATCH_DOWNLOADS: &str = "window.caughtBlobs ??= []; \
     if (!window.catchingBlobs) { \
         window.catchingBlobs = true; \
         const original = URL.createObjectURL.bind(URL); \
         URL.createObjectURL = (blob) => { window.caughtBlobs.push(blob); return original(blob); }; \
     }";

const READ_LAST_BLOB: &str = "const done = arguments[arguments.length - 1]; \
     const blob = window.caughtBlobs.at(-1); \
     if (blob === undefined) { done(null); } else { blob.text().then(done, () => done(null)); }";

/// Presses the log's export button and reads the events, oldest first.
pub async fn export(browser: &Browser) -> Vec<Envelope> {
    browser.eval(CATCH_DOWNLOADS, vec![]).await.expect("script");
    browser.click("#log-export").await.expect("the export button can be pressed");
    let text = browser.eval_async(READ_LAST_BLOB, vec![]).await.expect("script");
    let text = text.as_str().expect("the export button makes a file");
    let exported: Value = serde_json::from_str(text).expect("the export is JSON");
    assert_eq!(exported["dropped"], 0, "the log is too short for this run");
    let envelopes = exported["events"].as_array().expect("a list of events");
    let read = |value: &Value| Envelope::from_json(&value.to_string()).expect("an event of this protocol version");
    let envelopes: Vec<_> = envelopes.iter().map(read).collect();
    for pair in envelopes.windows(2) {
        assert_eq!(
            pair[0].sequence + 1,
            pair[1].sequence,
            "events are missing between {:?} and {:?}",
            pair[0],
            pair[1]
        );
    }
    envelopes
}

/// What `pick` finds in the events, in their order.
pub fn all<T>(events: &[Envelope], pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
    events.iter().filter_map(|envelope| pick(&envelope.event)).collect()
}

pub fn work(event: &Event) -> Option<WorkCounters> {
    match event {
        Event::Work(counters) => Some(*counters),
        _ => None,
    }
}
