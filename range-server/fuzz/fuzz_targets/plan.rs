//! One target for everything that is decided before a byte of a file is read.

#![no_main]

use gguf_serve_fuzz::{check, input::Input};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input| check(&input.case()));
