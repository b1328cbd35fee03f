//! One record per request, written when the last byte is gone or the client is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};

/// What became of one request.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// Method as sent.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// Status of the answer.
    pub status: StatusCode,
    /// First and last byte of a 206.
    pub range: Option<(u64, u64)>,
    /// Body bytes handed to the connection.
    pub sent_bytes: u64,
    /// Body bytes that the headers promised.
    pub promised_bytes: u64,
    /// From the request's headers to the end of the answer.
    pub elapsed: Duration,
    /// Why the body broke off, if the server did it.
    pub fault: Option<String>,
}

impl AccessRecord {
    /// Whether the body ended early: the client went away, the file failed, or the server stopped.
    pub fn aborted(&self) -> bool {
        self.sent_bytes < self.promised_bytes
    }
}

impl fmt::Display for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.target, self.status.as_u16())?;
        if let Some((first, last)) = self.range {
            write!(f, " bytes {first}-{last}")?;
        }
        write!(f, " {} B {:.1} ms", self.sent_bytes, self.elapsed.as_secs_f64() * 1e3)?;
        match &self.fault {
            Some(fault) => write!(f, " aborted: {fault}"),
            None if self.aborted() => write!(f, " aborted of {} B", self.promised_bytes),
            None => Ok(()),
        }
    }
}

/// Where access records go.
pub type AccessLog = Arc<dyn Fn(&AccessRecord) + Send + Sync>;

/// A record that is written when dropped, which is when hyper is done with the body, one way or the other.
pub(crate) struct PendingRecord {
    record: AccessRecord,
    started: Instant,
    log: Option<AccessLog>,
}

impl PendingRecord {
    pub(crate) fn new(method: Method, target: String, started: Instant, log: Option<AccessLog>) -> Self {
        let record = AccessRecord {
            method,
            target,
            status: StatusCode::OK,
            range: None,
            sent_bytes: 0,
            promised_bytes: 0,
            elapsed: Duration::ZERO,
            fault: None,
        };
        Self { record, started, log }
    }

    pub(crate) fn answered(mut self, status: StatusCode, range: Option<(u64, u64)>) -> Self {
        self.record.status = status;
        self.record.range = range;
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
