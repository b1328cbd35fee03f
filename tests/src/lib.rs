//! What the tests that cross crates share: where things are in the checkout, and what cargo says about it.

pub mod cargo_graph;

use std::path::{Path, PathBuf};

/// Root of the checkout.
pub fn workspace_root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The trained demo model.
pub fn nano_model() -> PathBuf {
    workspace_root().join("models/nano/gpt-oss-nano.gguf")
}

/// Its recorded answers.
pub fn nano_cases() -> PathBuf {
    workspace_root().join("models/nano/cases.json")
}
