//! Many streams at once from `pylon api`: what they come to together, beside another server (`bench-streams`), and whether it holds
//! for minutes while clients come and go (`soak`).

pub mod bench;
mod client;
pub mod servers;
pub mod soak;
