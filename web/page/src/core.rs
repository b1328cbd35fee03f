//! The core: one picture of the whole model, in which every cell and number is something that happened. What is drawn
//! is worked out here and tested natively; `paint`, which is there only in wasm, puts it on a canvas.

pub mod geometry;
pub mod picture;
pub mod strip;
pub mod words;

#[cfg(target_arch = "wasm32")]
pub mod paint;

#[cfg(test)]
pub(crate) mod made_up;

/// One cell of the picture: an expert of a layer.
pub type Cell = gptoss_protocol::ExpertPlace;
