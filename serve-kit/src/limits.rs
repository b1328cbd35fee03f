//! How long and how many.

use std::time::Duration;

/// Time and connection limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A connection is closed if a request's headers are not whole this long after they began; the first request's
    /// begin when the connection is made.
    pub header_read: Duration,
    /// A connection is closed if no request begins for this long after the last answer.
    pub idle: Duration,
    /// A connection is closed if the client takes no byte of its answers for this long.
    pub write_stall: Duration,
    /// Answers under way have this long to finish when the server stops.
    pub drain: Duration,
    /// Connections at one time; others wait to be accepted.
    pub connections: usize,
    /// Connections at one time from one address; others are closed. Nobody needs as many, and nobody is to have all.
    pub connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            connections: 64,
            connections_per_address: 64,
        }
    }
}
