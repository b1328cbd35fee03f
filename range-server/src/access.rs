//! One record per request, written when the last byte is gone or the client is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::range::ByteRange;

/// The outcome of one request.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// Method as sent.
    pub method: Method,
    /// Path and query as sent, without the value of a `token`.
    pub target: String,
    /// Id of the model that the request is about.
    pub model: Option<String>,
    /// Status of the answer.
    pub status: StatusCode,
    /// First and last byte of a 206 with one range.
    pub range: Option<ByteRange>,
    /// Body bytes handed to the connection.
    pub sent_bytes: u64,
    /// Body bytes that the headers promised.
    pub promised_bytes: u64,
    /// Time from the request's headers to the end of the answer.
    pub elapsed: Duration,
    /// Why the body broke off, if the server did it.
    pub fault: Option<String>,
}

impl AccessRecord {
    /// Whether the body ended early: the client went away, the file failed, or the server stopped.
    pub fn aborted(&self) -> bool {
        self.sent_bytes < self.promised_bytes
    }

    fn milliseconds(&self) -> f64 {
        // Microseconds are more than anybody reads.
        (self.elapsed.as_secs_f64() * 1e6).round() / 1e3
    }

    /// The record as a JSON object, with the same facts as the line of text.
    pub fn to_json(&self) -> serde_json::Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        json!({
            "event": "request",
            "time_unix_ms": now.as_millis() as u64,
            "method": self.method.as_str(),
            "target": self.target,
            "model": self.model,
            "status": self.status.as_u16(),
            "range": self.range.map(|range| [range.first, range.last]),
            "sent_bytes": self.sent_bytes,
            "promised_bytes": self.promised_bytes,
            "ms": self.milliseconds(),
            "aborted": self.aborted(),
            "fault": self.fault,
        })
    }
}

impl fmt::Display for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.target, self.status.as_u16())?;
        if let Some(ByteRange { first, last }) = self.range {
            write!(f, " bytes {first}-{last}")?;
        }
        write!(f, " {} B {:.1} ms", self.sent_bytes, self.milliseconds())?;
        if let Some(model) = &self.model {
            write!(f, " model {model}")?;
        }
        match &self.fault {
            Some(fault) => write!(f, " aborted: {fault}"),
            None if self.aborted() => write!(f, " aborted of {} B", self.promised_bytes),
            None => Ok(()),
        }
    }
}

/// Receiver of access records.
pub type AccessLog = Arc<dyn Fn(&AccessRecord) + Send + Sync>;

/// A record that is written when dropped, which is when hyper is done with the body, one way or the other.
pub(crate) struct PendingRecord {
    record: AccessRecord,
    started: Instant,
    log: Option<AccessLog>,
}

impl PendingRecord {
    /// Starts the record of a request that has just arrived.
    pub(crate) fn new(method: Method, target: String, log: Option<AccessLog>) -> Self {
        let record = AccessRecord {
            method,
            target,
            model: None,
            status: StatusCode::OK,
            range: None,
            sent_bytes: 0,
            promised_bytes: 0,
            elapsed: Duration::ZERO,
            fault: None,
        };
        Self { record, started: Instant::now(), log }
    }

    pub(crate) fn answered(mut self, status: StatusCode, range: Option<ByteRange>, model: Option<String>) -> Self {
        (self.record.status, self.record.range, self.record.model) = (status, range, model);
        self
    }

    pub(crate) fn expecting(mut self, promised_bytes: u64) -> Self {
        self.record.promised_bytes = promised_bytes;
        self
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.record.sent_bytes += bytes;
    }

    pub(crate) fn failed(&mut self, error: &io::Error) {
        self.record.fault = Some(error.to_string());
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        self.record.elapsed = self.started.elapsed();
        if let Some(log) = &self.log {
            log(&self.record);
        }
    }
}
