//! Experts that come when a token needs them, and the others when there is nothing else to do: the same answers as with
//! all of them loaded first. Natively and in headless Chromium.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::support::{FaultySource, Reads, Recorder, engine_of, memory};
use gptoss_engine::GpuEngine;
use gptoss_kernels::{GpuOptions, Status};
use gptoss_model::{Backend, EngineError, Host, Quiet};
use gptoss_protocol::{Effort, Event, ExpertLoading, LoadOptions, Prefetch, Prompt, PromptFormat, Sampling};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
const LAYERS: u32 = if cfg!(target_arch = "wasm32") { 2 } else { 6 };
const EXPERTS: u32 = 8;

fn options(experts: ExpertLoading) -> LoadOptions {
    LoadOptions { layers: Some(LAYERS), experts, ..LoadOptions::default() }
}

/// One token to read, and none to answer: it needs four of eight experts in every layer.
fn one_token() -> Prompt {
    Prompt {
        user: "a".into(),
        format: PromptFormat::Text,
        instructions: String::new(),
        effort: Effort::Low,
        date: None,
        max_new_tokens: 0,
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

fn several_tokens() -> Prompt {
    Prompt { user: "What is 12 + 30?".into(), max_new_tokens: 6, ..one_token() }
}

async fn load(options: &LoadOptions, host: &dyn Host) -> GpuEngine {
    engine_of(memory("nano", MODEL), &GpuOptions::default(), options, host).await.expect("nano loads")
}

fn rests(host: &Recorder) -> Vec<Prefetch> {
    let events = host.events.borrow();
    events.iter().filter_map(|event| if let Event::Prefetch(rest) = event { Some(*rest) } else { None }).collect()
}

/// Loads without experts, answers with those that it needs, reads the rest, and answers with all.
async fn the_rest_comes_after_the_answer() {
    let right = load(&options(ExpertLoading::Ahead), &Quiet).await;
    let all_bytes = right.model.plan().totals.all_bytes;
    let mut right = right;
    assert!(!right.model.wants_prefetch());
    let right_several = right.answer(&several_tokens(), &Quiet).await.expect("an answer").tokens;

    let mut engine = load(&options(ExpertLoading::AsNeeded), &Quiet).await;
    let plan = engine.model.plan().totals.clone();
    let (loaded, cache) = (engine.model.work_counters(), engine.model.cache_counters());
    assert!(plan.load_bytes < plan.first_token_bytes && plan.first_token_bytes < plan.all_bytes, "{plan:?}");
    assert_eq!((plan.all_bytes, plan.paged, plan.on_disk_bytes), (all_bytes, false, 0), "all of them fit");
    assert_eq!(loaded.weights_fetched_bytes, plan.load_bytes);
    assert_eq!((cache.resident, cache.slots), (0, LAYERS * EXPERTS));

    engine.answer(&one_token(), &Quiet).await.expect("it is read");
    let (work, cache) = (engine.model.work_counters(), engine.model.cache_counters());
    assert_eq!(cache.resident, LAYERS * 4, "what one token needs");
    assert_eq!(work.weights_fetched_bytes, plan.first_token_bytes, "as the plan said");

    let host = Recorder::default();
    assert!(engine.model.wants_prefetch());
    engine.model.prefetch(&host).await.expect("the rest comes");
    assert!(!engine.model.wants_prefetch());
    let (work, cache) = (engine.model.work_counters(), engine.model.cache_counters());
    assert_eq!((work.weights_fetched_bytes, work.weights_used_bytes), (plan.all_bytes, plan.all_bytes), "once each");
    assert_eq!((cache.resident, cache.evictions), (LAYERS * EXPERTS, 0));
    let rests = rests(&host);
    let last = rests.last().expect("it is told");
    assert_eq!((last.resident, last.slots, last.missing_bytes), (cache.resident, cache.slots, 0));
    assert!(rests.windows(2).all(|pair| pair[0].missing_bytes > pair[1].missing_bytes), "{rests:?}");
    assert!(rests.iter().all(|rest| rest.bytes_per_second.is_some_and(|rate| rate > 0.0)), "{rests:?}");

    let answer = engine.answer(&several_tokens(), &Quiet).await.expect("an answer");
    assert_eq!(answer.tokens, right_several);
    let after = engine.model.work_counters();
    assert_eq!(engine.model.cache_counters().misses, cache.misses, "nothing is missed any more");
    let submits = after.submits - work.submits;
    let status_bytes = after.status_readback_bytes - work.status_readback_bytes;
    assert_eq!(status_bytes, submits * Status::SIZE_BYTES, "and nobody asks any more who goes first");
    engine.model.prefetch(&host).await.expect("nothing to do");
    assert_eq!(engine.model.work_counters().weights_fetched_bytes, plan.all_bytes);
}

/// There is room for five of eight experts in every layer: three stay out, and nothing that is needed has to go for the
/// others.
async fn free_slots_are_filled_and_no_more() {
    let whole = load(&options(ExpertLoading::Ahead), &Quiet).await;
    let five_slots = whole.model.plan().expert_bytes(5);
    drop(whole);
    let paged = LoadOptions { expert_memory_bytes: Some(five_slots), ..options(ExpertLoading::AsNeeded) };
    let mut engine = load(&paged, &Quiet).await;
    engine.answer(&one_token(), &Quiet).await.expect("it is read");
    let before = engine.model.cache_counters();
    engine.model.prefetch(&Quiet).await.expect("the rest comes");
    let cache = engine.model.cache_counters();
    assert_eq!((before.resident, cache.resident, cache.evictions), (LAYERS * 4, LAYERS * 5, 0));
    engine.answer(&one_token(), &Quiet).await.expect("it is read");
    assert_eq!(engine.model.cache_counters().misses, before.misses);
}

/// A question, or STOP, in the middle of it: what came stays, what did not comes later.
async fn reading_the_rest_can_be_interrupted() {
    struct Interrupts {
        after: u32,
        seen: Cell<u32>,
    }
    impl Host for Interrupts {
        fn emit(&self, event: Event) {
            self.seen.set(self.seen.get() + u32::from(matches!(event, Event::Prefetch(_))));
        }
        fn cancelled(&self) -> bool {
            self.seen.get() >= self.after
        }
    }
    let mut right = load(&options(ExpertLoading::Ahead), &Quiet).await;
    let right = right.answer(&several_tokens(), &Quiet).await.expect("an answer").tokens;
    for after in [0, 1, 3] {
        let mut engine = load(&options(ExpertLoading::AsNeeded), &Quiet).await;
        let error = engine.model.prefetch(&Interrupts { after, seen: Cell::new(0) }).await.expect_err("interrupted");
        assert!(matches!(error, EngineError::Cancelled), "{error}");
        assert_eq!(engine.model.cache_counters().resident, after * 4);
        let answer = engine.answer(&several_tokens(), &Quiet).await.expect("an answer");
        assert_eq!(answer.tokens, right, "interrupted after {after}");
        engine.model.prefetch(&Quiet).await.expect("the rest comes");
        assert_eq!(engine.model.work_counters().weights_fetched_bytes, engine.model.plan().totals.all_bytes);
    }
}

/// A host that fails, and one that says nothing any more: the model is as good as before.
async fn a_failing_source_leaves_the_model_as_it_was() {
    /// Interrupts as soon as a read hangs.
    struct Impatient(Rc<FaultySource>, RefCell<Vec<Event>>);
    impl Host for Impatient {
        fn emit(&self, event: Event) {
            self.1.borrow_mut().push(event);
        }
        fn cancelled(&self) -> bool {
            self.0.hangs.get()
        }
        fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
            Box::pin(poll_fn(|_| if self.0.hangs.get() { Poll::Ready(()) } else { Poll::Pending }))
        }
    }
    let source = Rc::new(FaultySource::new("nano", MODEL));
    let as_needed = options(ExpertLoading::AsNeeded);
    let mut engine = engine_of(source.clone(), &GpuOptions::default(), &as_needed, &Quiet).await.expect("nano loads");
    engine.answer(&one_token(), &Quiet).await.expect("it is read");
    let before = engine.model.cache_counters();
    source.reads.set(Reads::Fail);
    let error = engine.model.prefetch(&Quiet).await.expect_err("the source fails");
    assert!(matches!(error, EngineError::Source(_)), "{error}");
    source.reads.set(Reads::Hang);
    let host = Impatient(source.clone(), RefCell::default());
    let error = engine.model.prefetch(&host).await.expect_err("interrupted");
    assert!(matches!(error, EngineError::Cancelled) && source.hangs.get(), "{error}");
    assert_eq!(engine.model.cache_counters(), before);
    assert!(!host.1.borrow().iter().any(|event| matches!(event, Event::Prefetch(_))), "nothing came");
    engine.answer(&one_token(), &Quiet).await.expect("what it needs is there");
    source.reads.set(Reads::Good);
    engine.model.prefetch(&Quiet).await.expect("the rest comes");
    assert!(!engine.model.wants_prefetch());
    let mut right = load(&options(ExpertLoading::Ahead), &Quiet).await;
    let right = right.answer(&several_tokens(), &Quiet).await.expect("an answer").tokens;
    assert_eq!(engine.answer(&several_tokens(), &Quiet).await.expect("an answer").tokens, right);
}

/// What comes at once, between two tokens, is not told. (What may take minutes is: `pager.rs`.)
async fn a_token_says_nothing_of_what_it_waits_for() {
    let mut engine = load(&options(ExpertLoading::AsNeeded), &Quiet).await;
    let host = Recorder::default();
    engine.answer(&one_token(), &host).await.expect("it is read");
    let events = host.events.borrow();
    assert!(!events.iter().any(|event| matches!(event, Event::Missing(_))), "{events:?}");
}

everywhere!(after, the_rest_comes_after_the_answer());
everywhere!(told, a_token_says_nothing_of_what_it_waits_for());
everywhere!(slots, free_slots_are_filled_and_no_more());
everywhere!(interrupted, reading_the_rest_can_be_interrupted());
everywhere!(failing, a_failing_source_leaves_the_model_as_it_was());
