#![doc = include_str!("../README.md")]
//! For programs that drive the page (tests, `cargo xtask demo`): `data-state` on the body is the phase
//! ([`state::Phase::name`]); `#load`, `#ask` and `#stop` are the buttons (`#load` is disabled until the page's program
//! is up); [`inputs::element_id`] names the inputs (what is wrong with one is said in `#…-error`), `#file` the file
//! input; `#status` is the sentence, `#error` and `#error-advice` the failure, empty when there is none; turns are
//! `.turn`, the last with `data-last`, their messages `[data-channel]` with the text in `.said`; `#stages li` carry `data-status`; `#long-tasks-busy` counts main-thread tasks
//! over 50 ms while the page was busy; `#cache-models li` are the cached models, by `data-id`, with buttons by
//! `data-action`; `#cache-notices li` say what happened to them. They are there in closed tabs, too.
//!
//! The gate page, at `/ml-inference`: `#gate-run-slice`, `#gate-stop`, `#gate-header`, `#gate-each-type` and `#gate-copy` are its
//! buttons, `#gate-` and a parameter's name its inputs, `#gate-verdict` the word of the verdict, `#gate-end` all that is said of it;
//! gates that ended are `.gate-card`, by `data-gate` and `data-verdict`.
//!
//! `format`, `inputs`, `query`, `catalog`, `state`, `core`, `cached`, `local_network` and `describe` are pure and
//! tested natively; `ui` puts them into the document.

pub mod action;
pub mod cache;
pub mod catalog;
pub mod core;
pub mod describe;
pub mod format;
pub mod inputs;
pub mod local_network;
pub mod node_address;
pub mod panels;
pub mod query;
pub mod state;
pub mod view;

#[cfg(target_arch = "wasm32")]
mod ui;

#[cfg(target_arch = "wasm32")]
pub use ui::run;
