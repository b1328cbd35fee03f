//! Text for gpt-oss: the tokenizer that a GGUF file describes, and the Harmony conversation format.
//!
//! - [`Tokenizer`]: byte-level BPE over the file's own vocabulary and merges, split exactly as `o200k` splits.
//!   Specials are found by name, never by a fixed id, so any gpt-oss vocabulary works.
//! - [`harmony`]: conversations to token ids ([`harmony::Renderer`]), and token ids back to typed messages,
//!   one token at a time ([`harmony::Parser`]).
//!
//! No I/O, no threads, no clock: the crate is the same natively and on wasm.

pub mod harmony;
mod tokenizer;

pub use tokenizer::{Special, StreamDecoder, Tokenizer, TokenizerError, UnknownToken, split_o200k};
