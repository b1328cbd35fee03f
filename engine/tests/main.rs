//! The engine on whole models, natively and in headless Chromium. One program: each costs a link, and a browser of its
//! own.

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[macro_use]
mod support;

mod approval;
mod budget;
mod counters;
mod files;
mod first_question;
mod formats;
mod garbled;
mod inside;
mod leaks;
mod memory;
mod nano;
mod not_finite;
mod pager;
mod parity;
mod plan;
mod prefetch;
mod recipe;
mod recovery;
mod refusals;
mod self_check;
mod sequences;
mod shapes;
mod split;
mod stopping;
mod tiers;
mod watching;
