//! Tests of the reader on files built by hand and on the committed demo model.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod advice;
mod faults;
mod garble;
mod metadata;
mod nano;
mod prefixes;
mod rewrite;
mod sense;
mod split;
mod types;
mod writer;

use gptoss_gguf::{Gguf, GgufError, Progress, parse};

/// Parses a whole file.
fn parse_whole(file: &[u8]) -> Result<Gguf, GgufError> {
    match parse(file, file.len() as u64)? {
        Progress::Ready(gguf) => Ok(*gguf),
        Progress::NeedMore { at_least } => panic!("the whole file is there, yet {at_least} bytes were asked for"),
    }
}
