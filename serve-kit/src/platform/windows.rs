use std::fs::Metadata;
use std::io;
use std::path::Path;

use tokio::signal::windows::{CtrlC, ctrl_c};

/// Files in a user's profile are readable by that user alone.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(path, bytes)
}

/// Who may read a file is not in its metadata here.
pub(crate) fn others_can_read(_: &Metadata) -> bool {
    false
}

/// Ctrl-C.
pub(crate) struct Ends {
    interrupt: CtrlC,
}

impl Ends {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: ctrl_c()? })
    }

    pub(crate) async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}
