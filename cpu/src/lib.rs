//! gpt-oss on the CPU: the same engine without a GPU.
//!
//! Weights stay in the file, memory-mapped and in their own format; nothing is expanded or copied at load. Two precisions
//! of activations: F32 for parity with the scalar reference, and 8 bits per block of 32 (as llama.cpp's CPU path has it)
//! for speed. Kernels are chosen at run time from what the processor has ([`Isa`]).
//!
//! ```text
//! decode:   a row of weights times one token's activations     int8::dot_rows, float::dot_row    bound by memory
//! prefill:  16 rows, interleaved, times eight tokens           int8::Panel, float::Panel         bound by arithmetic
//! ```

#![expect(clippy::needless_range_loop, reason = "kernels walk several arrays by one index, as their formulas do")]

mod activations;
mod attention;
mod cache;
mod experts;
mod float;
mod forward;
mod int8;
mod isa;
mod mapped;
mod matmul;
mod model;
mod pool;
mod recorder;
mod shared;
mod vector;

pub use activations::Activations;
pub use isa::Isa;
pub use model::{CpuModel, CpuOptions};
pub use recorder::{BatchRoutes, LayerRoutes};
