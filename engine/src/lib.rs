//! gpt-oss: a GGUF in, tokens out, on WebGPU.
//!
//! ```text
//! Source ─ read_header ─ MemoryPlan ─ Weights (streamed, repacked on the GPU)
//!                                        │
//! Prompt ─ Harmony tokens ─ Model::prefill / decode ─ Sampler ─ Parser ─ events
//!                              │        ▲
//!                              ├ miss ──┤ Residency: the expert page table
//!                              └ loss ──┘ Session: another device, the same tokens
//! ```
//!
//! The engine knows no host: bytes come from a [`gptoss_source::Source`], events go to a [`Host`], and everything that
//! waits is a future. Start with [`Engine::load`] and [`Engine::answer`].

mod allocation;
mod answer;
mod backend;
mod config;
mod device;
mod embedding;
mod error;
mod header;
mod header_telling;
mod host;
mod inventory;
mod load;
mod model;
mod non_finite;
mod notes;
mod pieces;
mod plan;
mod platform;
mod policy;
mod program;
pub mod reference;
mod residency;
mod rest;
mod sampling;
mod sensible;
mod session;
mod speech;
mod stop;
mod upload;
mod vocabulary;
mod waiting;
mod weights;

pub use answer::{Answer, AnswerLimits, Engine};
pub use backend::{Backend, Prediction, ring_holds};
pub use config::ModelConfig;
pub use device::open_gpu;
pub use error::{EngineError, MemoryShortage, StageError};
/// For hosts that find the files of a split model by their names.
pub use gptoss_gguf::{arrange_parts, part_names};
/// For hosts that open the GPU in a way of their own.
pub use gptoss_kernels::GpuOptions;
pub use header::{Header, announce, read_gguf, read_header};
pub use host::{Ahead, Host, Quiet, in_stage};
pub use inventory::{ExpertTensor, GateUp, Inventory, LayerTensors, MatrixTensor, PlainTensor, RowOrder};
pub use load::{Preflight, load, plan_options, preflight};
pub use model::Model;
pub use non_finite::{NonFinite, require_finite_rows};
pub use notes::file_notes;
pub use plan::{
    BufferPurpose, DEFAULT_BATCH_TOKENS, DEFAULT_CONTEXT_TOKENS, LEAST_CONTEXT_TOKENS, MemoryPlan, PlanOptions,
    PlannedBuffer,
};
pub use policy::LoadPolicy;
pub use sampling::{Draw, Sampler};
pub use sensible::{SensibleSource, nonsense_error};
pub use session::{Loader, MAX_REBUILDS, Session};
pub use speech::Reading;
pub use vocabulary::tokenizer;
pub use waiting::AwaitPoint;
