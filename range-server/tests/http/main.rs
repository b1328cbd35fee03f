//! The real server over real sockets.

#![allow(clippy::unwrap_used)] // in a test that is the assertion

mod browsers;
mod catalogue;
mod client;
mod limits;
mod page;
mod program;
mod ranges;
mod support;
