#![doc = include_str!("../README.md")]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod demo;
mod hub;
mod ollama;
mod places;
mod search;
mod skipped;

pub use demo::{DEMO, DEMO_NAME, demo_file};
pub use hub::{HubOrigin, Repo, blob_hash, hub_folder, is_sha256};
pub use places::{Place, places};
pub use search::{Findings, FoundFile, Links, MAX_DEPTH, SearchOptions, has_gguf_extension, search};
pub use skipped::{SkipReason, Skipped};
