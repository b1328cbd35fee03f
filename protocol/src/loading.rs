//! What is told of a load: the adapter, the file, where everything will go, and reads that wait.

use serde::{Deserialize, Serialize};

use crate::tier::Tier;

/// A read that waits for better times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// What is the matter.
    pub what: TroubleKind,
    /// Name of the file that is read.
    pub file: String,
    /// First byte of the read; with the file's name it tells one read under way from another.
    pub offset_bytes: u64,
    /// Bytes of the read that are still to come.
    pub missing_bytes: u64,
    /// When another attempt is made; `None` without a network, whose return is waited for.
    pub next: Option<NextAttempt>,
}

/// Another attempt at a read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextAttempt {
    /// Number of the attempt, counted from the last byte that arrived: 2 for the first repetition.
    pub attempt: u32,
    /// The read gives up after so many attempts.
    pub attempts: u32,
    /// Time to wait before it is made.
    pub wait_ms: f64,
}

/// What keeps a read from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// The host gave no response at all.
    NoAnswer,
    /// The connection broke in the middle of a body.
    BrokenOff,
    /// The body ended before its last byte.
    ShortBody,
    /// No byte came for too long.
    Stalled,
    /// The host answered with HTTP 5xx.
    HostFailed,
    /// The host answered with HTTP 408 or 429.
    HostBusy,
    /// A file that could be read before is refused or gone.
    Refused,
    /// There is no network.
    Offline,
    /// The connection to the node that has the model broke.
    NodeGone,
}

/// Experts of one layer that the tokens of a batch need, and that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Layer that waits for them, from 0 on.
    pub layer: u32,
    /// Layers that run, of which each may have to wait.
    pub layers: u32,
    /// Experts that are being read for this layer.
    pub experts: u32,
    /// Bytes of these experts in the file.
    pub bytes: u64,
}

/// How far the prefetch is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prefetch {
    /// Experts in slots, of all layers together.
    pub resident: u32,
    /// Slots of all layers together; the prefetch ends when no more can be filled.
    pub slots: u32,
    /// Bytes in the file of the experts that the prefetch still has to read.
    pub missing_bytes: u64,
    /// Average rate since the prefetch began or went on; `None` before anything came.
    pub bytes_per_second: Option<f64>,
}

/// A GPU, and what its device grants to this engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// Name of the GPU, as far as the platform tells it; may be empty.
    pub name: String,
    /// API that is used: `Vulkan`, `Metal`, `BrowserWebGpu` and the like.
    pub backend: String,
    /// Whether it is a software adapter, which works, slowly.
    pub software: bool,
    /// Size of the largest buffer that the device grants.
    pub max_buffer_bytes: u64,
    /// Size of the largest part of a buffer that a kernel can have bound.
    pub max_binding_bytes: u64,
    /// Most memory that a workgroup can share.
    pub max_workgroup_storage_bytes: u32,
    /// WebGPU names of the features that faster kernels could use, such as `shader-f16`.
    pub features: Vec<String>,
    /// Level of these features that the kernels use.
    pub tier: Tier,
}

impl AdapterInfo {
    /// Name of the GPU, or of the API where the platform does not tell it.
    pub fn name_or_backend(&self) -> String {
        if self.name.is_empty() { self.backend.clone() } else { self.name.clone() }
    }
}

/// What the header of a GGUF file says about its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name for people, as the file has it.
    pub name: String,
    /// GGUF name of the architecture, such as `gpt-oss`.
    pub architecture: String,
    /// Length of the file.
    pub file_bytes: u64,
    /// Tensors in the file.
    pub tensors: u32,
    /// Layers that the model has.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Attention heads of each layer.
    pub query_heads: u32,
    /// Heads that keys and values have; groups of query heads share one.
    pub kv_heads: u32,
    /// Experts of each layer.
    pub experts: u32,
    /// Experts that the router of each layer chooses for a token.
    pub experts_per_token: u32,
    /// Number of token ids.
    pub vocabulary: u32,
    /// Longest context that the model was made for.
    pub context_tokens: u32,
    /// Tokens that the layers with sliding attention see at most, the current one included.
    pub window_tokens: u32,
    /// Whether each layer's attention slides over that window, as the file says; empty in recordings of an earlier version.
    #[serde(default)]
    pub sliding: Vec<bool>,
    /// Layers that will run: fewer than `layers` only when the user asked for it.
    pub layers_run: u32,
    /// One entry for each format in the file: its name, the number of its tensors, and their bytes.
    pub formats: Vec<(String, u32, u64)>,
}

/// Memory of GPU and host by purpose, and how much of the file is fetched when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// GPU memory that the plan was fitted to: what the user said there is, or what was left when an allocation failed.
    /// `None`: nobody knows, allocation will show.
    #[serde(default)]
    pub budget_bytes: Option<u64>,
    /// GPU memory for all weights but those of experts.
    pub dense_bytes: u64,
    /// GPU memory that one expert takes, in the layer where it takes most.
    pub expert_slot_bytes: u64,
    /// Experts of each layer that have a place on the GPU.
    pub expert_slots_per_layer: u32,
    /// Experts that each layer of the model has.
    pub experts_per_layer: u32,
    /// GPU memory for the slots of all layers together.
    pub expert_bytes: u64,
    /// GPU memory for the KV cache.
    pub kv_bytes: u64,
    /// Tokens that a sequence has room for.
    pub kv_capacity_tokens: u32,
    /// Default context, where memory made `kv_capacity_tokens` less; else `None`.
    #[serde(default)]
    pub shortened_from_tokens: Option<u32>,
    /// GPU memory for what is computed in between: activations, indices and what is read back.
    pub scratch_bytes: u64,
    /// GPU memory for everything.
    pub gpu_total_bytes: u64,
    /// Host memory (of JavaScript, in a browser) for the embedding table, of which only rows are ever needed.
    pub host_bytes: u64,
    /// Bytes of the file that are fetched before the model is ready.
    pub load_bytes: u64,
    /// Bytes that are fetched before the first token, at least: with paged experts, those that a token of the prompt
    /// uses come on top of `load_bytes`.
    #[serde(default)]
    pub first_token_bytes: u64,
    /// Bytes that are fetched once every expert was used.
    #[serde(default)]
    pub all_bytes: u64,
    /// Bytes of experts that have no place on the GPU and stay where the file is.
    #[serde(default)]
    pub on_disk_bytes: u64,
    /// Whether not all experts fit, so that they take turns on the GPU.
    pub paged: bool,
}

/// Result of running known vectors through the kernels of the model that is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// Kernels that were run; 0 when the host remembered that this build passed on this adapter.
    pub kernels: u32,
    /// Whether nothing was run, since these kernels passed on this adapter before.
    pub remembered: bool,
    /// How long the check took.
    pub elapsed_ms: f64,
    /// Largest difference from the reference, relative to the root mean square of its result; `None` when nothing was run.
    pub worst_error: Option<f64>,
    /// Kernel with that difference; `None` when nothing was run.
    pub worst_kernel: Option<String>,
}
