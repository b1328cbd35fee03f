//! What stands in the document, as values: a panel is a pure function from what is known to [`Node`]s, which native tests read
//! as HTML and the browser gets as the differences to what stands there already (`patch`).
//!
//! A framework was measured and not taken: leptos 0.8 with its macros and server functions made the page's first compilation
//! 2.8 times as long (125 CPU seconds against 45), and the demo has six minutes for everything. What is used of one here is
//! a few hundred lines, and views without a browser in them can be tested natively.

mod node;
#[cfg(target_arch = "wasm32")]
mod patch;

pub use self::node::{Element, Node, element, text};
#[cfg(target_arch = "wasm32")]
pub use self::patch::Mounted;
