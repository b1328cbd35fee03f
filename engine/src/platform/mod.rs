//! The one seam between native and web in this crate: how a source's bytes reach a GPU buffer, and how long a lost GPU
//! may be away.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{ADAPTER_PATIENCE, write_bytes};
#[cfg(target_arch = "wasm32")]
pub(crate) use web::{ADAPTER_PATIENCE, write_bytes};
