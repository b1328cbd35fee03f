#![doc = include_str!("../README.md")]

#[cfg(target_arch = "wasm32")]
mod browser;

#[cfg(target_arch = "wasm32")]
pub use browser::run;

// It knows no browser, so its tests run natively.
#[cfg(any(target_arch = "wasm32", test))]
mod published;
