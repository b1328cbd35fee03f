//! What differs between operating systems: files that nobody else may read, and how a process is told to end.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Ends, write_private};
#[cfg(windows)]
pub(crate) use windows::{Ends, write_private};
