//! Everything the page knows: a fold over events, those of the worker and those of the page, what the user does among
//! them. It is pure: it knows no browser. A [`gptoss_protocol::Recording`] of the events replays to the same state.

use std::collections::BTreeMap;

use gptoss_protocol::{
    AdapterInfo, Attention, CacheCounters, Command, Envelope, Event, Failure, FailureKind, FinishReason, LoadOptions,
    MemoryPlan, ModelInfo, ModelLocation, OperationTime, Prefetch, Prompt, Replay, RequestId, SelfCheck, Stage,
    StageStatus, Trouble, WorkCounters,
};
use serde::{Deserialize, Serialize};

use super::cache::DownloadCache;
use super::format::fraction;

mod answer;
mod gating;
pub mod inside;
mod per_token;
mod progress;
mod refusing;
mod replacing;
mod stream;
mod talk;

pub use self::answer::{Answer, Finished, Prefill, Said};
pub use self::inside::Inside;
pub use self::per_token::PerToken;
pub use self::progress::{ArrivedTensor, FetchProgress, HeaderProgress, KvUse, Recovery, StageState, Waiting};
pub use self::refusing::Refusal;
pub use self::stream::Stream;
pub use self::talk::{Question, Turn};

/// What the page as a whole is doing; the `data-state` attribute of the body has its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing was asked for so far, or a download is over and no model is loaded.
    #[default]
    Idle,
    /// A model is being loaded, or downloaded for later.
    Loading,
    /// A model is loaded, and nothing was asked for since; a download may have ended.
    Ready,
    /// An answer is being given, its prompt included.
    Generating,
    /// The answer is complete.
    Done,
    /// The last thing that was asked for failed; [`State::failure`] says why.
    Error,
    /// The user stopped what was going on.
    Stopped,
}

impl Phase {
    /// The phase as `data-state` has it: one word in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Loading => "loading",
            Phase::Ready => "ready",
            Phase::Generating => "generating",
            Phase::Done => "done",
            Phase::Error => "error",
            Phase::Stopped => "stopped",
        }
    }

    /// Whether something is going on that STOP can end.
    pub fn busy(self) -> bool {
        matches!(self, Phase::Loading | Phase::Generating)
    }
}

/// STOP takes effect in a moment, unless something in the engine hangs: after this long the page offers to end the engine.
pub const STOP_PATIENCE_MS: f64 = 5000.0;

/// A press on STOP that has not taken effect yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct StopWish {
    since_ms: f64,
    /// Whether it has not taken effect for longer than [`STOP_PATIENCE_MS`].
    in_vain: bool,
}

/// A conversation before a question that may still be refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Earlier {
    turns: Vec<Turn>,
    question: Option<Question>,
    answer: Answer,
}

/// How many events the recording of a page holds.
pub const RECORDED_EVENTS: usize = 16384;

/// Everything the page knows. What was not told so far is `None`, or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What the page as a whole is doing.
    pub phase: Phase,
    /// Whether the worker is up and takes commands.
    pub host_ready: bool,
    /// Whether a model is loaded, and questions can be asked of it.
    pub model_loaded: bool,
    /// GPU that was granted last.
    pub adapter: Option<AdapterInfo>,
    /// What the header of the model says.
    pub model: Option<ModelInfo>,
    /// Where the model's bytes go in memory.
    pub plan: Option<MemoryPlan>,
    /// Whether the model comes from a host, which can be asked for it again.
    pub from_host: bool,
    /// Address of the node that the model was asked of, without its key; `None` where the page's own worker was.
    #[serde(default)]
    node: Option<String>,
    /// How the model was loaded, where that makes another model of it, for an experiment.
    pub experiment: Option<LoadOptions>,
    /// Whether the load waits for the user to approve it, since not all of the model fits.
    asking: bool,
    /// Rate at which the header came over the network; `None` where too little came that way to tell.
    header_bytes_per_second: Option<f64>,
    /// How far the recovery of a lost GPU is; `None` unless one is under way.
    pub recovery: Option<Recovery>,
    /// Result of the self-check of the kernels; `None` until it passed.
    pub self_check: Option<SelfCheck>,
    /// How far the prefetch is, as last reported; `None` while there is none, since it was paused or failed or never
    /// began.
    pub prefetch: Option<Prefetch>,
    /// Why the last prefetch failed; `None` where it did not.
    pub prefetch_problem: Option<Failure>,
    /// How much of the model was fetched; `None` before the first bytes, and again when a recovery begins.
    pub fetch: Option<FetchProgress>,
    /// How the bytes came, and how reads fared.
    #[serde(default)]
    pub stream: Stream,
    /// Tensors that have arrived, in the order in which they did.
    pub tensors: Vec<ArrivedTensor>,
    /// Tensors that the load brings in all; `None` before the first arrived.
    pub tensor_count: Option<u32>,
    /// Bytes of GPU buffers that the engine holds; `None` before it allocates any.
    pub gpu_allocated_bytes: Option<u64>,
    /// Size of the worker's wasm heap; `None` until it is told, and for a new worker.
    pub wasm_heap_bytes: Option<u64>,
    /// Whether the model is only cached, not loaded.
    pub downloading: bool,
    /// Length of the model that the last download cached; `None` where there was none, or something was asked for
    /// since.
    pub downloaded: Option<u64>,
    /// How long the load took, the user's approval included.
    pub load_ms: Option<f64>,
    /// Reads that met a fault and wait for better times, in the order in which they did.
    pub troubles: Vec<Trouble>,
    /// Turns of the conversation before the question that was asked last.
    pub turns: Vec<Turn>,
    /// What was asked last; `None` before the first question of a conversation.
    pub question: Option<Question>,
    /// What goes on inside the model: where its bytes are, and which experts the last tokens chose.
    #[serde(default)]
    pub inside: Inside,
    /// The answer in progress or just given.
    pub answer: Answer,
    /// Fill of the KV cache at the last token.
    pub kv: Option<KvUse>,
    /// Counters of the expert cache, as last reported.
    pub experts: Option<CacheCounters>,
    /// Counters of the work of the engine, as last reported.
    pub work: Option<WorkCounters>,
    /// What the last tokens cost.
    #[serde(default)]
    pub per_token: PerToken,
    /// Time of each operation in the last batch, while somebody watches and the GPU can tell; else empty.
    pub times: Vec<OperationTime>,
    /// What is known about the download cache.
    pub cache: DownloadCache,
    /// What went wrong last, for the user; `None` where nothing did since something was asked for.
    pub failure: Option<Failure>,
    /// How much of the header is here; `None` before it is read.
    pub header: Option<HeaderProgress>,
    /// Inputs that cannot be used, as last refused.
    pub refused: Refusal,
    /// Everything known about the model that was loaded before, while another is looked at that may take its place.
    before: Option<Box<State>>,
    /// The conversation before the question that was asked last, until its answer begins.
    earlier: Option<Box<Earlier>>,
    /// Events of the worker that were sent but never arrived, by the gaps in their numbers.
    pub missing_events: u64,
    /// Request of the most recent load or download; `None` before the first.
    pub load_request: Option<RequestId>,
    /// Question that came with the load, until its answer begins.
    first_prompt: Option<Prompt>,
    stages: [StageState; Stage::LOAD.len() + Stage::ANSWER.len()],
    /// Sequence number of the event that comes next, of each run that tells: a worker, a node.
    #[serde(default)]
    next_sequences: BTreeMap<u64, u64>,
    stopping: Option<StopWish>,
}

impl State {
    /// What became of a stage in the current load or answer.
    pub fn stage(&self, stage: Stage) -> StageState {
        self.stages[stage_index(stage)]
    }

    /// Address of the node that answers in the worker's place; `None` before it has told its model, and where none does.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref().filter(|_| self.model.is_some())
    }

    /// The stage that is under way.
    pub fn running_stage(&self) -> Option<Stage> {
        all_stages().find(|stage| self.stage(*stage).status == Some(StageStatus::Started))
    }

    /// How much of the header is here, while it is what is read.
    pub fn header_under_way(&self) -> Option<HeaderProgress> {
        self.header.filter(|_| self.running_stage() == Some(Stage::GgufHeader))
    }

    /// How far the reading is that is under way, of the weights or, before them, of the header: from 0 to 1. `None`
    /// while nothing is read.
    pub fn read_share(&self) -> Option<f64> {
        match (self.fetch, self.header_under_way()) {
            (Some(fetch), _) => fraction(fetch.fetched_bytes, fetch.needed_bytes),
            (None, Some(header)) => fraction(header.fetched_bytes, header.asked_bytes),
            (None, None) => None,
        }
    }

    /// What was asked along with a load, while the load goes on.
    pub fn question_to_come(&self) -> Option<&str> {
        self.first_prompt.as_ref().filter(|_| self.phase == Phase::Loading).map(|prompt| prompt.user.as_str())
    }

    /// The trouble that is nearest to ending the run.
    pub fn worst_trouble(&self) -> Option<&Trouble> {
        // Without a network no number of attempts helps.
        self.troubles.iter().max_by_key(|trouble| trouble.next.map_or(u32::MAX, |next| next.attempt))
    }

    /// Whether experts are being prefetched: read although nobody waits for them.
    pub fn is_prefetching(&self) -> bool {
        !self.phase.busy() && self.prefetch.is_some_and(|rest| rest.missing_bytes > 0)
    }

    /// Whether a model takes memory: the one that is loaded, or the one before while another is looked at.
    pub fn holds_model(&self) -> bool {
        self.model_loaded || self.before.is_some()
    }

    /// Whether there is something that STOP would end.
    pub fn can_stop(&self) -> bool {
        (self.phase.busy() && !self.stopping()) || self.is_prefetching()
    }

    /// Whether STOP was pressed and has not taken effect yet.
    pub fn stopping(&self) -> bool {
        // A wish that came too late is over with what it was about.
        self.stopping.is_some() && self.phase.busy()
    }

    /// The user asked a question of the model that is loaded.
    pub(super) fn answer_requested(&mut self, prompt: &Prompt) {
        self.accept_inputs();
        self.prefetch_problem = None;
        self.downloaded = None;
        self.phase = Phase::Generating;
        self.begin_answer(prompt);
    }

    /// The user pressed STOP. `now_ms` is the page's clock, as for `time_passed`.
    pub(super) fn stop_requested(&mut self, now_ms: f64) {
        self.stopping = self.phase.busy().then_some(StopWish { since_ms: now_ms, in_vain: false });
        self.asking = false;
    }

    /// It is later now.
    pub(super) fn time_passed(&mut self, now_ms: f64) {
        if let Some(wish) = &mut self.stopping {
            wish.in_vain |= now_ms - wish.since_ms >= STOP_PATIENCE_MS;
        }
    }

    /// Whether STOP did not help, so that all that is left is to end the engine.
    pub fn offers_end(&self) -> bool {
        self.stopping() && self.stopping.is_some_and(|wish| wish.in_vain)
    }

    /// The user ended the engine.
    pub(super) fn engine_ended(&mut self) {
        self.worker_gone();
        (self.recovery, self.asking, self.stopping) = (None, false, None);
        self.troubles.clear();
        self.end_running_stages(StageStatus::Cancelled);
        self.phase = Phase::Stopped;
    }

    /// Whether a failure may be the fault of cached bytes that no published hash vouches for, of a model that its host
    /// can be asked for again.
    pub fn offers_refetch(&self) -> bool {
        let blames_bytes = |failure: &Failure| {
            matches!(failure.kind, FailureKind::File | FailureKind::Damaged | FailureKind::NotFinite)
        };
        self.from_host && self.failure.as_ref().is_some_and(blames_bytes) && self.cache.is_unvouched()
    }

    /// The load that waits for the user to approve it; `None` if none does.
    pub fn load_that_asks(&self) -> Option<RequestId> {
        self.load_request.filter(|_| self.asking)
    }

    /// Whether the load waits for the user: APPROVE or STOP.
    pub fn asks(&self) -> bool {
        self.asking
    }

    pub(super) fn approved(&mut self) {
        self.asking = false;
    }

    /// Seconds until what is left of the load is here, at the rate that was measured last; `None` before there is one, and
    /// when nothing is left.
    pub fn seconds_to_load(&self) -> Option<f64> {
        let needed = self.plan.as_ref()?.load_bytes;
        let (left, rate) = match self.fetch {
            Some(fetch) => (fetch.needed_bytes.saturating_sub(fetch.fetched_bytes), fetch.bytes_per_second),
            None => (needed, self.header_bytes_per_second),
        };
        rate.filter(|&rate| rate > 0.0 && left > 0 && !self.model_loaded).map(|rate| left as f64 / rate)
    }

    /// Something failed on the page itself, or the worker died.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.phase = Phase::Error;
        (self.recovery, self.asking) = (None, false);
        self.stopping = None;
        self.troubles.clear();
        self.mark_refused(&failure);
        self.failure = Some(failure);
    }

    /// A new worker begins to number its events at zero.
    pub(super) fn worker_started(&mut self) {
        self.next_sequences.clear();
        self.host_ready = false;
        self.wasm_heap_bytes = None;
    }

    /// Nobody is left who could tell how a stage ends that is under way.
    fn end_running_stages(&mut self, status: StageStatus) {
        for stage in &mut self.stages {
            if stage.status == Some(StageStatus::Started) {
                stage.status = Some(status);
            }
        }
    }

    /// The worker is gone, or the node in its place, and the model with it.
    fn worker_gone(&mut self) {
        (self.model_loaded, self.host_ready) = (false, false);
        self.prefetch = None;
        if self.node.take().is_some() {
            // They were the node's.
            (self.adapter, self.self_check) = (None, None);
        }
        self.inside.engine_ended();
    }

    /// The worker ended by itself.
    pub(super) fn worker_died(&mut self, failure: Failure) {
        self.before = None;
        self.worker_gone();
        self.end_running_stages(StageStatus::Failed);
        // A worker that panics sends its own words first; they say more than that it is gone.
        let own_words = self.failure.take().filter(|earlier| earlier.kind == FailureKind::Internal);
        self.fail(own_words.unwrap_or(failure));
    }

    /// What the user does, and what the page notices by itself.
    fn apply_own(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::Asked { command } => self.apply_asked(envelope.request, command, envelope.at_ms),
            Event::HostStarted => self.worker_started(),
            Event::HostEnded => self.engine_ended(),
            Event::HostDied(failure) => self.worker_died(failure.clone()),
            Event::ConversationTaken { history } => self.take_up(history),
            Event::InputsRefused { errors } => self.refuse(errors),
            Event::WatcherFailed(failure) => self.fail(failure.clone()),
            Event::FailureExplained(failure) => self.failure = self.failure.as_ref().map(|_| failure.clone()),
            Event::TimePassed => self.time_passed(envelope.at_ms),
            _ => {}
        }
    }

    fn apply_asked(&mut self, request: Option<RequestId>, command: &Command, at_ms: f64) {
        match command {
            Command::Load { model, options, prompt, .. } => {
                self.load_requested();
                let LoadOptions { layers, attention, yarn_truncate, .. } = options.engine;
                let is_other = layers.is_some() || attention != Attention::Model || yarn_truncate;
                self.experiment = is_other.then(|| options.engine.clone());
                self.first_prompt = prompt.clone();
                self.node = match model {
                    ModelLocation::Node { address } => Some(address.clone()),
                    _ => None,
                };
                (self.from_host, self.load_request) = (matches!(model, ModelLocation::Url { .. }), request);
            }
            Command::Download { model, .. } => {
                self.download_requested();
                (self.from_host, self.load_request) = (matches!(model, ModelLocation::Url { .. }), request);
            }
            Command::Gate { .. } => self.gates_requested(),
            Command::Generate { prompt } => self.answer_requested(prompt),
            Command::Approve { .. } => self.approved(),
            Command::Stop { .. } => self.stop_requested(at_ms),
            Command::Cache { .. } | Command::Watch { .. } | Command::Count { .. } => {}
        }
    }

    fn apply_event(&mut self, event: &Event, at_ms: f64) {
        self.inside.apply(event, at_ms);
        self.stream.apply(event, at_ms);
        match event {
            Event::HostReady => self.host_ready = true,
            Event::Stage { stage, status, elapsed_ms } => self.apply_stage(*stage, *status, *elapsed_ms, at_ms),
            Event::Adapter(adapter) => {
                self.adapter = Some(adapter.clone());
                if let Some(recovery) = &mut self.recovery {
                    recovery.waiting = None;
                }
            }
            Event::Model(model) => self.model = Some(model.clone()),
            Event::Plan(plan) => self.plan = Some(plan.clone()),
            Event::Preflight { waits, bytes_per_second } => {
                self.asking = *waits;
                self.header_bytes_per_second = bytes_per_second.or(self.header_bytes_per_second);
            }
            Event::SelfCheck(check) => self.self_check = Some(check.clone()),
            Event::Prefetch(rest) => (self.prefetch, self.prefetch_problem) = (Some(*rest), None),
            Event::PrefetchPaused => {
                self.prefetch = None;
                self.troubles.clear();
            }
            Event::PrefetchFailed(failure) => (self.prefetch, self.prefetch_problem) = (None, Some(failure.clone())),
            Event::Header { fetched_bytes, asked_bytes, bytes_per_second } => {
                self.header = Some(HeaderProgress {
                    fetched_bytes: *fetched_bytes,
                    asked_bytes: *asked_bytes,
                    bytes_per_second: *bytes_per_second,
                });
            }
            Event::Unloaded => self.unload(),
            Event::Fetch { fetched_bytes, needed_bytes, requests, wire_bytes, bytes_per_second } => {
                self.fetch = Some(FetchProgress {
                    fetched_bytes: *fetched_bytes,
                    needed_bytes: *needed_bytes,
                    requests: *requests,
                    wire_bytes: *wire_bytes,
                    bytes_per_second: *bytes_per_second,
                });
            }
            Event::Trouble(trouble) => {
                self.end_trouble(&trouble.file, trouble.offset_bytes);
                self.troubles.push(trouble.clone());
            }
            Event::TroubleOver { file, offset_bytes, .. } => self.end_trouble(file, *offset_bytes),
            Event::Tensor { name, format, bytes, index, count } => {
                self.tensor_count = Some(*count);
                let (name, format) = (name.clone(), format.clone());
                self.tensors.push(ArrivedTensor { name, format, bytes: *bytes, index: *index });
            }
            Event::GpuMemory { allocated_bytes } => self.gpu_allocated_bytes = Some(*allocated_bytes),
            Event::WasmHeap { bytes } => self.wasm_heap_bytes = Some(*bytes),
            Event::Downloaded { cached_bytes, model_bytes, .. } => {
                self.apply_downloaded(*cached_bytes, *model_bytes);
            }
            Event::Recovering { attempt, most, .. } => {
                // Everything is fetched again.
                (self.fetch, self.tensor_count, self.gpu_allocated_bytes) = (None, None, None);
                self.tensors.clear();
                self.recovery = Some(Recovery { attempt: *attempt, most: *most, waiting: None });
            }
            Event::AwaitingGpu { waited_ms, patience_ms, .. } => {
                if let Some(recovery) = &mut self.recovery {
                    recovery.waiting = Some(Waiting { waited_ms: *waited_ms, patience_ms: *patience_ms });
                }
            }
            Event::Recovered { .. } => self.recovery = None,
            Event::Ready { load_ms } => {
                self.recovery = None;
                self.load_ms = Some(*load_ms);
                self.model_loaded = true;
                self.phase = Phase::Ready;
            }
            Event::PromptEncoded { tokens, .. } => self.answer.prompt_tokens = Some(*tokens),
            Event::Prefill { done_tokens, total_tokens, reused_tokens, elapsed_ms } => {
                let (done_tokens, total_tokens, elapsed_ms) = (*done_tokens, *total_tokens, *elapsed_ms);
                let reused_tokens = *reused_tokens;
                self.answer.missing = None;
                self.answer.prefill = Some(Prefill { done_tokens, total_tokens, reused_tokens, elapsed_ms });
            }
            Event::Missing(missing) => self.answer.missing = Some(*missing),
            Event::Token(token) => {
                self.earlier = None;
                self.per_token.take(token.index, self.experts, self.work);
                self.answer.take_token(token, at_ms);
            }
            Event::Kv { used_tokens, capacity_tokens, bytes } => {
                self.kv = Some(KvUse { used_tokens: *used_tokens, capacity_tokens: *capacity_tokens, bytes: *bytes });
            }
            Event::Experts(counters) => self.experts = Some(*counters),
            Event::Work(counters) => self.work = Some(*counters),
            Event::Finished { reason, .. } => {
                self.earlier = None;
                self.answer.take_finished(event);
                self.stopping = None;
                self.troubles.clear();
                self.phase = if *reason == FinishReason::Stopped { Phase::Stopped } else { Phase::Done };
            }
            Event::Stopped { model_loaded } => {
                self.restore();
                (self.recovery, self.asking) = (None, false);
                self.model_loaded = *model_loaded;
                self.earlier = None;
                self.stopping = None;
                self.troubles.clear();
                self.phase = Phase::Stopped;
            }
            Event::Failed { failure, .. } => {
                self.restore();
                if failure.kind == FailureKind::DeviceLost {
                    self.model_loaded = false;
                }
                self.restore_earlier_talk();
                self.fail(failure.clone());
            }
            // Whoever reads the worker's messages sees to it.
            Event::Remember { .. } => {}
            // The log has them.
            Event::FileNote { .. } | Event::Queued { .. } | Event::Counted { .. } | Event::KvBlocks(_) => {}
            // `inside` has them.
            Event::FileMap(_)
            | Event::Reads(_)
            | Event::Mapped { .. }
            | Event::ExpertMoves(_)
            | Event::Routes(_)
            | Event::Residual(_)
            | Event::Attention(_) => {}
            Event::OperationTimes { times } => self.times.clone_from(times),
            // The gate page has what they told.
            Event::GateTensors { .. } | Event::GateProgress(_) | Event::GateReport { .. } => {}
            Event::GatesEnded { .. } => self.gates_ended(),
            // They are the page's own: see `apply_own`.
            Event::Asked { .. }
            | Event::HostStarted
            | Event::HostEnded
            | Event::HostDied(_)
            | Event::ConversationTaken { .. }
            | Event::InputsRefused { .. }
            | Event::WatcherFailed(_)
            | Event::FailureExplained(_)
            | Event::TimePassed => {}
            Event::Cached(_) | Event::CacheNotice(_) | Event::Cache(_) | Event::CacheVerify { .. } => {
                self.cache.apply(event);
            }
        }
    }

    fn end_trouble(&mut self, file: &str, offset_bytes: u64) {
        self.troubles.retain(|trouble| (trouble.file.as_str(), trouble.offset_bytes) != (file, offset_bytes));
    }

    fn apply_stage(&mut self, stage: Stage, status: StageStatus, elapsed_ms: Option<f64>, at_ms: f64) {
        let known = &mut self.stages[stage_index(stage)];
        let begun_at_ms = if status == StageStatus::Started { Some(at_ms) } else { known.begun_at_ms };
        *known = StageState { status: Some(status), elapsed_ms, begun_at_ms };
        // The worker goes on to the answer by itself when the load command carried a prompt.
        if stage == Stage::PromptEncode && status == StageStatus::Started {
            self.phase = Phase::Generating;
            if let Some(prompt) = self.first_prompt.take() {
                self.talk_on(&prompt);
            }
            self.answer.begun_at_ms = Some(at_ms);
            self.begin_answer_stages();
        }
    }

    fn begin_answer(&mut self, prompt: &Prompt) {
        let (turns, question) = (self.turns.clone(), self.question.clone());
        self.earlier = Some(Box::new(Earlier { turns, question, answer: self.answer.clone() }));
        self.talk_on(prompt);
        let (number, experiment) = (self.answer.number + 1, self.experiment.clone());
        self.answer = Answer { number, experiment, ..Answer::default() };
        self.failure = None;
        self.stopping = None;
        self.troubles.clear();
        for stage in Stage::ANSWER {
            self.stages[stage_index(stage)] = StageState::default();
        }
    }

    fn begin_answer_stages(&mut self) {
        for stage in [Stage::Prefill, Stage::Decode] {
            self.stages[stage_index(stage)] = StageState::default();
        }
    }
}

impl Replay for State {
    /// Takes one event in. Events of the worker come in order; a gap is counted.
    fn apply(&mut self, envelope: &Envelope) {
        if envelope.event.is_of_watcher() {
            return self.apply_own(envelope);
        }
        let next = self.next_sequences.entry(envelope.run_id).or_default();
        self.missing_events += envelope.sequence.saturating_sub(*next);
        *next = (*next).max(envelope.sequence + 1);
        self.apply_event(&envelope.event, envelope.at_ms);
    }
}

/// Every stage, in the order in which they happen.
pub fn all_stages() -> impl Iterator<Item = Stage> {
    Stage::LOAD.into_iter().chain(Stage::ANSWER)
}

/// Stages are declared in the order of [`all_stages`]; a test holds the two together.
fn stage_index(stage: Stage) -> usize {
    stage as usize
}

#[cfg(test)]
mod tests;
