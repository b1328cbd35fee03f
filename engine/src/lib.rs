//! gpt-oss on WebGPU: the memory plan, weights on their way to the GPU, the forward pass, experts that come when they are
//! needed, and another device when one is lost.
//!
//! ```text
//! Source ─ read_header ─ MemoryPlan ─ Weights (streamed, repacked on the GPU)
//!                                        │
//! tokens ───────────────────── Model::prefill / decode ─ Prediction
//!                              │        ▲
//!                              ├ miss ──┤ Pager: experts into slots
//!                              └ loss ──┘ Session: another device, the same tokens
//! ```
//!
//! What gpt-oss is, and how an answer comes about, is in [`gptoss_model`]; this crate is one of its backends. Start with
//! [`open_engine`].

mod allocation;
mod device;
mod embedding;
mod forward;
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
