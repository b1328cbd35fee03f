//! The one seam between native and web in this crate.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{adapter_details, backends, no_adapter, run_callbacks, turn};
#[cfg(target_arch = "wasm32")]
pub(crate) use web::{adapter_details, backends, no_adapter, run_callbacks, turn};
