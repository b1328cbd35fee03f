//! GGUF files on this machine: where tools and people keep them, and which files lie there.
//!
//! [`places`] says where to look, by the environment variables that the tools themselves read; [`search`] looks through one
//! folder, knows the cache of the Hugging Face hub and Ollama's store when it meets them, and says of everything that it
//! passes over why. Nothing is opened but small text files of those two: what a GGUF file holds is for others to say.
//!
//! [`DEMO`] is the model that is part of the program, for whoever has none.

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
