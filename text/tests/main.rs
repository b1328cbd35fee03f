//! Tokenizer and Harmony against recorded vectors and properties. One program: each costs a link.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

mod construction;
mod harmony_parse;
mod harmony_recovery;
mod harmony_render;
mod nano;
mod o200k;
mod properties;
