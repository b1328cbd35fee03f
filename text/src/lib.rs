#![doc = include_str!("../README.md")]

pub mod harmony;
mod tokenizer;

pub use tokenizer::{Special, StreamDecoder, Tokenizer, TokenizerError, UnknownToken, split_o200k};
