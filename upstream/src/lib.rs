#![doc = include_str!("../README.md")]

mod address;
mod answerer;
mod chunk;
mod error;
mod http;
mod pool;
mod prefix;
mod provider;
mod sse;
mod text_reader;
mod trust;

pub use self::address::{Address, WrongAddress};
pub use self::answerer::{Answerer, Failed};
pub use self::chunk::{Chunk, Finish, Said, Usage};
pub use self::error::UpstreamError;
pub use self::pool::{MemberState, Pool};
pub use self::provider::{Completed, Completion, HttpProvider, Limits, ProvidedModel, Provider, Tokens};
pub use self::trust::{Trust, WrongTrust};
