//! The arithmetic of gpt-oss on a GPU: one `.wgsl` + one `.rs` per operation.
//!
//! Each operation's `.rs` file holds its parameters and how it is dispatched; the `.wgsl` file beside it holds the kernel, and
//! [`gptoss_model::ops`] what it is to compute: its scalar reference. The baseline
//! tier that is here needs neither shader-f16 nor subgroups, at most 8 storage buffers per stage, and 16 KiB of
//! workgroup memory.
//!
//! ```text
//! x ─ matmul (q,k,v) ─ rope ─ attention ─ matmul_residual (o, +x) ─ router ─ experts ─ combine (+x) ─ x
//! ```

pub mod attention;
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
