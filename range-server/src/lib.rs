//! Serves GGUF files by HTTP ranges, and the page that runs them, from one origin.
//!
//! The program `gguf-serve` is a thin shell around [`serve`]; tests and tools start the same server in their own
//! process. What a request gets is decided by [`plan::plan`], a pure function of method, headers and facts about the
//! file; which files exist is decided once, at start, when they are opened.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod access;
mod activity;
mod api;
mod body;
mod buffers;
mod catalogue;
mod connection;
mod content;
pub mod cors;
pub mod hashes;
pub mod host;
mod lanes;
mod listing;
pub mod multipart;
mod options;
mod page;
pub mod plan;
mod platform;
pub mod range;
mod reply;
mod server;
mod service;
mod tls;
pub mod token;

pub use access::{AccessLog, AccessRecord};
pub use catalogue::{CatalogueError, FileInfo, GgufFiles, ModelInfo, SplitState, gguf_files};
pub use options::{DEFAULT_PORT, Limits, Options, ServeError};
pub use page::PageSource;
pub use platform::allow_many_open_files;
pub use server::{RunningServer, Stopped, serve};
pub use tls::{TlsError, TlsIdentity};
