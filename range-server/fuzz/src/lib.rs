//! What a fuzzer does with gguf-serve's decisions: makes a request, a file and a server out of its bytes, and holds
//! every answer against a second opinion.
//!
//! A second opinion is written for being right, not for being fast or short: plain loops, numbers without an upper
//! limit, nothing taken from the server. Where there is none, there are relations that hold between the answers to
//! similar requests.
//!
//! The seeds are inputs that a fuzzer found, one for each of the rarer answers; they show it at once what would take it
//! a while. When [`input`] changes they mean something else, are as harmless as any bytes, and should be found anew.

pub mod input;

mod hosts;
mod multipart;
mod origins;
mod plans;
mod ranges;
mod text;
mod tokens;

use input::Case;

/// Panics if anything is wrong with what the server makes of `case`.
pub fn check(case: &Case) {
    ranges::check(case);
    plans::check(case);
    hosts::check(case);
    origins::check(case);
    tokens::check(case);
}
