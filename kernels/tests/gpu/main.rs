//! Every kernel on this machine's adapter against the scalar reference, over a table of shapes. The same tables run
//! natively and, as wasm, in a dedicated worker of a browser:
//!
//! ```text
//! cargo test -p gptoss-kernels
//! cd kernels; CHROMEDRIVER=/usr/bin/chromedriver WASM_BINDGEN_TEST_TIMEOUT=300 \
//!     cargo test -p gptoss-kernels --target wasm32-unknown-unknown
//! ```

#[path = "../support/mod.rs"]
mod support;

mod attention;
mod attention_row;
mod compile;
mod device;
mod experts;
mod halt;
mod matmul;
mod norm;
mod not_finite;
mod repack;
mod rope;
mod router;
mod sample;
mod self_check;
