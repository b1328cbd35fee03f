#![doc = include_str!("../README.md")]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod access;
mod api;
mod body;
mod buffers;
mod catalogue;
mod content;
pub mod hashes;
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

pub use access::{AccessLog, AccessRecord};
pub use catalogue::{CatalogueError, FileInfo, GgufFiles, ModelInfo, SplitState, gguf_files};
pub use options::{DEFAULT_PORT, Options, ServeError};
pub use page::PageSource;
pub use platform::allow_many_open_files;
pub use serve_kit::limits::Limits;
pub use serve_kit::server::Stopped;
pub use serve_kit::tls::{TlsError, TlsIdentity};
pub use server::{RunningServer, serve};
