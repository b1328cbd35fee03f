//! Everything the page knows: a fold over events, those of the worker and those of the page, what the user does among them. Pure: no
//! browser in here. A [`gptoss_protocol::Recording`] of the events replays to the same state.

use gptoss_protocol::{
    AdapterInfo, CacheCounters, Channel, Command, Envelope, Event, Failure, FailureKind, FinishReason, MemoryPlan,
    Missing, ModelInfo, ModelLocation, Prefetch, Replay, RequestId, SelfCheck, Stage, StageStatus, TokenInfo, TopToken,
    Trouble, WorkCounters,
};
use serde::{Deserialize, Serialize};

use super::cache::DownloadCache;
use super::format::fraction;

mod refusing;
mod replacing;

pub use self::refusing::Refusal;

/// What the page as a whole is doing; `data-state` on the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Idle,
    Loading,
    Ready,
    Generating,
    Done,
    Error,
    Stopped,
}

impl Phase {
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

    /// Something is going on that STOP can end.
    pub fn busy(self) -> bool {
        matches!(self, Phase::Loading | Phase::Generating)
    }
}

/// Fetching, as last reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchProgress {
    pub fetched_bytes: u64,
    pub needed_bytes: u64,
    pub requests: u32,
    pub wire_bytes: Option<u64>,
    pub bytes_per_second: Option<f64>,
}

/// How much of a header is here; how long it is shows when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderProgress {
    pub fetched_bytes: u64,
    pub asked_bytes: u64,
    pub bytes_per_second: Option<f64>,
}

/// A lost GPU that is being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// From 1 to `most`.
    pub attempt: u32,
    pub most: u32,
    /// There is no other so far.
    pub waiting: Option<Waiting>,
}

/// For how long something is waited for, and has been.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub waited_ms: f64,
    pub patience_ms: f64,
}

/// A tensor that is where it belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrivedTensor {
    pub name: String,
    pub format: String,
    pub bytes: u64,
    pub index: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    pub status: Option<StageStatus>,
    pub elapsed_ms: Option<f64>,
}

/// One token of the answer, as the stream shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamToken {
    pub text: String,
    pub channel: Channel,
    pub recipient: Option<String>,
    /// A new message begins with this token, though the one before was on the same channel.
    pub starts_message: bool,
    /// `None` when it was drawn from beyond the candidates that were read back.
    pub probability: Option<f32>,
    pub entropy_nats: f32,
    pub elapsed_ms: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prefill {
    pub done_tokens: u32,
    pub total_tokens: u32,
    pub elapsed_ms: f64,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub reason: FinishReason,
    pub new_tokens: u32,
    /// Tokens in a row that said nothing, where this is therefore no answer; else 0.
    pub junk_tokens: u32,
    pub prefill_tokens_per_second: Option<f64>,
    pub decode_tokens_per_second: Option<f64>,
}

/// The answer in progress or just given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Counts answers, so that whoever draws them sees that a new one began.
    pub number: u32,
    pub prompt_tokens: Option<u32>,
    pub prefill: Option<Prefill>,
    pub tokens: Vec<StreamToken>,
    /// Tokens of any kind, format tokens included.
    pub generated: u32,
    pub final_text: String,
    pub analysis_text: String,
    pub top: Vec<TopToken>,
    /// The token that was chosen from `top`.
    pub chosen_id: Option<u32>,
    /// Entropy of every token, in nats.
    pub entropies: Vec<f32>,
    /// What the prompt waits for.
    pub missing: Option<Missing>,
    pub decode_tokens_per_second: Option<f64>,
    /// On the worker's clock, from the question to the first token; replaced by the engine's own number at the end.
    pub time_to_first_token_ms: Option<f64>,
    pub last_token_ms: Option<f64>,
    pub finished: Option<Finished>,
    begun_at_ms: Option<f64>,
    in_message: bool,
}

impl Answer {
    /// Prompt tokens per second: the engine's own number, or what its progress so far amounts to.
    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        if let Some(finished) = &self.finished {
            return finished.prefill_tokens_per_second;
        }
        let prefill = self.prefill.as_ref()?;
        (prefill.done_tokens > 0 && prefill.elapsed_ms > 0.0)
            .then(|| f64::from(prefill.done_tokens) / prefill.elapsed_ms * 1000.0)
    }

    /// New tokens per second: the engine's own number, or its latest while tokens still come.
    pub fn decode_rate(&self) -> Option<f64> {
        match &self.finished {
            Some(finished) => finished.decode_tokens_per_second,
            None => self.decode_tokens_per_second,
        }
    }
}

/// KV cache fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvUse {
    pub used_tokens: u32,
    pub capacity_tokens: u32,
    pub bytes: u64,
}

/// STOP takes effect in a moment, unless something in the engine hangs: after this long the page offers to end the engine.
pub const STOP_PATIENCE_MS: f64 = 5000.0;

/// A press on STOP that has not taken effect yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct StopWish {
    since_ms: f64,
    /// For longer than [`STOP_PATIENCE_MS`].
    in_vain: bool,
}

/// How many events the recording of a page holds.
pub const RECORDED_EVENTS: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    pub host_ready: bool,
    pub model_loaded: bool,
    pub adapter: Option<AdapterInfo>,
    pub model: Option<ModelInfo>,
    pub plan: Option<MemoryPlan>,
    /// The model comes from a host, which can be asked for it again.
    pub from_host: bool,
    /// The load waits for the user, since not all of the model fits.
    asking: bool,
    /// At which the header came.
    header_bytes_per_second: Option<f64>,
    /// While a lost GPU is replaced.
    pub recovery: Option<Recovery>,
    pub self_check: Option<SelfCheck>,
    /// Experts that are read while there is nothing else to do, as last reported.
    pub prefetch: Option<Prefetch>,
    /// What ended that early, in words.
    pub prefetch_problem: Option<Failure>,
    pub fetch: Option<FetchProgress>,
    pub tensors: Vec<ArrivedTensor>,
    pub tensor_count: Option<u32>,
    pub gpu_allocated_bytes: Option<u64>,
    pub wasm_heap_bytes: Option<u64>,
    /// What is fetched is only cached.
    pub downloading: bool,
    /// Bytes of the model that was cached for later.
    pub downloaded: Option<u64>,
    pub load_ms: Option<f64>,
    /// Reads that met a fault and wait for better times, in the order in which they did.
    pub troubles: Vec<Trouble>,
    pub answer: Answer,
    pub kv: Option<KvUse>,
    pub experts: Option<CacheCounters>,
    pub work: Option<WorkCounters>,
    pub cache: DownloadCache,
    pub failure: Option<Failure>,
    /// The header, while it is read.
    pub header: Option<HeaderProgress>,
    /// The inputs that cannot be used, since they were last refused.
    pub refused: Refusal,
    /// What was loaded before, while another model is looked at that may take its place.
    before: Option<Box<State>>,
    /// The answer before the one that is asked for, until that begins.
    earlier_answer: Option<Answer>,
    /// Events that were sent but never arrived, by the gaps in their numbers.
    pub missing_events: u64,
    /// The load that was asked for last.
    pub load_request: Option<RequestId>,
    stages: [StageState; Stage::LOAD.len() + Stage::ANSWER.len()],
    next_sequence: u64,
    stopping: Option<StopWish>,
}

impl State {
    pub fn stage(&self, stage: Stage) -> StageState {
        self.stages[stage_index(stage)]
    }

    /// The stage that is under way.
    pub fn running_stage(&self) -> Option<Stage> {
        all_stages().find(|stage| self.stage(*stage).status == Some(StageStatus::Started))
    }

    /// The header, while it is what is read.
    pub fn header_under_way(&self) -> Option<HeaderProgress> {
        self.header.filter(|_| self.running_stage() == Some(Stage::GgufHeader))
    }

    /// How far the reading is that is under way, of the weights or, before them, of the header.
    pub fn read_share(&self) -> Option<f64> {
        match (self.fetch, self.header_under_way()) {
            (Some(fetch), _) => fraction(fetch.fetched_bytes, fetch.needed_bytes),
            (None, Some(header)) => fraction(header.fetched_bytes, header.asked_bytes),
            (None, None) => None,
        }
    }

    /// The trouble that is nearest to ending the run.
    pub fn worst_trouble(&self) -> Option<&Trouble> {
        // Without a network no number of attempts helps.
        self.troubles.iter().max_by_key(|trouble| trouble.next.map_or(u32::MAX, |next| next.attempt))
    }

    /// Experts are being read that nobody waits for.
    pub fn is_prefetching(&self) -> bool {
        !self.phase.busy() && self.prefetch.is_some_and(|rest| rest.missing_bytes > 0)
    }

    /// There is something that STOP would end.
    pub fn can_stop(&self) -> bool {
        (self.phase.busy() && !self.stopping()) || self.is_prefetching()
    }

    /// STOP was pressed and has not taken effect yet.
    pub fn stopping(&self) -> bool {
        // A wish that came too late is over with what it was about.
        self.stopping.is_some() && self.phase.busy()
    }

    /// The user asked a question of the model that is loaded.
    pub(super) fn answer_requested(&mut self) {
        self.accept_inputs();
        self.prefetch_problem = None;
        self.downloaded = None;
        self.phase = Phase::Generating;
        self.begin_answer();
    }

    /// `now_ms` is the page's clock, as for `time_passed`.
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

    /// STOP did not help: all that is left is to end the engine.
    pub fn offers_end(&self) -> bool {
        self.stopping() && self.stopping.is_some_and(|wish| wish.in_vain)
    }

    /// The user ended the engine.
    pub(super) fn engine_ended(&mut self) {
        self.worker_gone();
        (self.recovery, self.asking, self.stopping) = (None, false, None);
        self.troubles.clear();
        for stage in &mut self.stages {
            if stage.status == Some(StageStatus::Started) {
                stage.status = Some(StageStatus::Cancelled);
            }
        }
        self.phase = Phase::Stopped;
    }

    /// A failure that bytes may be to blame for which no published hash vouches for, of a model that its host can be asked for
    /// again.
    pub fn offers_refetch(&self) -> bool {
        let blames_bytes = |failure: &Failure| {
            matches!(failure.kind, FailureKind::File | FailureKind::Damaged | FailureKind::NotFinite)
        };
        self.from_host && self.failure.as_ref().is_some_and(blames_bytes) && self.cache.is_unvouched()
    }

    /// The load that waits for the user, if one does.
    pub fn load_that_asks(&self) -> Option<RequestId> {
        self.load_request.filter(|_| self.asking)
    }

    /// The load waits for an answer: APPROVE or STOP.
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
        self.next_sequence = 0;
        self.host_ready = false;
        self.wasm_heap_bytes = None;
    }

    /// The worker is gone, and the model with it.
    fn worker_gone(&mut self) {
        (self.model_loaded, self.host_ready) = (false, false);
        self.prefetch = None;
    }

    /// The worker ended by itself.
    pub(super) fn worker_died(&mut self, failure: Failure) {
        self.before = None;
        self.worker_gone();
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
            Event::InputsRefused { errors } => self.refuse(errors),
            Event::WatcherFailed(failure) => self.fail(failure.clone()),
            Event::FailureExplained(failure) => self.failure = self.failure.as_ref().map(|_| failure.clone()),
            Event::TimePassed => self.time_passed(envelope.at_ms),
            _ => {}
        }
    }

    fn apply_asked(&mut self, request: Option<RequestId>, command: &Command, at_ms: f64) {
        match command {
            Command::Load { model, .. } => {
                self.load_requested();
                (self.from_host, self.load_request) = (matches!(model, ModelLocation::Url { .. }), request);
            }
            Command::Download { model, .. } => {
                self.download_requested();
                (self.from_host, self.load_request) = (matches!(model, ModelLocation::Url { .. }), request);
            }
            Command::Generate { .. } => self.answer_requested(),
            Command::Approve { .. } => self.approved(),
            Command::Stop { .. } => self.stop_requested(at_ms),
            Command::Cache { .. } => {}
        }
    }

    fn apply_event(&mut self, event: &Event, at_ms: f64) {
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
            Event::Prefill { done_tokens, total_tokens, elapsed_ms } => {
                let (done_tokens, total_tokens, elapsed_ms) = (*done_tokens, *total_tokens, *elapsed_ms);
                self.answer.missing = None;
                self.answer.prefill = Some(Prefill { done_tokens, total_tokens, elapsed_ms });
            }
            Event::Missing(missing) => self.answer.missing = Some(*missing),
            Event::Token(token) => self.apply_token(token, at_ms),
            Event::Kv { used_tokens, capacity_tokens, bytes } => {
                self.kv = Some(KvUse { used_tokens: *used_tokens, capacity_tokens: *capacity_tokens, bytes: *bytes });
            }
            Event::Experts(counters) => self.experts = Some(*counters),
            Event::Work(counters) => self.work = Some(*counters),
            Event::Finished { .. } => self.apply_finished(event),
            Event::Stopped { model_loaded } => {
                self.restore();
                (self.recovery, self.asking) = (None, false);
                self.model_loaded = *model_loaded;
                self.earlier_answer = None;
                self.stopping = None;
                self.troubles.clear();
                self.phase = Phase::Stopped;
            }
            Event::Failed { failure, .. } => {
                self.restore();
                if failure.kind == FailureKind::DeviceLost {
                    self.model_loaded = false;
                }
                self.restore_earlier_answer();
                self.fail(failure.clone());
            }
            // Whoever reads the worker's messages sees to it.
            Event::Remember { .. } => {}
            // The log has them.
            Event::FileNote { .. } | Event::Queued { .. } => {}
            // They are the page's own: see `apply_own`.
            Event::Asked { .. }
            | Event::HostStarted
            | Event::HostEnded
            | Event::HostDied(_)
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
        self.stages[stage_index(stage)] = StageState { status: Some(status), elapsed_ms };
        // The worker goes on to the answer by itself when the load command carried a prompt.
        if stage == Stage::PromptEncode && status == StageStatus::Started {
            self.phase = Phase::Generating;
            self.answer.begun_at_ms = Some(at_ms);
            self.begin_answer_stages();
        }
    }

    fn begin_answer(&mut self) {
        let next = Answer { number: self.answer.number + 1, ..Answer::default() };
        self.earlier_answer = Some(std::mem::replace(&mut self.answer, next));
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

    fn apply_token(&mut self, token: &TokenInfo, at_ms: f64) {
        self.earlier_answer = None;
        let answer = &mut self.answer;
        if answer.generated == 0 {
            answer.time_to_first_token_ms = answer.begun_at_ms.map(|begun_at_ms| at_ms - begun_at_ms);
        }
        answer.last_token_ms = Some(token.elapsed_ms);
        answer.generated = token.index + 1;
        answer.top.clone_from(&token.top);
        answer.chosen_id = Some(token.id);
        answer.entropies.push(token.entropy_nats);
        answer.decode_tokens_per_second = token.decode_tokens_per_second.or(answer.decode_tokens_per_second);
        let Some(channel) = token.channel else {
            answer.in_message = false;
            return;
        };
        if token.text.is_empty() {
            return;
        }
        match channel {
            Channel::Final => answer.final_text.push_str(&token.text),
            Channel::Analysis => answer.analysis_text.push_str(&token.text),
            Channel::Commentary | Channel::ToolCall => {}
        }
        answer.tokens.push(StreamToken {
            text: token.text.clone(),
            channel,
            recipient: token.recipient.clone(),
            starts_message: !answer.in_message,
            probability: token.probability,
            entropy_nats: token.entropy_nats,
            elapsed_ms: token.elapsed_ms,
        });
        answer.in_message = true;
    }

    fn apply_finished(&mut self, event: &Event) {
        let Event::Finished {
            reason,
            new_tokens,
            junk_tokens,
            final_text,
            analysis_text,
            prefill_tokens_per_second,
            decode_tokens_per_second,
            time_to_first_token_ms,
            ..
        } = event
        else {
            return;
        };
        self.earlier_answer = None;
        self.answer.final_text.clone_from(final_text);
        self.answer.analysis_text.clone_from(analysis_text);
        self.answer.finished = Some(Finished {
            reason: *reason,
            new_tokens: *new_tokens,
            junk_tokens: *junk_tokens,
            prefill_tokens_per_second: *prefill_tokens_per_second,
            decode_tokens_per_second: *decode_tokens_per_second,
        });
        self.answer.time_to_first_token_ms = time_to_first_token_ms.or(self.answer.time_to_first_token_ms);
        self.stopping = None;
        self.troubles.clear();
        self.phase = if *reason == FinishReason::Stopped { Phase::Stopped } else { Phase::Done };
    }
}

impl Replay for State {
    /// Takes one event in. Events of the worker come in order; a gap is counted.
    fn apply(&mut self, envelope: &Envelope) {
        if envelope.event.is_of_watcher() {
            return self.apply_own(envelope);
        }
        self.missing_events += envelope.sequence.saturating_sub(self.next_sequence);
        self.next_sequence = self.next_sequence.max(envelope.sequence + 1);
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
