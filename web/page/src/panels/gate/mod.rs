//! The gate page: one slice of a tensor on its way from the file to the GPU and back, with all figures, for those who doubt.
//! It is another view of the same program, at `/ml-inference`.

mod build;
mod card;
mod fold;
mod inputs;
mod report;
mod view;

pub use self::fold::Gates;
pub use self::inputs::{Field, GateInputs, Refused, parse};
pub use self::view::{found, models, placeholder, sentence, tensors};

#[cfg(test)]
mod tests;
