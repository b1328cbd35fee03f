//! gpt-oss in a browser tab. Two programs share this crate: the page (`bin/page.rs`), which shows and asks, and the worker
//! (`bin/worker.rs`), which owns engine, GPU and sources. Between them travel only the types of `gptoss-protocol`.

pub mod page;

#[cfg(target_arch = "wasm32")]
pub mod worker;

#[cfg(target_arch = "wasm32")]
mod panic;

// These know no browser, so their tests run natively.
#[cfg(any(target_arch = "wasm32", test))]
mod published;
