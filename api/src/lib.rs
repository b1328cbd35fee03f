#![doc = include_str!("../README.md")]

mod answer;
mod bench;
mod chat;
mod completions;
mod engine;
mod error;
mod messages;
mod openapi;
mod prompt;
mod query;
mod responses;
mod said;
mod served;
mod server;
mod shape;
mod sse;
mod tools;

pub use self::engine::{Engine, UnderWay};
pub use self::server::{ApiOptions, Engaged, ModelCard, serve};
