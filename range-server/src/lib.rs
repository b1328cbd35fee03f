#![doc = include_str!("../README.md")]
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
