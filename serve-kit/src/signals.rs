//! When a process is told to end.

use std::io;

use crate::platform::Ends;

/// Ctrl-C, and SIGTERM where that exists; caught from `new` on, waited for or not.
pub struct Signals(Ends);

impl Signals {
    /// Catches them from now on, so that they no longer end the process by themselves.
    ///
    /// # Errors
    /// The system does not let this process catch them.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn new() -> io::Result<Self> {
        Ends::new().map(Self)
    }

    /// Ends with the next signal; one that came since the last call counts.
    pub async fn next(&mut self) {
        self.0.next().await;
    }
}
