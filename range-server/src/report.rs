//! What the program says on standard output: text for people, or one JSON object to a line.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gguf_serve::{AccessLog, AccessRecord, ModelInfo, PageSource, RunningServer};
use gptoss_protocol::units::bytes;
use serde_json::{Value, json};

/// Prints a line at once. If nobody reads standard output any more, serving goes on all the same.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// How long a line about a request may wait for others, so that a thousand small requests are not a thousand writes,
/// each of which wakes whoever reads them. Not longer: what is gathered is written in one go, and the requests of that
/// moment wait for a processor.
const GATHER: Duration = Duration::from_millis(10);

/// Lines on their way to standard output, written by a thread of their own.
#[derive(Default)]
struct Lines {
    waiting: Mutex<String>,
    some: Condvar,
}

impl Lines {
    fn start() -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            // Two buffers take turns: a new one would grow, and move, while requests wait to add to it.
            let mut gathered = String::new();
            loop {
                writer.wait_for_some();
                std::thread::sleep(GATHER);
                writer.flush(&mut gathered);
            }
        });
        lines
    }

    fn waiting(&self) -> MutexGuard<'_, String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_some(&self) {
        // Whoever flushes looks at the lines.
        drop(self.some.wait_while(self.waiting(), |waiting| waiting.is_empty()));
    }

    fn add(&self, line: impl Display) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        // The line is formatted before taking the lock, which all threads want.
        LINE.with_borrow_mut(|text| {
            text.clear();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
            let mut waiting = self.waiting();
            let was_empty = waiting.is_empty();
            waiting.push_str(text);
            drop(waiting);
            if was_empty {
                self.some.notify_one();
            }
        });
    }

    /// Writes what is waiting, by way of `buffer`. The lock on the output keeps lines in order.
    fn flush(&self, buffer: &mut String) {
        let mut out = io::stdout().lock();
        buffer.clear();
        std::mem::swap(buffer, &mut *self.waiting());
        let _ = out.write_all(buffer.as_bytes()).and_then(|()| out.flush());
    }
}

/// The address that a person opens.
pub fn with_token(url: &str, token: Option<&str>) -> String {
    match token {
        None => url.to_owned(),
        Some(token) => {
            format!("{url}?token={}", percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC))
        }
    }
}

/// How this run reports, and what it has counted.
pub struct Report {
    json: bool,
    totals: Arc<Totals>,
    lines: Arc<Lines>,
    started: Instant,
}

#[derive(Default)]
struct Totals {
    requests: AtomicU64,
    sent_bytes: AtomicU64,
    aborted: AtomicU64,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json, totals: Arc::default(), lines: Lines::start(), started: Instant::now() }
    }

    /// A line per request.
    pub fn access_log(&self) -> AccessLog {
        let (json, totals, lines) = (self.json, Arc::clone(&self.totals), Arc::clone(&self.lines));
        Arc::new(move |record: &AccessRecord| {
            totals.requests.fetch_add(1, Ordering::Relaxed);
            totals.sent_bytes.fetch_add(record.sent_bytes, Ordering::Relaxed);
            totals.aborted.fetch_add(u64::from(record.aborted()), Ordering::Relaxed);
            if json { lines.add(record.to_json()) } else { lines.add(record) }
        })
    }

    /// A line that is not about a request.
    pub fn note(&self, text: &str) {
        self.event(json!({ "event": "note", "text": text }), || text.to_owned());
    }

    fn event(&self, json: Value, text: impl FnOnce() -> String) {
        // Earlier events are printed first.
        self.lines.flush(&mut String::new());
        if self.json { say(json) } else { say(text()) }
    }

    /// Prints what a person wants to know first: what is served, what is odd about it, and where to click.
    pub fn greet(&self, server: &RunningServer, models: &[ModelInfo], names: &[String], token: Option<&str>) {
        let url = with_token(&server.page_url(), token);
        let port = server.addr().port();
        let elsewhere: Vec<String> =
            names.iter().map(|name| with_token(&server.url_at(&format!("{name}:{port}")), token)).collect();
        if self.json {
            let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
            let start = json!({
                "event": "start",
                "version": env!("CARGO_PKG_VERSION"),
                "addresses": addresses,
                "port": port,
                "url": url,
                "urls_for_others": elsewhere,
                "models": models,
            });
            say(start);
            return server.notes().iter().for_each(|note| self.note(note));
        }
        let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
        say(format_args!("gguf-serve {} on {}", env!("CARGO_PKG_VERSION"), addresses.join(" and ")));
        for model in models {
            say(format_args!("  {}", describe(model)));
        }
        for note in server.notes() {
            say(format_args!("note: {note}"));
        }
        if !server.addr().ip().is_loopback() {
            say(format_args!(
                "warning: everyone who can reach {} and knows the token can read these files",
                server.addr()
            ));
        }
        match server.page_source() {
            PageSource::Embedded => {}
            PageSource::Folder(folder) => say(format_args!("page from {}", folder.display())),
            PageSource::Missing => say("note: built without the page; `cargo xtask page` makes it"),
        }
        say(format_args!("\nOpen {url}"));
        for url in elsewhere {
            say(format_args!("  or {url}"));
        }
        say("");
    }

    /// Prints the totals of the run.
    pub fn summary(&self) {
        let [requests, sent_bytes, aborted] = [&self.totals.requests, &self.totals.sent_bytes, &self.totals.aborted]
            .map(|total| total.load(Ordering::Relaxed));
        let seconds = self.started.elapsed().as_secs();
        let json = json!({
            "event": "summary",
            "requests": requests,
            "sent_bytes": sent_bytes,
            "aborted": aborted,
            "seconds": seconds,
        });
        self.event(json, || {
            let sent = bytes(sent_bytes);
            format!("answered {requests} requests with {sent} in {seconds} s; {aborted} of them were aborted")
        });
    }
}

fn describe(model: &ModelInfo) -> String {
    let kind: Vec<&str> =
        [&model.architecture, &model.quantisation].into_iter().flatten().map(String::as_str).collect();
    let kind = if kind.is_empty() { "unreadable".to_owned() } else { kind.join(" ") };
    let files = if model.files.len() > 1 { format!("  {} files", model.files.len()) } else { String::new() };
    let hub = model.hub.as_ref().map(|hub| format!("  from {} at {}", hub.repo, hub.revision)).unwrap_or_default();
    let reason = model.reason.as_ref().map(|reason| format!("  not supported by the page: {reason}"));
    format!("{}  {}  {kind}{files}{hub}{}", model.url, bytes(model.size_bytes), reason.unwrap_or_default())
}
