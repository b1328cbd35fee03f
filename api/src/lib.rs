#![doc = include_str!("../README.md")]

mod answer;
mod chat;
mod completions;
mod engine;
mod error;
mod front;
mod metrics;
mod prompt;
mod record;
mod responses;
mod said;
mod served;
mod server;
mod sse;

pub use self::engine::{Engine, UnderWay};
pub use self::front::{BodyLimits, GRANTS, Rules};
pub use self::record::{RequestLog, RequestRecord, RequestTokens};
pub use self::server::{ApiOptions, Engaged, EngineCard, ModelCard, serve};
