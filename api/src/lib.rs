#![doc = include_str!("../README.md")]

mod answer;
mod bench;
mod chat;
mod completions;
mod elsewhere;
mod engine;
mod error;
mod front;
mod logprobs;
mod messages;
mod metrics;
mod models;
mod openapi;
mod prompt;
mod query;
mod reading;
mod record;
mod refused;
mod responses;
mod said;
mod served;
mod server;
mod shape;
mod sse;
mod standing;
mod structured;
mod tools;
mod tunnel;
mod upstreams;

pub use self::engine::{Engine, Remote, UnderWay};
pub use self::front::{BodyLimits, GRANTS, Rules};
pub use self::models::{EngineCard, ModelCard, ServedModel};
pub use self::record::{RequestLog, RequestRecord, RequestTokens};
pub use self::server::{ApiOptions, Engaged, serve};
pub use self::upstreams::{UpstreamState, Upstreams};
