//! `pylon` as its users call it: the binary, its output and its exit codes. One program: each costs a link.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../engine/tests/support/logits.rs"]
mod goldens;
mod support;

mod api;
mod api_background;
mod api_bench;
mod api_config;
mod api_dialects;
mod api_fields;
mod api_logprobs;
mod api_messages;
mod api_models;
mod api_responses;
#[cfg(unix)]
mod api_script;
mod api_server;
mod bench;
mod chat;
mod cli;
mod doctor;
mod garbled;
mod gate;
mod gguf;
mod infer;
mod logits;
mod not_finite;
mod quantize;
mod routes;
mod text;
mod tunnel;
mod upstream;
mod upstream_hostile;
