//! What happens: in an engine host, at the user's hands, and to whoever watches. Every number here was measured or read from
//! the file; display is the watcher's business.

use serde::{Deserialize, Serialize};

use crate::answer::{FinishReason, StoppedBy, TokenInfo, ToolCall};
use crate::cache::{CacheNotice, CacheReport, CacheState};
use crate::command::Command;
use crate::conversation::ChatMessage;
use crate::counters::{CacheCounters, WorkCounters};
use crate::failure::{Failure, InputError};
use crate::gate::{GateProgress, GateTensor, GateVerdict};
use crate::inside::{AttentionRow, ExpertMoves, FileMap, KvBlocks, OperationTime, Reads, Residual, Routes};
use crate::loading::{AdapterInfo, MemoryPlan, Missing, ModelInfo, Prefetch, SelfCheck, Trouble};
use crate::stage::{Stage, StageStatus};

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
    /// How the blocks of the KV cache are used, of all sequences together; a server tells it whenever that has changed.
    KvBlocks(KvBlocks),
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
        /// Tokens of the prompt that the KV cache held already; `None` where an engine elsewhere does not tell.
        #[serde(default)]
        reused_tokens: Option<u32>,
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
