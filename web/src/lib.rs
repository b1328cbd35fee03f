#![doc = include_str!("../README.md")]

pub mod page;

#[cfg(target_arch = "wasm32")]
pub mod worker;

#[cfg(target_arch = "wasm32")]
mod panic;

// These know no browser, so their tests run natively.
#[cfg(any(target_arch = "wasm32", test))]
mod published;
