//! What happens: in an engine host, at the user's hands, and to whoever watches. Every number here was measured or read from
//! the file; display is the watcher's business.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::cache::{CacheNotice, CacheReport, CacheState};
use crate::command::Command;
use crate::conversation::ChatMessage;
use crate::options::OptionId;
use crate::stage::{Stage, StageStatus};
use crate::tier::Tier;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The engine host is up and takes commands. What is sent before this may be lost.
    HostReady,
    /// A stage began or ended; `elapsed_ms` is its own duration, known when it ends.
    Stage {
        stage: Stage,
        status: StageStatus,
        elapsed_ms: Option<f64>,
    },
    /// The GPU that was granted.
    Adapter(AdapterInfo),
    /// What the header says the file is.
    Model(ModelInfo),
    /// Something about the file that is worth knowing, in one line; it runs all the same.
    FileNote {
        text: String,
    },
    /// Where everything will go, worked out from the header and the granted limits alone.
    Plan(MemoryPlan),
    /// Everything that can be known beforehand is: nothing big was allocated or fetched yet.
    Preflight {
        /// Not all of what is wanted fits: the load waits for [`crate::Command::Approve`], or for STOP.
        waits: bool,
        /// At which the header came over the network; `None` where that was too little to tell, or did not.
        bytes_per_second: Option<f64>,
    },
    /// Every kernel gave what it must, on this adapter.
    SelfCheck(SelfCheck),
    /// Something held that need not be found out again: give this key back with the next [`crate::Command::Load`], whenever
    /// that is.
    Remember {
        key: String,
    },
    /// Progress of reading the header, which is as long as it turns out to be.
    Header {
        /// Bytes that are here, those included that had to be fetched along with them.
        fetched_bytes: u64,
        /// So many will be here when the read that is under way is; more may follow. Equals `fetched_bytes` at the end.
        asked_bytes: u64,
        /// Since reading it began; `None` before there is anything to measure.
        bytes_per_second: Option<f64>,
    },
    /// The model that was loaded before is gone: another takes its place, or nothing does.
    Unloaded,
    /// Progress of fetching weights.
    Fetch {
        /// Bytes received so far.
        fetched_bytes: u64,
        /// Bytes the load needs in all; equals `fetched_bytes` at the end.
        needed_bytes: u64,
        /// Requests made so far, repeated ones included, for the header too.
        requests: u32,
        /// Bytes that came over the wire so far, for the header too, and those that had to be fetched again; `None` where there
        /// is no wire.
        #[serde(default)]
        wire_bytes: Option<u64>,
        /// Since the first byte; `None` before there is anything to measure.
        bytes_per_second: Option<f64>,
    },
    /// A read met a fault that may pass, and goes on by itself.
    Trouble(Trouble),
    /// Bytes flow again.
    TroubleOver {
        /// The read, as in [`Trouble`].
        file: String,
        offset_bytes: u64,
        /// Attempts since the last byte, the successful one included.
        attempts: u32,
        /// Since the last byte.
        elapsed_ms: f64,
    },
    /// A tensor is complete on the GPU (or in host memory, for the embedding).
    Tensor {
        name: String,
        format: String,
        bytes: u64,
        index: u32,
        count: u32,
    },
    /// Bytes of GPU buffers that this engine holds right now.
    GpuMemory {
        allocated_bytes: u64,
    },
    /// The engine's own memory in a browser: its wasm heap, which only grows. Told when it has grown.
    WasmHeap {
        bytes: u64,
    },
    /// The end of [`crate::Command::Download`]: all bytes were read, and so many of them are kept.
    Downloaded {
        cached_bytes: u64,
        model_bytes: u64,
        elapsed_ms: f64,
    },
    /// The model is loaded and can answer.
    Ready {
        load_ms: f64,
    },
    /// Experts that nothing has needed so far are being read while there is nothing else to do.
    Prefetch(Prefetch),
    /// That ended for now: there is something else to do, or the user wants it to stop.
    PrefetchPaused,
    /// That failed. They come when a token needs them.
    PrefetchFailed(Failure),
    /// The GPU was lost. Another is opened, the model is loaded again, and the tokens so far are replayed; stages of loading
    /// follow.
    Recovering {
        /// What was going on.
        stage: Stage,
        /// From 1 on; after `most` of them the work fails.
        attempt: u32,
        most: u32,
        /// Tokens that will be replayed.
        tokens: u32,
        /// What the GPU said.
        reason: String,
    },
    /// The GPU was lost, and so far there is no other. Browsers refuse one for a while after crashes of their GPU process.
    AwaitingGpu {
        /// Since the first attempt to open another.
        waited_ms: f64,
        /// After so long the work fails.
        patience_ms: f64,
        /// Why there is none.
        reason: String,
    },
    /// It goes on where it was.
    Recovered {
        /// Tokens that were replayed.
        tokens: u32,
        /// Since the loss was noticed.
        elapsed_ms: f64,
    },
    PromptEncoded {
        tokens: u32,
        context_tokens: u32,
    },
    Prefill {
        done_tokens: u32,
        total_tokens: u32,
        elapsed_ms: f64,
    },
    Token(TokenInfo),
    /// KV cache fill.
    Kv {
        used_tokens: u32,
        capacity_tokens: u32,
        bytes: u64,
    },
    /// A batch of the prompt waits for experts: they are being read.
    Missing(Missing),
    Experts(CacheCounters),
    Work(WorkCounters),
    /// The answer is complete.
    Finished {
        reason: FinishReason,
        new_tokens: u32,
        /// Tokens of the prompt that the KV cache held already.
        #[serde(default)]
        reused_tokens: u32,
        /// Tokens in a row that said nothing on any channel, where they are too many for a header: then this is no answer,
        /// whatever was made of them. Else 0.
        #[serde(default)]
        junk_tokens: u32,
        /// Text of the final channel.
        final_text: String,
        analysis_text: String,
        tool_calls: Vec<ToolCall>,
        /// What the answer adds to the history of a conversation.
        #[serde(default)]
        messages: Vec<ChatMessage>,
        prefill_tokens_per_second: Option<f64>,
        decode_tokens_per_second: Option<f64>,
        /// `None` when no token was produced.
        time_to_first_token_ms: Option<f64>,
    },
    /// The request waits for its turn.
    Queued {
        /// Requests that come before it, those under way included.
        before: u32,
    },
    /// STOP took effect; the model stays loaded if it was.
    Stopped {
        model_loaded: bool,
    },
    /// The run stopped with an error. Nothing after this belongs to the failed work.
    Failed {
        stage: Stage,
        failure: Failure,
    },
    /// How much is cached of a file that is being loaded. Of a model in several files, one of them.
    Cached(CacheState),
    /// Something about keeping that is worth knowing. The load goes on.
    CacheNotice(CacheNotice),
    /// Everything that is cached.
    Cache(CacheReport),
    /// Progress of [`crate::CacheAction::Verify`].
    CacheVerify {
        id: String,
        done_chunks: u32,
        chunks: u32,
        /// Those that were not what they had been; they are kept no more.
        damaged_chunks: u32,
        /// Those whose SHA-256 is the one that the host published.
        verified_chunks: u32,
    },
    /// The user asked for something: the envelope's request is the one that this begins. Told by whoever sends the command.
    // In wasm nobody reads it: pages tell it themselves, and what reads commands is large there.
    #[cfg_attr(target_arch = "wasm32", serde(skip_deserializing))]
    Asked {
        /// What the user asked for.
        command: Command,
    },
    /// The watcher started a host, which numbers its events from 0 on.
    HostStarted,
    /// The user ended the host, whatever it was doing.
    HostEnded,
    /// The host ended by itself, or cannot be understood any more.
    HostDied(Failure),
    /// The user's choices cannot be used: nothing was asked for.
    InputsRefused {
        errors: Vec<InputError>,
    },
    /// Something failed at the watcher's end.
    WatcherFailed(Failure),
    /// What the last failure came from, in better words than the host has.
    FailureExplained(Failure),
    /// Nothing happened for a while that was to happen; the envelope's time says how late it is.
    TimePassed,
}

impl Event {
    /// Whether it is told by whoever watches a host (the page, a terminal) and not by the host itself.
    pub fn is_of_watcher(&self) -> bool {
        matches!(
            self,
            Self::Asked { .. }
                | Self::HostStarted
                | Self::HostEnded
                | Self::HostDied(_)
                | Self::InputsRefused { .. }
                | Self::WatcherFailed(_)
                | Self::FailureExplained(_)
                | Self::TimePassed
        )
    }
}

/// A choice that cannot be used, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// The option it is about; `None` for an address parameter that is none.
    pub field: Option<OptionId>,
    /// What is wrong and what was expected.
    pub message: String,
}

/// A read that waits for better times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    pub what: TroubleKind,
    /// Name of the file.
    pub file: String,
    /// First byte of the read; with the file's name it tells one read under way from another.
    pub offset_bytes: u64,
    /// Bytes of the read that are still to come.
    pub missing_bytes: u64,
    /// When another attempt is made; `None` without a network, whose return is waited for.
    pub next: Option<NextAttempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextAttempt {
    /// Counted from the last byte that arrived: 2 for the first repetition.
    pub attempt: u32,
    /// The read gives up after this many.
    pub attempts: u32,
    pub wait_ms: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// No response at all.
    NoAnswer,
    /// The connection broke in the middle of a body.
    BrokenOff,
    /// The body ended before its last byte.
    ShortBody,
    /// No byte for too long.
    Stalled,
    /// HTTP 5xx.
    HostFailed,
    /// HTTP 408 or 429.
    HostBusy,
    /// A file that could be read before is refused or gone.
    Refused,
    /// There is no network.
    Offline,
}

/// Experts of one layer that the tokens of a batch need, and that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// From 0 on.
    pub layer: u32,
    pub layers: u32,
    pub experts: u32,
    /// Of the file.
    pub bytes: u64,
}

/// Experts that are read when there is nothing else to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prefetch {
    /// In slots, of all layers together.
    pub resident: u32,
    pub slots: u32,
    /// Of their bytes in the file, how many are still missing.
    pub missing_bytes: u64,
    /// Since reading them began or went on; `None` before anything came.
    pub bytes_per_second: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo {
    pub name: String,
    pub backend: String,
    /// True for a software adapter: it works, slowly.
    pub software: bool,
    pub max_buffer_bytes: u64,
    pub max_binding_bytes: u64,
    pub max_workgroup_storage_bytes: u32,
    pub features: Vec<String>,
    /// Which kernels run.
    pub tier: Tier,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    pub architecture: String,
    pub file_bytes: u64,
    pub tensors: u32,
    pub layers: u32,
    pub hidden: u32,
    pub query_heads: u32,
    pub kv_heads: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    pub vocabulary: u32,
    pub context_tokens: u32,
    pub window_tokens: u32,
    /// How many layers will run: less than `layers` only when the user asked for it.
    pub layers_run: u32,
    /// `(format name, tensors, bytes)`, as found in the file.
    pub formats: Vec<(String, u32, u64)>,
}

/// GPU and host memory by purpose, and how much of the file is fetched when; all in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// GPU memory that the plan was fitted to: what the user said there is, or what was left when an allocation failed.
    /// `None`: nobody knows, allocation will show.
    #[serde(default)]
    pub budget_bytes: Option<u64>,
    pub dense_bytes: u64,
    pub expert_slot_bytes: u64,
    pub expert_slots_per_layer: u32,
    pub experts_per_layer: u32,
    pub expert_bytes: u64,
    pub kv_bytes: u64,
    pub kv_capacity_tokens: u32,
    /// The default context, where memory made the one above shorter.
    #[serde(default)]
    pub shortened_from_tokens: Option<u32>,
    pub scratch_bytes: u64,
    /// All of the above on the GPU.
    pub gpu_total_bytes: u64,
    /// Embedding table kept in host (JS) memory; only rows of it are ever needed.
    pub host_bytes: u64,
    /// Fetched before the model is ready.
    pub load_bytes: u64,
    /// Fetched before the first token, at least: with paged experts, those that a token of the prompt uses come on top.
    #[serde(default)]
    pub first_token_bytes: u64,
    /// Fetched once every expert was used.
    #[serde(default)]
    pub all_bytes: u64,
    /// Experts that have no place on the GPU and stay where the file is.
    #[serde(default)]
    pub on_disk_bytes: u64,
    /// True when not all experts fit and they are paged.
    pub paged: bool,
}

/// Known vectors through the kernels of the model that is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// Kernels that were run; 0 when the host remembered that this build passed on this adapter.
    pub kernels: u32,
    pub remembered: bool,
    pub elapsed_ms: f64,
    /// Largest difference from the reference, relative to the root mean square of its result; `None` when nothing was run.
    pub worst_error: Option<f64>,
    /// Where that was.
    pub worst_kernel: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Position among the generated tokens, from 0.
    pub index: u32,
    pub id: u32,
    /// Visible text that this token completed; empty for format tokens and in the middle of a UTF-8 sequence.
    pub text: String,
    /// Where `text` belongs; `None` while a message header is being written.
    pub channel: Option<Channel>,
    /// Function a commentary message calls, when it is a tool call.
    pub recipient: Option<String>,
    /// Probability of the chosen token under the model's own distribution (temperature 1); `None` when it was drawn from
    /// beyond the candidates that were read back.
    pub probability: Option<f32>,
    /// Entropy of that distribution, in nats.
    pub entropy_nats: f32,
    /// The most likely tokens, best first.
    pub top: Vec<TopToken>,
    /// Milliseconds since the previous token (for the first: since prefill ended).
    pub elapsed_ms: f64,
    /// Tokens per second over this answer's decode so far; `None` for the first.
    pub decode_tokens_per_second: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopToken {
    pub id: u32,
    /// The token's text with specials shown by name; bytes that are not UTF-8 are replaced.
    pub text: String,
    pub probability: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Analysis,
    Commentary,
    Final,
    /// Arguments of a tool call, whatever channel they came on.
    ToolCall,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub name: String,
    /// As the model wrote them; JSON if the model did its job.
    pub arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// `<|return|>` or `<|endoftext|>`.
    Return,
    /// `<|call|>`: the model wants a tool.
    Call,
    MaxTokens,
    ContextFull,
    /// A stop sequence that the user gave.
    StopSequence,
    Stopped,
}

/// Expert cache, counted in experts that a batch chose, each once a layer: as often as one has to be read if it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCounters {
    pub hits: u64,
    /// Experts that were read because a token needed them.
    pub misses: u64,
    pub evictions: u64,
    pub resident: u32,
    pub slots: u32,
    pub loaded_bytes: u64,
}

impl Add for CacheCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            resident: self.resident + other.resident,
            slots: self.slots + other.slots,
            loaded_bytes: self.loaded_bytes + other.loaded_bytes,
        }
    }
}

/// What the engine did, counted at the calls themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkCounters {
    pub submits: u64,
    pub dispatches: u64,
    pub buffers_created: u64,
    pub bind_groups_created: u64,
    pub pipelines_created: u64,
    /// Status read back per token (64 bytes each).
    pub status_readback_bytes: u64,
    /// Candidates or logits read back because someone wants to see or sample from them.
    pub sampling_readback_bytes: u64,
    /// Weight bytes received from the source.
    pub weights_fetched_bytes: u64,
    /// Weight bytes that were put to use; equal to the above when nothing was fetched twice or thrown away.
    pub weights_used_bytes: u64,
}

impl Add for WorkCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            submits: self.submits + other.submits,
            dispatches: self.dispatches + other.dispatches,
            buffers_created: self.buffers_created + other.buffers_created,
            bind_groups_created: self.bind_groups_created + other.bind_groups_created,
            pipelines_created: self.pipelines_created + other.pipelines_created,
            status_readback_bytes: self.status_readback_bytes + other.status_readback_bytes,
            sampling_readback_bytes: self.sampling_readback_bytes + other.sampling_readback_bytes,
            weights_fetched_bytes: self.weights_fetched_bytes + other.weights_fetched_bytes,
            weights_used_bytes: self.weights_used_bytes + other.weights_used_bytes,
        }
    }
}

/// An option that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOption {
    /// The option.
    pub option: OptionId,
    /// What was given, where that is all that is wrong.
    #[serde(default)]
    pub got: Option<String>,
    /// What was expected instead, where that is all that is wrong.
    #[serde(default)]
    pub expected: Option<String>,
}

/// An error in plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened, naming the thing, what was expected and what was got.
    pub message: String,
    /// What the user can do about it.
    pub advice: String,
    /// The option that cannot be used, where it is one.
    #[serde(default)]
    pub parameter: Option<RefusedOption>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No WebGPU, or no adapter.
    NoGpu,
    /// The source cannot be read: it does not exist, does not do byte ranges, or failed.
    Source,
    /// Nothing came back from the source that could be read: no network, no host, no CORS, or no permission.
    Unreachable,
    /// Not a GGUF file, or a truncated one.
    File,
    /// Bytes of the file cannot be what they are said to be: it was damaged on its way, or where it is stored.
    Damaged,
    /// Numbers came out that are none: a damaged file, or a driver that computes wrongly now and then.
    NotFinite,
    /// A GGUF file, but not one this engine runs.
    Model,
    /// Not enough GPU memory.
    Memory,
    /// The browser could not keep what it was to keep.
    Storage,
    /// The GPU or its driver computes wrongly: nothing was run.
    WrongResults,
    /// The prompt or an option cannot be used.
    Request,
    /// The GPU went away or refused work.
    DeviceLost,
    /// A fault of ours.
    Internal,
}
