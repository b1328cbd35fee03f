//! Gates on the demo model and on small files of every type: what they pass, what they find, and what they cannot.
#![cfg(not(target_arch = "wasm32"))]

mod faults;
mod slices;
mod support;
mod whole;
