//! The one seam between native and web in this crate.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{
    WithSubgroups, adapter_details, backends, has_subgroups, no_adapter, run_callbacks, turn, wgsl,
};
#[cfg(target_arch = "wasm32")]
pub(crate) use web::{WithSubgroups, adapter_details, backends, has_subgroups, no_adapter, run_callbacks, turn, wgsl};
