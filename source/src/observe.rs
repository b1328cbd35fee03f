//! What a source that tries again has to tell.

use std::rc::Rc;
use std::time::Duration;

use crate::retry::{FaultKind, RetryPolicy};

/// How a file behind a URL is read.
#[derive(Clone, Default)]
pub struct HttpOptions {
    pub retry: RetryPolicy,
    /// Told of every fault that is being dealt with, and of its end.
    pub observer: Option<Rc<dyn FetchObserver>>,
}

/// Watches reads that meet faults.
pub trait FetchObserver {
    fn fetching(&self, report: &FetchReport<'_>);
}

/// Something happened to a read. A read that ends in an error, or is dropped, reports no more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FetchReport<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// The read's first byte; with the file's name it tells one read under way from another.
    pub offset_bytes: u64,
    /// Bytes of the read that are still to come.
    pub missing_bytes: u64,
    pub news: FetchNews,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FetchNews {
    /// An attempt failed; another comes after `wait`.
    TryingAgain {
        kind: FaultKind,
        wait: Duration,
        /// Number of the attempt that comes, counted from the last byte.
        attempt: u32,
        /// The read gives up after this many.
        attempts: u32,
    },
    /// There is no network; the read goes on when it is back.
    Offline,
    /// Bytes flow again.
    GoingOn { attempts: u32, elapsed: Duration },
}
