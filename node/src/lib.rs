#![doc = include_str!("../README.md")]

mod hosts;
mod node;
mod platform;
mod queue;
mod signal;
mod teller;

pub use node::Node;
pub use platform::{Download, Downloaded, Gates, Load, Platform};
pub use signal::Signal;
pub use teller::Teller;
