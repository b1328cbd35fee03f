//! What differs between operating systems: reading at an offset, telling files apart, limits on open files, cores and
//! turns on them.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod not_linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use linux::{prefer_short_turns, read_cached_at, will_need};
#[cfg(not(target_os = "linux"))]
pub(crate) use not_linux::{prefer_short_turns, read_cached_at, will_need};
#[cfg(unix)]
pub use unix::allow_many_open_files;
#[cfg(unix)]
pub(crate) use unix::{file_index, read_at};
#[cfg(windows)]
pub use windows::allow_many_open_files;
#[cfg(windows)]
pub(crate) use windows::{file_index, read_at};

/// Identity of a file, whatever its name: the device, and the number on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileIndex {
    pub(crate) device: u64,
    pub(crate) file: u64,
}
