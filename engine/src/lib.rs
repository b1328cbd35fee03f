// Its example is native, and would be tested in the browser, too.
#![cfg_attr(not(target_arch = "wasm32"), doc = include_str!("../README.md"))]
#![cfg_attr(target_arch = "wasm32", doc = "gpt-oss on WebGPU.")]

mod allocation;
mod device;
mod embedding;
mod forward;
mod journal;
mod load;
mod misses;
mod model;
mod open;
mod pager;
mod pieces;
mod plan;
mod platform;
mod policy;
mod prefetch;
mod program;
mod recipe;
mod session;
mod upload;
mod watching;
mod weights;

pub use device::open_gpu;
/// For hosts that open the GPU in a way of their own.
pub use gptoss_kernels::GpuOptions;
pub use load::{Preflight, load, plan_options, preflight};
pub use model::Model;
pub use open::{GpuEngine, open_engine};
pub use pager::slots::{Claim, LayerSlots, Slot};
pub use plan::{DEFAULT_BATCH_TOKENS, LEAST_CONTEXT_TOKENS, MemoryPlan, PlanOptions};
pub use policy::LoadPolicy;
pub use recipe::{Buffer, BufferId, BufferPurpose, Recipe};
pub use session::{Loader, MAX_RECOVERIES, Session};
