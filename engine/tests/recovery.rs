//! A GPU that is lost at any moment: the answer is the same as undisturbed, or a clear error; never a wrong answer,
//! never a hang. Natively and in headless Chromium.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::support::{engine_of, memory};
use gptoss_engine::{GpuEngine, MAX_RECOVERIES};
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::Testbed;
use gptoss_model::{Answer, AwaitPoint, Backend, EngineError, Host, StageError};
use gptoss_protocol::{Event, FailureKind, LoadOptions, Prompt, PromptFormat, Sampling, Stage, StageStatus, TokenInfo};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// How a device is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The browser tells of it.
    Told,
    /// Reads are refused, and nobody says why.
    Refusing,
    /// Nothing that it is waited for ends.
    Silent,
}

/// Loses the device when an event comes that `when` is true of, so many times.
struct Saboteur {
    testbed: Rc<Testbed>,
    how: Loss,
    when: Box<dyn Fn(&Event) -> bool>,
    times: Cell<u32>,
    /// Lose it whenever a batch is waited for, too.
    at_batches: bool,
    /// Stop when a rebuild begins, or an adapter is waited for.
    impatient: bool,
    cancelled: Cell<bool>,
    events: RefCell<Vec<Event>>,
}

impl Saboteur {
    fn new(testbed: &Rc<Testbed>, times: u32, when: impl Fn(&Event) -> bool + 'static) -> Self {
        Self {
            testbed: Rc::clone(testbed),
            how: Loss::Told,
            when: Box::new(when),
            times: Cell::new(times),
            at_batches: false,
            impatient: false,
            cancelled: Cell::new(false),
            events: RefCell::default(),
        }
    }

    fn idle(testbed: &Rc<Testbed>) -> Self {
        Self::new(testbed, 0, |_| false)
    }

    /// What was said of every token: also its probability, to the bit.
    fn tokens(&self) -> Vec<(u32, u32, u32, Option<u32>)> {
        let of = |token: &TokenInfo| {
            let entropy_bits = token.entropy_nats.to_bits();
            (token.index, token.id, entropy_bits, token.probability.map(f32::to_bits))
        };
        let events = self.events.borrow();
        events.iter().filter_map(|event| if let Event::Token(token) = event { Some(of(token)) } else { None }).collect()
    }

    /// Stage and tokens of every loss.
    fn losses(&self) -> Vec<(Stage, u32)> {
        let events = self.events.borrow();
        let of = |event: &Event| match event {
            Event::Recovering { stage, tokens, .. } => Some((*stage, *tokens)),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    }

    /// Looks for an adapter that found none.
    #[cfg(not(target_arch = "wasm32"))]
    fn awaited(&self) -> usize {
        self.events.borrow().iter().filter(|event| matches!(event, Event::AwaitingGpu { .. })).count()
    }

    /// Tokens that were replayed, once for every recovery.
    fn recoveries(&self) -> Vec<u32> {
        let events = self.events.borrow();
        let of = |event: &Event| if let Event::Recovered { tokens, .. } = event { Some(*tokens) } else { None };
        events.iter().filter_map(of).collect()
    }
}

impl Host for Saboteur {
    fn emit(&self, event: Event) {
        let left = self.times.get();
        if left > 0 && (self.when)(&event) {
            self.times.set(left - 1);
            match self.how {
                Loss::Told => self.testbed.lose_device(),
                Loss::Refusing => self.testbed.refuse_reads(1),
                Loss::Silent => self.testbed.hang(true),
            }
        }
        if matches!(event, Event::Recovering { .. }) {
            self.testbed.hang(false);
        }
        if self.impatient && matches!(event, Event::Recovering { .. } | Event::AwaitingGpu { .. }) {
            self.cancelled.set(true);
        }
        self.events.borrow_mut().push(event);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn awaiting(&self, at: AwaitPoint) {
        if self.at_batches && at == AwaitPoint::Batch {
            self.testbed.lose_device();
        }
    }
}

fn prompt(sampling: Sampling) -> Prompt {
    Prompt {
        user: "What is 12 + 30?".into(),
        format: PromptFormat::Harmony,
        // So long that the prompt is two batches.
        instructions: "You add two numbers.".into(),
        effort: Default::default(),
        date: Some("2026-01-31".into()),
        max_new_tokens: if cfg!(target_arch = "wasm32") { 6 } else { 40 },
        sampling,
        ..Prompt::default()
    }
}

/// Options of these tests. Chromium's software adapter is slow, so it runs two of six layers: what they say is no
/// answer, but always the same.
fn options() -> LoadOptions {
    LoadOptions { layers: cfg!(target_arch = "wasm32").then_some(2), ..LoadOptions::default() }
}

fn gpu(testbed: &Rc<Testbed>) -> GpuOptions {
    GpuOptions { testbed: Some(Rc::clone(testbed)), ..GpuOptions::default() }
}

async fn load(testbed: &Rc<Testbed>, options: &LoadOptions, host: &dyn Host) -> Result<GpuEngine, StageError> {
    engine_of(memory("nano", MODEL), &gpu(testbed), options, host).await
}

/// When the device is lost, the stage that notices, and how many tokens of the answer are replayed then.
type Moment = (fn(&Event) -> bool, Stage, u32);

fn token_3(event: &Event) -> bool {
    matches!(event, Event::Token(token) if token.index == 3)
}

fn first_batch(event: &Event) -> bool {
    matches!(event, Event::Prefill { done_tokens: 64, .. })
}

fn after_prefill(event: &Event) -> bool {
    matches!(event, Event::Stage { stage: Stage::Decode, status: StageStatus::Started, .. })
}

/// Loads once, then answers undisturbed and with a loss at each moment: the same tokens with the same probabilities.
async fn losses_do_not_change_answers(options: LoadOptions, sampling: Sampling, moments: &[Moment]) {
    let testbed = Rc::new(Testbed::default());
    let calm = Saboteur::idle(&testbed);
    let mut engine = load(&testbed, &options, &calm).await.expect("nano loads");
    let right = engine.answer(&prompt(sampling), &calm).await.expect("an answer");
    let prompt_tokens = engine.encode(&prompt(sampling)).len() as u32;
    assert!(prompt_tokens > 64 && right.tokens.len() > 5, "{prompt_tokens} and {} tokens", right.tokens.len());
    for &(when, stage, generated) in moments {
        let host = Saboteur::new(&testbed, 1, when);
        let answer = engine.answer(&prompt(sampling), &host).await.expect("the answer goes on");
        assert_eq!(answer.tokens, right.tokens, "{stage:?}");
        assert_eq!(answer.final_text(), right.final_text());
        assert_eq!(host.tokens(), calm.tokens(), "replayed tokens leave the same state");
        let losses = host.losses();
        assert_eq!(losses, [(stage, prompt_tokens + generated)]);
        assert_eq!(host.recoveries(), [prompt_tokens + generated]);
        assert_eq!(testbed.allocated_bytes(), engine.model.plan().totals.gpu_total_bytes, "one model is held");
        let submits = engine.model.work_counters().submits;
        assert!(submits > 0 && engine.model.model().is_some());
    }
    assert_eq!(testbed.devices_opened(), 1 + moments.len());
}

const MOMENTS: [Moment; 3] =
    [(first_batch, Stage::Prefill, 0), (token_3, Stage::Decode, 4), (after_prefill, Stage::Decode, 1)];

async fn greedy_answers_survive(moments: usize) {
    losses_do_not_change_answers(options(), Sampling::default(), &MOMENTS[..moments]).await;
}

/// What a load does when its device is lost at the beginning of `stage`, and how the model answers then.
async fn a_load_survives_a_loss_in(stage: Stage, right: &Answer) {
    let testbed = Rc::new(Testbed::default());
    let begins = move |event: &Event| match event {
        // There is a device only when this one ends.
        Event::Stage { stage: Stage::GpuDevice, status: StageStatus::Completed, .. } => stage == Stage::GpuDevice,
        // The device is lost in the middle of the load, not before it.
        Event::Fetch { fetched_bytes, needed_bytes, .. } => {
            stage == Stage::WeightsFetch && 2 * fetched_bytes > *needed_bytes
        }
        Event::Stage { stage: started, status: StageStatus::Started, .. } => {
            *started == stage && stage != Stage::GpuDevice && stage != Stage::WeightsFetch
        }
        _ => false,
    };
    let host = Saboteur::new(&testbed, 1, begins);
    let mut engine = load(&testbed, &options(), &host).await.expect("the second device is good");
    assert_eq!(host.times.get(), 0, "{stage:?}: the device was lost");
    let answer = engine.answer(&prompt(Sampling::default()), &host).await.expect("an answer");
    assert_eq!(answer.tokens, right.tokens, "{stage:?}");
    assert_eq!(testbed.devices_opened(), 2, "{stage:?}");
    assert_eq!(host.losses().len(), 1, "{stage:?}");
    assert_eq!(testbed.allocated_bytes(), engine.model.plan().totals.gpu_total_bytes, "{stage:?}");
}

async fn every_stage_of_loading_survives_a_loss(stages: &[Stage]) {
    let testbed = Rc::new(Testbed::default());
    let calm = Saboteur::idle(&testbed);
    let mut engine = load(&testbed, &options(), &calm).await.expect("nano loads");
    let right = engine.answer(&prompt(Sampling::default()), &calm).await.expect("an answer");
    drop(engine);
    assert_eq!(testbed.allocated_bytes(), 0);
    for &stage in stages {
        a_load_survives_a_loss_in(stage, &right).await;
    }
}

async fn a_load_that_always_loses_its_gpu_is_an_error() {
    let testbed = Rc::new(Testbed::default());
    let kernels =
        |event: &Event| matches!(event, Event::Stage { stage: Stage::Kernels, status: StageStatus::Started, .. });
    let host = Saboteur::new(&testbed, u32::MAX, kernels);
    let error = load(&testbed, &options(), &host).await.err().expect("there is no good device");
    assert_eq!((error.stage, error.failure().kind), (Stage::Kernels, FailureKind::DeviceLost), "{error}");
    assert!(matches!(error.error, EngineError::LostTooOften { .. }), "{error}");
    assert_eq!(testbed.devices_opened() as u32, 1 + MAX_RECOVERIES);
    assert_eq!(testbed.allocated_bytes(), 0);
}

/// Longer than any batch or compilation of these tests takes here.
const PATIENCE: Duration = Duration::from_secs(if cfg!(target_arch = "wasm32") { 8 } else { 5 });

/// Not every browser says that a GPU is gone: it may refuse reads without a reason, or never complete what was asked
/// for.
async fn a_loss_that_nobody_tells_of_is_survived() {
    let testbed = Rc::new(Testbed::default());
    testbed.limit_patience(PATIENCE);
    let calm = Saboteur::idle(&testbed);
    let mut engine = load(&testbed, &options(), &calm).await.expect("nano loads");
    let right = engine.answer(&prompt(Sampling::default()), &calm).await.expect("an answer");
    for (how, when, words) in [
        (Loss::Refusing, token_3 as fn(&Event) -> bool, "reading back was refused"),
        (Loss::Silent, first_batch, "no answer within"),
    ] {
        let host = Saboteur { how, ..Saboteur::new(&testbed, 1, when) };
        let answer = engine.answer(&prompt(Sampling::default()), &host).await.expect("the answer goes on");
        assert_eq!(answer.tokens, right.tokens, "{how:?}");
        let events = host.events.borrow();
        let reason = |event: &Event| match event {
            Event::Recovering { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        let reasons: Vec<_> = events.iter().filter_map(reason).collect();
        assert!(matches!(&reasons[..], [reason] if reason.contains(words)), "{how:?}: {reasons:?}");
        assert_eq!(testbed.allocated_bytes(), engine.model.plan().totals.gpu_total_bytes, "one model is held");
    }
    assert_eq!(testbed.devices_opened(), 3);
}

everywhere!(untold, a_loss_that_nobody_tells_of_is_survived());
everywhere!(greedy, greedy_answers_survive(if cfg!(target_arch = "wasm32") { 2 } else { MOMENTS.len() }));
everywhere!(always_lost_at_load, a_load_that_always_loses_its_gpu_is_an_error());

#[cfg(target_arch = "wasm32")]
everywhere!(loading, every_stage_of_loading_survives_a_loss(&[Stage::GpuMemory, Stage::WeightsFetch]));

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use gptoss_protocol::ExpertLoading;

    use super::*;

    const SEEDED: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 0.9, min_p: 0.0, seed: 11 };
    /// Samples from more tokens than there are candidates, so that all logits are read for every draw.
    const OF_MANY: Sampling = Sampling { top_k: 200, seed: 5, ..SEEDED };

    /// Enough is enough: the error says how often, and everything is freed. A later question begins anew.
    async fn a_gpu_that_is_always_lost_is_an_error() {
        let testbed = Rc::new(Testbed::default());
        let calm = Saboteur::idle(&testbed);
        let mut engine = load(&testbed, &options(), &calm).await.expect("nano loads");
        let question = prompt(Sampling::default());
        let right = engine.answer(&question, &calm).await.expect("an answer");

        // Every device is lost at its first batch.
        let host = Saboteur { at_batches: true, ..Saboteur::idle(&testbed) };
        let error = engine.answer(&question, &host).await.expect_err("there is no good device");
        assert_eq!((error.stage, error.failure().kind), (Stage::Prefill, FailureKind::DeviceLost), "{error}");
        assert!(matches!(error.error, EngineError::LostTooOften { recoveries: MAX_RECOVERIES, .. }), "{error}");
        assert!(!error.failure().advice.is_empty());
        assert_eq!(host.losses().len() as u32, MAX_RECOVERIES);
        assert_eq!(testbed.devices_opened() as u32, 1 + MAX_RECOVERIES);
        assert_eq!(testbed.allocated_bytes(), 0, "nothing is held");
        assert!(engine.model.model().is_none() && engine.position() == 0);

        let again = engine.answer(&question, &calm).await.expect("the next device is good");
        assert_eq!(again.tokens, right.tokens);
    }

    /// STOP while a device is being replaced takes effect, frees everything, and leaves an engine that can answer.
    async fn a_rebuild_can_be_stopped() {
        let testbed = Rc::new(Testbed::default());
        let calm = Saboteur::idle(&testbed);
        let mut engine = load(&testbed, &options(), &calm).await.expect("nano loads");
        let question = prompt(Sampling::default());
        let right = engine.answer(&question, &calm).await.expect("an answer");
        let host = Saboteur { impatient: true, ..Saboteur::new(&testbed, 1, token_3) };
        let error = engine.answer(&question, &host).await.expect_err("stopped");
        assert!(error.is_cancelled() && error.stage == Stage::Decode, "{error}");
        assert_eq!((testbed.allocated_bytes(), testbed.devices_opened()), (0, 1));
        let again = engine.answer(&question, &calm).await.expect("the next device is good");
        assert_eq!(again.tokens, right.tokens);
    }

    everywhere!(
        loading,
        every_stage_of_loading_survives_a_loss(&[
            Stage::GpuDevice,
            Stage::GgufHeader,
            Stage::MemoryPlan,
            Stage::Tokenizer,
            Stage::Kernels,
            Stage::SelfCheck,
            Stage::GpuMemory,
            Stage::WeightsFetch,
        ])
    );
    everywhere!(always_lost, a_gpu_that_is_always_lost_is_an_error());
    everywhere!(stopped, a_rebuild_can_be_stopped());
    everywhere!(seeded, losses_do_not_change_answers(options(), SEEDED, &MOMENTS));

    /// The draw that needs all logits finds no device to read them from.
    #[test]
    fn a_draw_from_all_logits_survives() {
        // After a draw that the candidates settle, the next token would be the first to notice.
        let moment: Moment = (after_prefill, Stage::Decode, 0);
        crate::support::run(losses_do_not_change_answers(options(), OF_MANY, &[moment]));
    }

    /// With the fewest slots experts come and go all the time, also while tokens are replayed.
    #[test]
    fn paged_answers_survive() {
        crate::support::run(async {
            let testbed = Rc::new(Testbed::default());
            let engine = load(&testbed, &options(), &Saboteur::idle(&testbed)).await.expect("nano loads");
            let four_slots = engine.model.plan().expert_bytes(4);
            let options = LoadOptions { expert_memory_bytes: Some(four_slots), ..LoadOptions::default() };
            losses_do_not_change_answers(options, Sampling::default(), &MOMENTS[..2]).await;
        });
    }

    /// The device is lost while most experts are still to come: those that the next device misses come again.
    #[test]
    fn answers_survive_while_experts_are_read_as_needed() {
        let options = LoadOptions { experts: ExpertLoading::AsNeeded, ..options() };
        crate::support::run(losses_do_not_change_answers(options, Sampling::default(), &MOMENTS[..2]));
    }

    /// After a crash of its GPU process a browser has no adapter for a moment; without a loss, a missing adapter is an
    /// error.
    #[test]
    fn an_adapter_that_comes_back_is_waited_for() {
        crate::support::run(async {
            let testbed = Rc::new(Testbed::default());
            let calm = Saboteur::idle(&testbed);
            let mut engine = load(&testbed, &options(), &calm).await.expect("nano loads");
            let right = engine.answer(&prompt(Sampling::default()), &calm).await.expect("an answer");
            let host = Saboteur::new(&testbed, 1, token_3);
            testbed.hide_adapters(1);
            let answer = engine.answer(&prompt(Sampling::default()), &host).await.expect("the answer goes on");
            assert_eq!(answer.tokens, right.tokens);
            assert_eq!((host.losses().len(), host.awaited()), (1, 1), "a look that finds no adapter is no loss");

            testbed.hide_adapters(1);
            let error = load(&testbed, &options(), &calm).await.err().expect("no adapter");
            assert_eq!((error.stage, error.failure().kind), (Stage::GpuDevice, FailureKind::NoGpu), "{error}");
        });
    }

    /// Waiting has an end, and can be stopped; nothing is held meanwhile, and a later question begins anew.
    #[test]
    fn an_adapter_that_does_not_come_back_is_an_error() {
        crate::support::run(async {
            let testbed = Rc::new(Testbed::default());
            let calm = Saboteur::idle(&testbed);
            let mut engine = load(&testbed, &options(), &calm).await.expect("nano loads");
            let question = prompt(Sampling::default());
            let right = engine.answer(&question, &calm).await.expect("an answer");

            testbed.hide_adapters(u32::MAX);
            let host = Saboteur::new(&testbed, 1, token_3);
            let error = engine.answer(&question, &host).await.expect_err("there is no adapter");
            assert_eq!((error.stage, error.failure().kind), (Stage::Decode, FailureKind::DeviceLost), "{error}");
            assert!(matches!(error.error, EngineError::NoGpuAfterLoss { .. }), "{error}");
            assert!(error.to_string().ends_with("no usable GPU adapter: the test hides it"), "{error}");
            assert!(!error.failure().advice.is_empty());
            assert_eq!(host.losses().len(), 1);
            assert!((2..20).contains(&host.awaited()), "{} looks", host.awaited());
            assert_eq!(testbed.allocated_bytes(), 0);

            let host = Saboteur { impatient: true, ..Saboteur::idle(&testbed) };
            let error = engine.answer(&question, &host).await.expect_err("stopped");
            assert!(error.is_cancelled() && host.awaited() == 1, "{error} after {} looks", host.awaited());

            testbed.hide_adapters(0);
            let again = engine.answer(&question, &calm).await.expect("it is back");
            assert_eq!(again.tokens, right.tokens);
        });
    }
}
