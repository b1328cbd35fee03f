//! The model on a CPU: whole models against goldens, the engine's reference and itself. One program: each costs a link.

#[path = "../../engine/tests/support/interleavings.rs"]
mod interleavings;
#[path = "../../engine/tests/support/logits.rs"]
mod logits;
#[path = "../../engine/tests/support/watcher.rs"]
mod watcher;

mod files;
mod mixes;
mod not_finite;
mod parity;
mod sequences;
mod split;
mod stopping;
mod watching;
