#![doc = include_str!("../README.md")]

mod check;
mod compiled;
mod follower;
mod schema;
mod turn;
mod vocabulary;

pub use self::check::{ShapePart, Unusable, check};
pub use self::follower::Grammars;
