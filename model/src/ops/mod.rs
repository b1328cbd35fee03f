//! The operations of a forward pass, each with its **scalar reference**: slow, F64 accumulation, never optimised. They
//! are the specification that kernels, on the GPU and on the CPU, are held against.
//!
//! ```text
//! x ─ rms_norm ─ matmul (q,k,v) ─ rope ─ attention ─ matmul (o, +x) ─ rms_norm ─ router ─ experts ─ x
//! ```

pub mod attention;
pub mod experts;
pub mod matmul;
pub mod rms_norm;
pub mod rope;
pub mod router;
pub mod sample;
