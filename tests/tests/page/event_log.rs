//! The page's recording, as its export button writes it.

use browser_driver::Browser;
use gptoss_page::state::State;
use gptoss_protocol::{Envelope, Event, Recording, WorkCounters};

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

/// Presses the log's export button and reads the recording.
pub async fn recording(browser: &Browser) -> Recording<State> {
    browser.eval(CATCH_DOWNLOADS, vec![]).await.expect("script");
    // The log may be in a drawer that is closed.
    browser.eval("document.getElementById('log-export').click();", vec![]).await.expect("the export button");
    let text = browser.eval_async(READ_LAST_BLOB, vec![]).await.expect("script");
    let text = text.as_str().expect("the export button makes a file");
    Recording::from_json_lines(text).expect("a recording of this protocol version")
}

/// Presses the log's export button and reads what the worker told, oldest first.
pub async fn export(browser: &Browser) -> Vec<Envelope> {
    let recording = recording(browser).await;
    assert_eq!(recording.dropped(), 0, "the log is too short for this run");
    let (own, envelopes): (Vec<_>, Vec<_>) =
        recording.events().iter().cloned().partition(|envelope| envelope.event.is_of_watcher());
    for pair in own.windows(2).chain(envelopes.windows(2)) {
        let (before, after) = (&pair[0], &pair[1]);
        assert!(
            before.run_id != after.run_id || before.sequence + 1 == after.sequence,
            "events are missing between {before:?} and {after:?}"
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
