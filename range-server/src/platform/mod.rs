//! What differs between operating systems: reading at an offset, and telling files apart.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{file_index, read_at};
#[cfg(windows)]
pub(crate) use windows::{file_index, read_at};
