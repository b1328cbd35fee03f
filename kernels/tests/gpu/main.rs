//! Every kernel on this machine's adapter against the scalar reference, over a table of shapes. The same tables run
//! natively and, as wasm, in a dedicated worker of a browser.

#[path = "../support/mod.rs"]
mod support;

mod attention;
mod compile;
mod experts;
mod halt;
mod matmul;
mod repack;
mod rms_norm;
mod rope;
mod router;
mod sample;
