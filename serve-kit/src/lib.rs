#![doc = include_str!("../README.md")]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod access;
pub mod activity;
pub mod config;
mod connection;
pub mod host;
pub mod limits;
pub mod lines;
pub mod origin;
mod platform;
pub mod server;
mod signals;
pub mod tls;
pub mod token;

pub use connection::{Responder, must_close};
pub use signals::Signals;
