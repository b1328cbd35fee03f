//! What is stopped or dropped is freed, to the byte: at every stage, by STOP or by dropping the future, round after
//! round.

use std::cell::Cell;
use std::rc::Rc;

use crate::support::{engine_of, memory};
use futures_util::future::{AbortHandle, Abortable};
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::Testbed;
use gptoss_model::{Host, StageError};
use gptoss_protocol::{Event, LoadOptions, Prompt, PromptFormat, Sampling, Stage, StageStatus};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
/// Fewer in Chromium, whose software adapter compiles the kernels of each for seconds.
const ROUNDS: usize = if cfg!(target_arch = "wasm32") { 6 } else { 10 };
/// What the heap may grow by in a round, on average: a small part of a model of 3 MB.
const MOST_HEAP_GROWTH: usize = 128 << 10;

fn prompt() -> Prompt {
    Prompt {
        user: "What is 12 + 30?".into(),
        format: PromptFormat::Harmony,
        instructions: String::new(),
        effort: Default::default(),
        date: None,
        max_new_tokens: 3,
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

/// So many of six layers, for speed: what they say is no answer.
fn options(layers: u32) -> LoadOptions {
    LoadOptions { layers: Some(layers), ..LoadOptions::default() }
}

/// Wants to stop as soon as an event comes that `when` is true of.
struct Impatient {
    when: fn(&Event) -> bool,
    stopped: Cell<bool>,
    /// Instead of asking the engine to stop: aborts its future.
    abort: Option<AbortHandle>,
}

impl Impatient {
    fn new(when: fn(&Event) -> bool) -> Self {
        Self { when, stopped: Cell::new(false), abort: None }
    }
}

impl Host for Impatient {
    fn emit(&self, event: Event) {
        if (self.when)(&event) {
            self.stopped.set(true);
            self.abort.iter().for_each(AbortHandle::abort);
        }
    }

    fn cancelled(&self) -> bool {
        self.stopped.get() && self.abort.is_none()
    }
}

async fn load_and_answer(
    testbed: &Rc<Testbed>,
    options: &LoadOptions,
    host: &dyn Host,
) -> Result<GpuEngine, StageError> {
    let gpu = GpuOptions { testbed: Some(Rc::clone(testbed)), ..GpuOptions::default() };
    let mut engine = engine_of(memory("nano", MODEL), &gpu, options, host).await?;
    let held = engine.model.plan().totals.gpu_total_bytes;
    assert_eq!(testbed.allocated_bytes(), held, "a loaded model is all there is");
    engine.answer(&prompt(), host).await?;
    assert_eq!(testbed.allocated_bytes(), held, "an answer leaves nothing behind");
    Ok(engine)
}

type Moment = (Stage, fn(&Event) -> bool);

/// The beginning of every stage, and the middle of those that take long.
fn moments() -> Vec<Moment> {
    macro_rules! begin {
        ($($stage:ident),*) => {
            vec![$((
                Stage::$stage,
                (|event: &Event| {
                    matches!(event, Event::Stage { stage: Stage::$stage, status: StageStatus::Started, .. })
                }) as fn(&Event) -> bool,
            )),*]
        };
    }
    let mut moments: Vec<Moment> = begin![
        GpuDevice,
        GgufHeader,
        MemoryPlan,
        Tokenizer,
        Kernels,
        SelfCheck,
        GpuMemory,
        WeightsFetch,
        PromptEncode,
        Prefill,
        Decode
    ];
    moments.push((Stage::WeightsFetch, |event| matches!(event, Event::Fetch { .. })));
    moments.push((Stage::Decode, |event| matches!(event, Event::Token(_))));
    moments
}

/// STOP is asked for at each moment, and the engine returns.
#[cfg(not(target_arch = "wasm32"))]
async fn stopping_frees_everything() {
    for (stage, when) in moments() {
        let testbed = Rc::new(Testbed::default());
        let error = load_and_answer(&testbed, &options(2), &Impatient::new(when)).await.err().expect("stopped");
        assert!(error.is_cancelled() && error.stage == stage, "{stage:?}: {error} in {:?}", error.stage);
        assert_eq!(testbed.allocated_bytes(), 0, "stopped in {stage:?}");
    }
}

/// The page's worker drops the future that loads: nothing of it may stay, whatever it was waiting for.
async fn dropping_the_future_frees_everything(stages: &[Stage]) {
    for (stage, when) in moments().into_iter().filter(|(stage, _)| stages.contains(stage)) {
        let testbed = Rc::new(Testbed::default());
        let (abort, registration) = AbortHandle::new_pair();
        let host = Impatient { abort: Some(abort), ..Impatient::new(when) };
        let options = options(2);
        let outcome = Abortable::new(load_and_answer(&testbed, &options, &host), registration).await;
        // Natively hardly anything ever waits: then the work is done when it is looked at again, and its result is
        // dropped.
        assert!(outcome.is_err() || cfg!(not(target_arch = "wasm32")), "{stage:?}: the work was not dropped");
        drop(outcome);
        assert_eq!(testbed.allocated_bytes(), 0, "dropped in {stage:?}");
    }
}

/// Loading, answering and dropping, again and again, on one page; each model is another than the one before.
async fn rounds_leave_nothing_behind() {
    let testbed = Rc::new(Testbed::default());
    let mut heap = Vec::new();
    for round in 1..=ROUNDS {
        let options = options(1 + round as u32 % 2);
        let idle = Impatient::new(|_| false);
        let engine = load_and_answer(&testbed, &options, &idle).await.expect("nano loads and answers");
        drop(engine);
        assert_eq!(testbed.allocated_bytes(), 0, "after round {round}");
        heap.push(heap_bytes());
    }
    assert_eq!(testbed.devices_opened(), ROUNDS);
    // The first rounds make room for what every round needs.
    let growth = heap[ROUNDS - 1] - heap[1];
    assert!(growth <= (ROUNDS - 2) * MOST_HEAP_GROWTH, "the heap grew by {growth} bytes: {heap:?}");
}

/// Bytes of the wasm heap, which never shrinks; natively nothing is measured.
#[cfg(target_arch = "wasm32")]
fn heap_bytes() -> usize {
    core::arch::wasm32::memory_size(0) * 65536
}

#[cfg(not(target_arch = "wasm32"))]
fn heap_bytes() -> usize {
    0
}

everywhere!(rounds, rounds_leave_nothing_behind());
everywhere!(dropped, dropping_the_future_frees_everything(&[Stage::SelfCheck, Stage::GpuMemory, Stage::WeightsFetch]));
#[cfg(not(target_arch = "wasm32"))]
everywhere!(stopped, stopping_frees_everything());
