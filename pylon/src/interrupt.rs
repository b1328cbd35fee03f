//! Ctrl-C: the first asks what is going on to stop, the second leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit;
use crate::output::note;

/// Whether the user has pressed Ctrl-C. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    pending: Arc<AtomicBool>,
}

impl Interrupts {
    /// Catches Ctrl-C from now on, for the whole process. Where that is not possible it says so, and Ctrl-C keeps ending
    /// the process at once.
    pub fn catch() -> Self {
        let interrupts = Self::default();
        let pending = Arc::clone(&interrupts.pending);
        let handler = move || {
            if pending.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(exit::INTERRUPTED));
            }
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            note(format_args!("pylon: Ctrl-C cannot be caught and will end the program at once: {error}"));
        }
        interrupts
    }

    /// Ctrl-C was pressed and nobody has cleared it yet.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// What was to stop has stopped.
    pub fn clear(&self) {
        self.pending.store(false, Ordering::SeqCst);
    }
}
