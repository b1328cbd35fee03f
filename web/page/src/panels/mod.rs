//! The panels: each is a pure function from what is known to what is shown, in a folder of its own.

pub mod attention;
pub mod chat;
pub mod probabilities;
pub mod source;
pub mod timeline;
pub mod times;
