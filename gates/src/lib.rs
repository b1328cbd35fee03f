// Its example is native, and would be tested in the browser, too.
#![cfg_attr(not(target_arch = "wasm32"), doc = include_str!("../README.md"))]
#![cfg_attr(target_arch = "wasm32", doc = "Checks of a file, of a GPU and of the arithmetic on a slice of a tensor.")]

pub mod determinism;
mod error;
mod file;
pub mod index;
pub mod limits;
pub mod mxfp4;
mod report;
mod run;
pub mod slice;
pub mod whole;

pub use determinism::Reopen;
pub use error::{GateError, Wrong};
pub use file::{GatedFile, Part};
pub use report::{Comparison, Difference, Report};
pub use run::{Wanted, run};
