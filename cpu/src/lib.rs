#![doc = include_str!("../README.md")]
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
mod products;
mod recorder;
mod shared;
mod simd;
mod turn;
mod vector;
mod watching;

pub use activations::Activations;
pub use isa::{Isa, UnknownIsa};
pub use model::{CpuModel, CpuOptions};
pub use products::{ProductMatrix, ProductTimes, time_products};
pub use recorder::{BatchRoutes, LayerRoutes};
