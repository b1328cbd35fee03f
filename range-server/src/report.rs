//! What the program says on standard output: text for people, or one JSON object to a line.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gguf_serve::{AccessLog, AccessRecord, ModelInfo, PageSource, RunningServer};
use gptoss_protocol::units::bytes;
use serde_json::{Value, json};
use serve_kit::lines::Lines;

/// Prints a line at once. If nobody reads standard output any more, serving goes on all the same.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
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
        self.lines.flush();
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
