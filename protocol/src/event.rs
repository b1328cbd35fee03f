//! What happens: in an engine host, at the user's hands, and to whoever watches. Every number here was measured or read from
//! the file; display is the watcher's business.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::cache::{CacheNotice, CacheReport, CacheState};
use crate::command::Command;
use crate::conversation::ChatMessage;
use crate::gate::{GateProgress, GateTensor, GateVerdict};
use crate::inside::{AttentionRow, ExpertMoves, FileMap, OperationTime, Reads, Residual, Routes};
use crate::options::OptionId;
use crate::stage::{Stage, StageStatus};
use crate::tier::Tier;

/// Something that happened. Each event tells of one thing, with everything a watcher needs to show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The engine host is up and takes commands. What is sent before this may be lost.
    HostReady,
    /// A stage began or ended.
    Stage {
        /// Step of loading or answering that it is about.
        stage: Stage,
        /// Whether the stage began, or how it ended.
        status: StageStatus,
        /// How long the stage took; `None` when it begins.
        elapsed_ms: Option<f64>,
    },
    /// A GPU was granted; told again when a recovery opens another.
    Adapter(AdapterInfo),
    /// The header was read, and this is what it says the file is.
    Model(ModelInfo),
    /// Where the model's tensors are in the file; follows [`Event::Model`].
    FileMap(FileMap),
    /// Something about the file is worth knowing; it runs all the same.
    FileNote {
        /// What is worth knowing, in one line for people.
        text: String,
    },
    /// It is known where everything will go, worked out from the header and the granted limits alone.
    Plan(MemoryPlan),
    /// Everything that can be known beforehand is: nothing big was allocated or fetched yet.
    Preflight {
        /// Whether the load waits for [`crate::Command::Approve`], or for STOP, since not all of what is wanted fits.
        waits: bool,
        /// Rate at which the header came over the network; `None` where too little came that way to tell.
        bytes_per_second: Option<f64>,
    },
    /// Every kernel gave what it must, on this adapter.
    SelfCheck(SelfCheck),
    /// The host found out something that need not be found out again: give this key back with the next
    /// [`crate::Command::Load`], whenever that is.
    Remember {
        /// Names what was found out, and of which adapter, driver and build; it means something to the host alone.
        key: String,
    },
    /// Progress of reading the header, which is as long as it turns out to be.
    Header {
        /// Bytes that are here, those included that had to be fetched along with them.
        fetched_bytes: u64,
        /// Bytes that will be here once the read under way ends; more reads may follow. Equals `fetched_bytes` at the
        /// end.
        asked_bytes: u64,
        /// Average rate since reading the header began; `None` before there is anything to measure.
        bytes_per_second: Option<f64>,
    },
    /// The model that was loaded before is gone: another takes its place, or nothing does.
    Unloaded,
    /// Progress of fetching the weights for a load, or all of a model for a download.
    Fetch {
        /// Bytes of the model received so far.
        fetched_bytes: u64,
        /// Bytes that the load or download needs in all; equals `fetched_bytes` once nothing is left to fetch.
        needed_bytes: u64,
        /// Requests made so far, repeated ones included, for the header too.
        requests: u32,
        /// Bytes that came over the wire so far, those of the header and those that had to be fetched again included;
        /// `None` where there is no wire.
        #[serde(default)]
        wire_bytes: Option<u64>,
        /// Average rate since fetching them began; `None` before there is anything to measure.
        bytes_per_second: Option<f64>,
    },
    /// A read met a fault that may pass, and goes on by itself.
    Trouble(Trouble),
    /// Bytes flow again.
    TroubleOver {
        /// Name of the file whose read goes on, as in [`Trouble`].
        file: String,
        /// First byte of that read, as in [`Trouble`].
        offset_bytes: u64,
        /// Attempts since the last byte, the successful one included.
        attempts: u32,
        /// Time since the last byte before the trouble.
        elapsed_ms: f64,
    },
    /// Reads of weights began or ended; told a few times a second at most, and when the last of them ended.
    Reads(Reads),
    /// A tensor is complete on the GPU (or in host memory, for the embedding).
    Tensor {
        /// Name of the tensor in the file, such as `blk.0.attn_q.weight`.
        name: String,
        /// Name of its format in the file, such as `MXFP4`.
        format: String,
        /// Length of the tensor in the file.
        bytes: u64,
        /// Tensors of this load that were complete before it.
        index: u32,
        /// Tensors that the load brings in all.
        count: u32,
    },
    /// The processor computes with the weights where they lie in the file: it is mapped into memory, and the system reads a part
    /// of it when that is used first. Nothing is fetched for a load, and nothing is put anywhere.
    Mapped {
        /// Length of the file; of a split model, of all files together.
        bytes: u64,
    },
    /// GPU memory was allocated for the model.
    GpuMemory {
        /// Bytes of all GPU buffers that this engine holds right now.
        allocated_bytes: u64,
    },
    /// The engine's own memory in a browser has grown: its wasm heap, which never shrinks.
    WasmHeap {
        /// Size of the whole heap, unused parts included.
        bytes: u64,
    },
    /// A [`crate::Command::Download`] ended: all of the model is cached, or it turned out that not all of it can be.
    Downloaded {
        /// Bytes of the model that are cached now; fewer than `model_bytes` where not all of it could be.
        cached_bytes: u64,
        /// Length of all files of the model together.
        model_bytes: u64,
        /// How long the download took.
        elapsed_ms: f64,
    },
    /// The header of a file that gates look at was read, and these are its tensors, in the order of the file.
    GateTensors {
        /// All of them, those included that cannot be multiplied.
        tensors: Vec<GateTensor>,
    },
    /// How far a slice is on its way through a gate.
    GateProgress(GateProgress),
    /// A gate ended.
    GateReport {
        /// A [`crate::GateReport`] as JSON, which watchers pass on as it is.
        report: serde_json::Value,
    },
    /// A [`crate::Command::Gate`] ended: all of its gates did.
    GatesEnded {
        /// The worst of their verdicts.
        verdict: GateVerdict,
        /// How long they took, all together.
        elapsed_ms: f64,
    },
    /// The model is loaded and can answer.
    Ready {
        /// Time since the load began, the user's approval included.
        load_ms: f64,
    },
    /// Experts that nothing has needed so far are being read while there is nothing else to do.
    Prefetch(Prefetch),
    /// The prefetch ended for now: there is something else to do, or the user wants it to stop.
    PrefetchPaused,
    /// The prefetch failed. The missing experts come when a token needs them.
    PrefetchFailed(Failure),
    /// The GPU was lost. Recovery opens another, loads the model again and replays the tokens so far; stages of loading
    /// follow.
    Recovering {
        /// Stage that was under way.
        stage: Stage,
        /// Counts the recoveries of this load or answer, from 1 on.
        attempt: u32,
        /// The work fails with the loss that comes after so many recoveries.
        most: u32,
        /// Tokens of all sequences that will be replayed.
        tokens: u32,
        /// What the GPU said, in words.
        reason: String,
    },
    /// The GPU was lost, and so far there is no other. Browsers refuse one for a while after crashes of their GPU process.
    AwaitingGpu {
        /// Time since the first attempt to open another GPU.
        waited_ms: f64,
        /// The work fails once it has waited for so long.
        patience_ms: f64,
        /// Why there is no other GPU so far, in words.
        reason: String,
    },
    /// The recovery succeeded: the work goes on where it was.
    Recovered {
        /// Tokens that were replayed.
        tokens: u32,
        /// Time since the loss was noticed.
        elapsed_ms: f64,
    },
    /// What [`crate::Command::Count`] asked for, and its end.
    Counted {
        /// Tokens of the whole prompt, history and format tokens included.
        tokens: u32,
    },
    /// The prompt became tokens.
    PromptEncoded {
        /// Tokens of the whole prompt, history and format tokens included.
        tokens: u32,
        /// Tokens that a sequence has room for, prompt and answer together.
        context_tokens: u32,
    },
    /// A part of the prompt was run through the model.
    Prefill {
        /// Tokens of the prompt that the KV cache holds, reused ones included.
        done_tokens: u32,
        /// Tokens of the whole prompt.
        total_tokens: u32,
        /// Tokens of the prompt that the KV cache held already; they are among `done_tokens`.
        #[serde(default)]
        reused_tokens: u32,
        /// Time since the answer began.
        elapsed_ms: f64,
    },
    /// The model produced a token.
    Token(TokenInfo),
    /// Fill of the KV cache, told before each token.
    Kv {
        /// Tokens that the answer's sequence holds.
        used_tokens: u32,
        /// Tokens that a sequence has room for.
        capacity_tokens: u32,
        /// Size of the whole KV cache, of all sequences together, filled or not.
        bytes: u64,
    },
    /// A batch of the prompt waits for experts that are being read.
    Missing(Missing),
    /// Experts came to the GPU, or left it.
    ExpertMoves(ExpertMoves),
    /// The experts that the last batch was routed to, if somebody watches them.
    Routes(Routes),
    /// How large the residual stream was, if somebody watches it.
    Residual(Residual),
    /// What one head looked at, if somebody watches it.
    Attention(AttentionRow),
    /// How long each operation of the last batch took, if somebody watches that and the GPU can tell: one entry for each kernel.
    OperationTimes {
        /// The kernels that ran, in the order in which they first did.
        times: Vec<OperationTime>,
    },
    /// How experts were found so far; told with each token and when experts were read.
    Experts(CacheCounters),
    /// What the engine did so far; told with each token and at the end of a load or a prefetch.
    Work(WorkCounters),
    /// The answer is complete.
    Finished {
        /// Why nothing comes after the last token.
        reason: FinishReason,
        /// What of the prompt's own stops ended it; `None` where none of them did, and in older recordings.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stopped_by: Option<StoppedBy>,
        /// Tokens of the answer, the one that ended it included.
        new_tokens: u32,
        /// Tokens of the prompt that the KV cache held already.
        #[serde(default)]
        reused_tokens: u32,
        /// Tokens in a row that said nothing on any channel, where they are too many for a header: then this is no
        /// answer, whatever was made of them. Else 0.
        #[serde(default)]
        junk_tokens: u32,
        /// Text of the final channel, up to a stop sequence; in other formats than Harmony, all text.
        final_text: String,
        /// Text of the analysis channel: the reasoning. Empty where there was none.
        analysis_text: String,
        /// Functions that the answer calls, in the order in which it does.
        tool_calls: Vec<ToolCall>,
        /// What the answer adds to the history of a conversation.
        #[serde(default)]
        messages: Vec<ChatMessage>,
        /// Rate at which the tokens of the prompt that were not reused were run; `None` before the prompt was read.
        prefill_tokens_per_second: Option<f64>,
        /// Rate of the tokens after the first; `None` where there is no second one.
        decode_tokens_per_second: Option<f64>,
        /// Time from the beginning of the prefill to the first token; `None` when no token was produced.
        time_to_first_token_ms: Option<f64>,
    },
    /// The request waits for its turn.
    Queued {
        /// Requests that come before it, those under way included.
        before: u32,
    },
    /// STOP took effect.
    Stopped {
        /// Whether a model can answer: one that was loaded before stays loaded.
        model_loaded: bool,
    },
    /// The request ended with an error. Nothing after this belongs to the failed work.
    Failed {
        /// Stage that was under way.
        stage: Stage,
        /// What went wrong, for programs and for the user.
        failure: Failure,
    },
    /// How much is cached of a file that is being loaded; a model in several files has one such event for each.
    Cached(CacheState),
    /// Something about the download cache is worth knowing. The load goes on.
    CacheNotice(CacheNotice),
    /// Everything that is cached; the end of each [`crate::CacheAction`].
    Cache(CacheReport),
    /// Progress of [`crate::CacheAction::Verify`].
    CacheVerify {
        /// Id of the cached file, as in [`crate::CachedModel`].
        id: String,
        /// Chunks that were read again so far.
        done_chunks: u32,
        /// Chunks of the file that are cached, all of which are read.
        chunks: u32,
        /// Chunks that were not what they had been; they are deleted from the cache.
        damaged_chunks: u32,
        /// Chunks whose SHA-256 is the one that the host published.
        verified_chunks: u32,
    },
    /// The user asked for something: the envelope's request is the one that this begins. Told by whoever sends the command.
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
    /// The user took up another conversation: an empty one, one from a file, or a part of what there was.
    ConversationTaken {
        /// What was said in it so far.
        history: Vec<ChatMessage>,
    },
    /// The user's choices cannot be used: nothing was asked for.
    InputsRefused {
        /// Each choice that cannot be used.
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
                | Self::ConversationTaken { .. }
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

/// A generated token, and how it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Position among the generated tokens, from 0.
    pub index: u32,
    /// The token's number in the vocabulary.
    pub id: u32,
    /// Visible text that this token completed; empty for format tokens and in the middle of a UTF-8 sequence.
    pub text: String,
    /// Channel that `text` belongs to; `None` while a message header is being written.
    pub channel: Option<Channel>,
    /// Function that the message calls, as its header names it; `None` where it calls none.
    pub recipient: Option<String>,
    /// Probability of the chosen token under the model's own distribution (temperature 1); `None` when it was drawn from
    /// beyond the candidates that were read back.
    pub probability: Option<f32>,
    /// Entropy of that distribution, in nats.
    pub entropy_nats: f32,
    /// The most likely tokens, best first.
    pub top: Vec<TopToken>,
    /// Time since the previous token; for the first one, since the prefill ended.
    pub elapsed_ms: f64,
    /// Rate of the tokens after the first so far; `None` for the first.
    pub decode_tokens_per_second: Option<f64>,
}

/// A token that could have come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopToken {
    /// The token's number in the vocabulary.
    pub id: u32,
    /// The token's text with specials shown by name; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Probability under the model's own distribution (temperature 1), from 0 to 1.
    pub probability: f32,
}

/// What a text of the model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Reasoning, which is not meant for the user.
    Analysis,
    /// What the model says to the user on the way, such as before a tool call.
    Commentary,
    /// The answer itself; text of other formats than Harmony counts as this.
    Final,
    /// Arguments of a tool call, whatever channel they came on.
    ToolCall,
}

/// A function that the model wants to be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The function's name, without `functions.`.
    pub name: String,
    /// Arguments as the model wrote them; JSON if the model did its job.
    pub arguments: String,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, with `<|return|>` or `<|endoftext|>`.
    Return,
    /// The model wants a tool, and said `<|call|>`.
    Call,
    /// It has as many tokens as the prompt allows ([`crate::Prompt::max_new_tokens`]).
    MaxTokens,
    /// The sequence has no room for another token.
    ContextFull,
    /// A stop sequence that the user gave appeared.
    StopSequence,
    /// The user stopped it.
    Stopped,
}

/// Which of a prompt's stops ended an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// This stop sequence ([`crate::Prompt::stop`]).
    Text(String),
    /// This token ([`crate::PromptIds::stop`]).
    Token(u32),
}

/// Counters of the expert cache since the load. Uses are counted in experts that a batch chose, each once a layer: as
/// often as one has to be read if it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCounters {
    /// Uses of experts that were on the GPU already.
    pub hits: u64,
    /// Uses of experts that had to be read because a token needed them.
    pub misses: u64,
    /// Experts that gave up their slot for another.
    pub evictions: u64,
    /// Experts that are on the GPU now, of all layers together.
    pub resident: u32,
    /// Experts that the GPU has room for, of all layers together.
    pub slots: u32,
    /// Bytes in the file of the experts that were read one by one, needed or prefetched.
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

/// What the engine did since the load, counted at the calls themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkCounters {
    /// Submissions to the queue of the GPU.
    pub submits: u64,
    /// Dispatches of a kernel.
    pub dispatches: u64,
    /// GPU buffers that were created, those included that are gone again.
    pub buffers_created: u64,
    /// Bind groups that were created.
    pub bind_groups_created: u64,
    /// Pipelines that were compiled.
    pub pipelines_created: u64,
    /// Bytes of status that were read back: a few for each batch and, with paged experts, when each expert was used
    /// last.
    pub status_readback_bytes: u64,
    /// Bytes of candidates or logits that were read back because someone wants to see or sample from them.
    pub sampling_readback_bytes: u64,
    /// Bytes that were read back for those who [`crate::Watch`].
    #[serde(default)]
    pub watched_readback_bytes: u64,
    /// Weight bytes received from the source.
    pub weights_fetched_bytes: u64,
    /// Weight bytes that were put to use; equal to `weights_fetched_bytes` when nothing was fetched twice or thrown
    /// away.
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
            watched_readback_bytes: self.watched_readback_bytes + other.watched_readback_bytes,
            weights_fetched_bytes: self.weights_fetched_bytes + other.weights_fetched_bytes,
            weights_used_bytes: self.weights_used_bytes + other.weights_used_bytes,
        }
    }
}

/// An option that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOption {
    /// Option that the refused value was given for.
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
    /// What sort of failure it is, for programs.
    pub kind: FailureKind,
    /// What happened, naming the thing, what was expected and what was got.
    pub message: String,
    /// What the user can do about it.
    pub advice: String,
    /// The option that cannot be used, where it is one.
    #[serde(default)]
    pub parameter: Option<RefusedOption>,
}

/// What sort of failure it is: each needs other advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is no WebGPU, or no adapter.
    NoGpu,
    /// The source cannot be read: it does not exist, does not do byte ranges, or failed.
    Source,
    /// Nothing came back from the source that could be read: no network, no host, no CORS, or no permission.
    Unreachable,
    /// The file is not GGUF, or it is truncated.
    File,
    /// Bytes of the file cannot be what they are said to be: it was damaged on its way, or where it is stored.
    Damaged,
    /// Numbers came out that are none: a damaged file, or a driver that computes wrongly now and then.
    NotFinite,
    /// The file is GGUF, but not a model that this engine runs.
    Model,
    /// There is not enough GPU memory.
    Memory,
    /// The browser could not cache what it was to cache.
    Storage,
    /// The GPU or its driver computes wrongly: nothing was run.
    WrongResults,
    /// The prompt or an option cannot be used.
    Request,
    /// The GPU went away or refused work.
    DeviceLost,
    /// Nothing that could compute is to be reached now; it may be a moment later.
    Unavailable,
    /// What computes elsewhere answered with something that is no answer, or broke off.
    Upstream,
    /// A fault of ours.
    Internal,
}
