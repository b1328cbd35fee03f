//! Serves GGUF files by HTTP ranges, and the page that runs them, from one origin.
//!
//! The program `gguf-serve` is a thin shell around [`serve`]; tests and tools start the same server in their own
//! process. What a request gets is decided by [`plan::plan`], a pure function of method, headers and facts about the
//! file; which files exist is decided once, at start, when they are opened.

#![cfg_attr(test, allow(clippy::unwrap_used))] // in a test that is the assertion

mod access;
mod body;
mod catalogue;
mod content;
mod cors;
mod host;
mod model;
mod page;
pub mod plan;
mod platform;
pub mod range;
mod server;
mod service;
mod stall;

pub use access::{AccessLog, AccessRecord};
pub use catalogue::{CatalogueError, ModelInfo};
pub use page::PageSource;
pub use server::{DEFAULT_PORT, Limits, Options, RunningServer, ServeError, Stopped, serve};
