#![doc = include_str!("../README.md")]

mod answer;
mod chat;
mod completions;
mod engine;
mod error;
mod prompt;
mod responses;
mod said;
mod served;
mod server;
mod shape;
mod sse;
mod tools;

pub use self::engine::{Engine, UnderWay};
pub use self::server::{ApiOptions, Engaged, ModelCard, serve};
