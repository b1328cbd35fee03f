//! The real server over real sockets.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

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
