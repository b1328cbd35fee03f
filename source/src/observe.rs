//! What a source that tries again has to tell.

use std::rc::Rc;
use std::time::Duration;

use crate::retry::{FaultKind, RetryPolicy};

/// How a file behind a URL is read.
#[derive(Clone, Default)]
pub struct HttpOptions {
    /// How often and how long a read that meets faults tries again.
    pub retry: RetryPolicy,
    /// Receives a report of every fault that is being dealt with, and of its end.
    pub observer: Option<Rc<dyn FetchObserver>>,
}

/// Watches reads that meet faults.
pub trait FetchObserver {
    /// Receives one report; called while the read is under way, so it should return at once.
    fn fetching(&self, report: &FetchReport<'_>);
}

/// News of one read. A read that ends in an error, or is dropped, sends no more reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FetchReport<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// The read's first byte; with the file's name it tells one read under way from another.
    pub offset_bytes: u64,
    /// Bytes of the read that are still to come.
    pub missing_bytes: u64,
    /// What happened.
    pub news: FetchNews,
}

/// What happened to a read that met a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FetchNews {
    /// An attempt failed; another comes after `wait`.
    TryingAgain {
        /// The kind of fault.
        kind: FaultKind,
        /// How long the read pauses before that attempt.
        wait: Duration,
        /// Number of the attempt that comes, counted from the last byte.
        attempt: u32,
        /// The read gives up after this many.
        attempts: u32,
    },
    /// There is no network; the read goes on when it is back.
    Offline,
    /// Bytes flow again after a fault.
    GoingOn {
        /// Attempts since the last byte, including the one that succeeded.
        attempts: u32,
        /// Time since the last byte.
        elapsed: Duration,
    },
}
