//! The arithmetic of gpt-oss: block formats, and one `.wgsl` + one `.rs` per operation.
//!
//! Each operation's `.rs` file holds its **scalar reference** (slow, F64 accumulation, never optimised: it is the
//! specification), its parameters, and how it is dispatched; the `.wgsl` file beside it holds the kernel. The baseline
//! tier that is here needs neither shader-f16 nor subgroups, at most 8 storage buffers per stage, and 16 KiB of
//! workgroup memory.
//!
//! ```text
//! x ─ rms_norm ─ matmul (q,k,v) ─ rope ─ attention ─ matmul (o, +x) ─ rms_norm ─ router ─ experts ─ x
//! ```

pub mod attention;
pub mod error;
pub mod experts;
pub mod gpu;
pub mod launch;
pub mod matmul;
pub mod needs;
pub mod not_finite;
mod patience;
mod platform;
pub mod repack;
pub mod rms_norm;
pub mod rope;
pub mod router;
pub mod sample;
pub mod self_check;
pub mod sources;
pub mod step;
pub mod testbed;
pub mod weights;

pub use error::{GpuError, WrongResult};
pub use gpu::{Adapter, Counters, Gpu, GpuBuffer, GpuOptions, Limits, pause};
pub use launch::{Extent, Kernel, Launch};
pub use not_finite::{NotFinite, Place};
pub use step::{Status, Step};
