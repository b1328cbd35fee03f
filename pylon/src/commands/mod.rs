//! One module per command: its arguments as `Args`, and `run(args)`.

pub mod api;
pub mod bench;
mod chat;
pub mod compute;
pub mod doctor;
pub mod gate;
pub mod gguf;
pub mod harmony;
pub mod infer;
pub mod logits;
pub mod tokenize;
