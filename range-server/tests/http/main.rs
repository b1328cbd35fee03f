//! The real server over real sockets.

#![allow(clippy::unwrap_used)] // in a test that is the assertion

mod browsers;
mod catalogue;
mod client;
mod hashes;
mod heavy;
#[cfg(unix)]
mod hub;
mod limits;
mod page;
mod process;
mod program;
mod ranges;
mod support;
mod tls;
mod token;
