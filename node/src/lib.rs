//! The controller between whoever asks and the engine: [`Request`](gptoss_protocol::Request)s in, events out.
//!
//! ```text
//! a transport (postMessage, terminal, socket) ─ Node::submit ─ queue ─ Node::run ─ Platform::load ─ Engine, Answers
//!                                  events ◄─ Teller ◄───────────────────────────────┘
//! ```
//!
//! A [`Node`] holds at most one model and does one thing after the other, except that questions are answered together where the
//! backend has sequences for them. It decides what waits, what STOP ends, what becomes of the model that is loaded when another is
//! asked for, and when experts are prefetched. What differs between a browser and a terminal is behind [`Platform`]; how requests
//! come and events go is the transport's business, and a few dozen lines.
//!
//! Everything that a node waits for ends with STOP: a load or download is dropped where it stands, an answer ends inside of the
//! engine, which keeps its sequences in order, and what waits in the queue never begins.

mod hosts;
mod node;
mod platform;
mod queue;
mod signal;
mod teller;

pub use node::Node;
pub use platform::{Download, Downloaded, Load, Platform};
pub use signal::Signal;
pub use teller::Teller;
