//! What differs between operating systems: files that nobody else may read, whether others may read one, and how a process
//! is told to end.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Ends, others_can_read, write_private};
#[cfg(windows)]
pub(crate) use windows::{Ends, others_can_read, write_private};
