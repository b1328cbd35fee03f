// Its example is native, and would be tested in the browser, too.
#![cfg_attr(not(target_arch = "wasm32"), doc = include_str!("../README.md"))]
#![cfg_attr(target_arch = "wasm32", doc = "The arithmetic of gpt-oss on a GPU.")]

pub mod attention;
pub mod attention_row;
mod error;
pub mod experts;
pub mod gpu;
mod granted;
pub mod launch;
pub mod matmul;
pub mod matmul_residual;
pub mod needs;
pub mod norm;
pub mod not_finite;
pub mod operation;
mod patience;
mod platform;
pub mod repack;
pub mod rope;
pub mod router;
pub mod sample;
pub mod self_check;
pub mod sources;
pub mod step;
pub mod stopwatch;
pub mod testbed;
pub mod weights;

/// For whoever chooses one.
pub use gptoss_protocol::Tier;
pub use gpu::{Adapter, Counters, Gpu, GpuBuffer, GpuOptions, Limits, Mark, Submission};
pub use granted::Granted;
pub use launch::{Call, Extent, Kernels, Launch};
pub use operation::Operation;
pub use sample::Sampled;
pub use step::{ROW_WORDS, Row, Status, Step};
