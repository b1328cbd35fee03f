//! The page: what is shown and what can be chosen.
//!
//! `format`, `inputs`, `query`, `catalog`, `state` and `describe` are pure and tested natively; `ui` puts them into the document.

pub mod cards;
pub mod catalog;
pub mod describe;
pub mod format;
pub mod inputs;
pub mod query;
pub mod state;

#[cfg(target_arch = "wasm32")]
mod ui;

#[cfg(target_arch = "wasm32")]
pub use ui::run;
