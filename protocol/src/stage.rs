//! The stages a run goes through, in the order in which they normally happen.

use serde::{Deserialize, Serialize};

/// One step of loading or answering. [`Stage::LOAD`] and [`Stage::ANSWER`] list them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Ask for a WebGPU adapter and device, and note the limits that were granted.
    GpuDevice,
    /// Reach the source and prove that it honours byte ranges.
    RangeCheck,
    /// Read and check the GGUF header.
    GgufHeader,
    /// Work out what goes where in GPU memory, before anything big is fetched.
    MemoryPlan,
    /// Build tokenizer and special-token table from the header.
    Tokenizer,
    /// Compile every kernel.
    Kernels,
    /// Run known vectors through every kernel and compare with what they must give.
    SelfCheck,
    /// Allocate GPU memory.
    GpuMemory,
    /// Fetch weights and put them on the GPU.
    WeightsFetch,
    /// Render the prompt as Harmony and encode it.
    PromptEncode,
    /// Run the prompt through the model.
    Prefill,
    /// Produce tokens one by one.
    Decode,
}

impl Stage {
    /// The stages of a load, in order.
    pub const LOAD: [Stage; 9] = [
        Stage::GpuDevice,
        Stage::RangeCheck,
        Stage::GgufHeader,
        Stage::MemoryPlan,
        Stage::Tokenizer,
        Stage::Kernels,
        Stage::SelfCheck,
        Stage::GpuMemory,
        Stage::WeightsFetch,
    ];
    /// The stages of an answer, in order.
    pub const ANSWER: [Stage; 3] = [Stage::PromptEncode, Stage::Prefill, Stage::Decode];
}

/// What became of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageStatus {
    /// The stage has begun.
    Started,
    /// The stage has succeeded.
    Completed,
    /// The stage ended with an error.
    Failed,
    /// The user's STOP ended the stage.
    Cancelled,
}
