//! What the engine sees of the worker: somewhere to send events, and whether to stop.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};

use futures_util::future::select;
use gptoss_engine::GpuEngine;
use gptoss_model::{Host, LoadProposal};
use gptoss_protocol::{Event, Failure, FailureKind, NextAttempt, Sequencer, Stage, StageStatus, Trouble, TroubleKind};
use gptoss_source::retry::FaultKind;
use gptoss_source::{FetchNews, FetchObserver, FetchReport};
use wasm_bindgen::JsValue;
use web_sys::DedicatedWorkerGlobalScope;
use web_time::Instant;

use crate::signal::Signal;

pub struct WorkerHost {
    scope: DedicatedWorkerGlobalScope,
    begin: Instant,
    sequencer: RefCell<Sequencer>,
    stop: Signal,
    proceed: Signal,
    running: Cell<Option<(Stage, Instant)>>,
    /// As was told last.
    heap_bytes: Cell<u64>,
    remembered: RefCell<HashSet<String>>,
}

impl WorkerHost {
    pub fn new(scope: DedicatedWorkerGlobalScope) -> Self {
        Self {
            scope,
            begin: Instant::now(),
            // Milliseconds since 1970 tell one worker from another on any one page.
            sequencer: RefCell::new(Sequencer::new(js_sys::Date::now() as u64)),
            stop: Signal::default(),
            proceed: Signal::default(),
            running: Cell::new(None),
            heap_bytes: Cell::new(0),
            remembered: RefCell::default(),
        }
    }

    pub fn stop(&self) -> &Signal {
        &self.stop
    }

    /// The user's word to go on with a load that waits.
    pub fn approval(&self) -> &Signal {
        &self.proceed
    }

    /// What the page remembers of earlier loads.
    pub fn recall(&self, keys: Vec<String>) {
        self.remembered.borrow_mut().extend(keys);
    }

    /// The engine knows adapter and build; another version of the browser may compile the same kernels to something else.
    fn full_key(&self, key: &str) -> String {
        let browser = self.scope.navigator().user_agent().unwrap_or_default();
        format!("{key} {browser}")
    }

    pub fn post(&self, event: Event) {
        if let Event::Stage { stage, status, .. } = &event {
            self.running.set((*status == StageStatus::Started).then(|| (*stage, Instant::now())));
        }
        self.send(event);
        let heap_bytes = wasm_heap_bytes();
        if self.heap_bytes.replace(heap_bytes) != heap_bytes {
            self.send(Event::WasmHeap { bytes: heap_bytes });
        }
    }

    fn send(&self, event: Event) {
        let at_ms = self.begin.elapsed().as_secs_f64() * 1000.0;
        let envelope = self.sequencer.borrow_mut().wrap(at_ms, event);
        post_text(&self.scope, &envelope.to_json());
    }

    /// For a stage whose future was dropped: it cannot report its own end any more.
    pub fn cancel_running_stage(&self) -> Stage {
        let Some((stage, begin)) = self.running.get() else { return Stage::LOAD[0] };
        let elapsed_ms = Some(begin.elapsed().as_secs_f64() * 1000.0);
        self.post(Event::Stage { stage, status: StageStatus::Cancelled, elapsed_ms });
        stage
    }
}

impl Host for WorkerHost {
    fn emit(&self, event: Event) {
        self.post(event);
    }

    fn cancelled(&self) -> bool {
        self.stop.is_requested()
    }

    fn remembered(&self, key: &str) -> bool {
        self.remembered.borrow().contains(&self.full_key(key))
    }

    fn remember(&self, key: &str) {
        let key = self.full_key(key);
        self.remembered.borrow_mut().insert(key.clone());
        self.post(Event::Remember { key });
    }

    fn approve<'a>(&'a self, proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(self.ask(proposal))
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.stop.requested())
    }
}

impl WorkerHost {
    async fn ask(&self, proposal: LoadProposal<'_>) {
        let waits = proposal.is_less_than_expected();
        if waits {
            self.proceed.arm();
        }
        self.post(Event::Preflight { waits, bytes_per_second: proposal.bytes_per_second });
        if waits {
            select(pin!(self.proceed.requested()), pin!(self.stop.requested())).await;
            self.proceed.disarm();
        }
    }
}

/// For a load that may replace a model: as [`WorkerHost`], and lets go of that model when the load goes ahead.
pub struct ReplacingHost<'a> {
    pub host: &'a WorkerHost,
    pub before: RefCell<Option<GpuEngine>>,
}

impl Host for ReplacingHost<'_> {
    fn emit(&self, event: Event) {
        self.host.post(event);
    }

    fn cancelled(&self) -> bool {
        self.host.cancelled()
    }

    fn remembered(&self, key: &str) -> bool {
        self.host.remembered(key)
    }

    fn remember(&self, key: &str) {
        self.host.remember(key);
    }

    fn approve<'a>(&'a self, proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        self.host.approve(proposal)
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.host.until_cancelled()
    }

    fn load_begins(&self) {
        if self.before.take().is_some() {
            self.host.post(Event::Unloaded);
        }
    }
}

/// For what nobody asked for: as [`WorkerHost`], but it ends when somebody wants something, not with STOP.
pub struct PrefetchHost<'a> {
    pub host: &'a WorkerHost,
    pub end: &'a Signal,
}

impl Host for PrefetchHost<'_> {
    fn emit(&self, event: Event) {
        self.host.post(event);
    }

    fn cancelled(&self) -> bool {
        self.end.is_requested()
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self.end.requested())
    }
}

impl FetchObserver for WorkerHost {
    fn fetching(&self, report: &FetchReport<'_>) {
        let (file, offset_bytes, missing_bytes) = (report.file.to_owned(), report.offset_bytes, report.missing_bytes);
        let trouble =
            |what, next| Event::Trouble(Trouble { what, file: file.clone(), offset_bytes, missing_bytes, next });
        self.post(match report.news {
            FetchNews::TryingAgain { kind, wait, attempt, attempts } => {
                let wait_ms = wait.as_secs_f64() * 1000.0;
                trouble(trouble_kind(kind), Some(NextAttempt { attempt, attempts, wait_ms }))
            }
            FetchNews::Offline => trouble(TroubleKind::Offline, None),
            FetchNews::GoingOn { attempts, elapsed } => {
                Event::TroubleOver { file, offset_bytes, attempts, elapsed_ms: elapsed.as_secs_f64() * 1000.0 }
            }
        });
    }
}

fn wasm_heap_bytes() -> u64 {
    const PAGE_BYTES: u64 = 64 << 10;
    core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES
}

fn trouble_kind(kind: FaultKind) -> TroubleKind {
    match kind {
        FaultKind::NoAnswer => TroubleKind::NoAnswer,
        FaultKind::BrokenOff => TroubleKind::BrokenOff,
        FaultKind::ShortBody => TroubleKind::ShortBody,
        FaultKind::Stalled => TroubleKind::Stalled,
        FaultKind::HostFailed => TroubleKind::HostFailed,
        FaultKind::HostBusy => TroubleKind::HostBusy,
        FaultKind::Refused => TroubleKind::Refused,
    }
}

/// A text always can be posted; should a browser refuse, the page sees the gap in the numbers.
fn post_text(scope: &DedicatedWorkerGlobalScope, text: &str) {
    if let Err(error) = scope.post_message(&JsValue::from_str(text)) {
        web_sys::console::error_1(&error);
    }
}

/// Words for the page before a panic ends the worker. Nothing of the worker's own state can be trusted then, so the
/// message is numbered beyond any that were sent.
pub fn post_failure_of_panic(scope: &DedicatedWorkerGlobalScope, message: &str) {
    let failure = Failure {
        kind: FailureKind::Internal,
        message: format!("the engine's worker stopped: {message}"),
        advice: "Load the model again. If it happens again, please report it with the event log.".to_owned(),
        parameter: None,
    };
    let envelope = Sequencer::new(0).wrap(0.0, Event::Failed { stage: Stage::GpuDevice, failure });
    post_text(scope, &envelope.to_json());
}
