//! STOP: whenever it comes and whatever is waited for, the engine ends with `Cancelled`, nothing more is done than was
//! under way, and the next use is as good as the first. Natively and in headless Chromium.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::support::{FaultySource, Reads, engine_of, memory};
use gptoss_engine::{GpuEngine, Loader, open_engine};
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::Testbed;
use gptoss_model::{Answers, AwaitPoint, Host, LoadProposal, Quiet, StageError};
use gptoss_protocol::{Event, ExpertLoading, LoadOptions, Prompt, PromptFormat, Sampling};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// Three batches to read, or two in Chromium, whose software adapter is slow. From more tokens than there are candidates: all logits are read for every draw.
fn long_prompt() -> Prompt {
    Prompt {
        user: "What is 12 + 30? ".repeat(if cfg!(target_arch = "wasm32") { 14 } else { 24 }),
        format: PromptFormat::Text,
        instructions: String::new(),
        effort: Default::default(),
        date: None,
        max_new_tokens: 3,
        sampling: Sampling { temperature: 1.0, top_k: 200, top_p: 0.9, min_p: 0.0, seed: 11 },
        ..Prompt::default()
    }
}

/// Two of six layers, since software adapters are slow: what they say is no answer, but always the same.
fn options() -> LoadOptions {
    LoadOptions { layers: Some(2), ..LoadOptions::default() }
}

/// Somebody who presses STOP when the event of this number comes.
struct StopAt {
    number: usize,
    events: RefCell<Vec<Event>>,
}

impl StopAt {
    fn new(number: usize) -> Self {
        Self { number, events: RefCell::default() }
    }

    /// What was done after STOP, beyond what was under way: the pieces of a read that has come are put where they
    /// belong.
    fn done_since(&self) -> Vec<Event> {
        let events = self.events.borrow();
        let since = events.get(self.number + 1..).unwrap_or_default();
        let under_way = since.iter().position(|event| matches!(event, Event::Fetch { .. }));
        let is_work = |(index, event): &(usize, &Event)| match event {
            Event::Prefill { .. } | Event::Token(_) | Event::Missing(_) | Event::Model(_) | Event::SelfCheck(_) => true,
            Event::Fetch { .. } => Some(*index) != under_way,
            _ => false,
        };
        since.iter().enumerate().filter(is_work).map(|(_, event)| event.clone()).collect()
    }

    fn pressed(&self) -> bool {
        self.events.borrow().len() > self.number
    }
}

impl Host for StopAt {
    fn emit(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn cancelled(&self) -> bool {
        self.pressed()
    }
}

/// First, second and last of every kind; stages by name and status.
fn telling_moments(events: &[Event]) -> Vec<usize> {
    let kind = |event: &Event| match event {
        Event::Stage { stage, status, .. } => format!("{stage:?} {status:?}"),
        other => format!("{:?}", std::mem::discriminant(other)),
    };
    let mut moments = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let of_kind = |other: &&Event| kind(other) == kind(event);
        let (before, after) = (events[..index].iter().filter(of_kind).count(), &events[index + 1..]);
        if before < 2 || !after.iter().any(|other| of_kind(&other)) {
            moments.push(index);
        }
    }
    moments
}

/// The event is the last thing before the end, or the end: nobody is asked any more.
fn is_over(events: &[Event], number: usize) -> bool {
    let asks = |event: &Event| matches!(event, Event::Stage { .. } | Event::Prefill { .. } | Event::Token(_));
    matches!(events[number], Event::Finished { .. }) || !events[number + 1..].iter().any(asks)
}

/// STOP at any moment of a load: the engine returns `Cancelled`, never something half done.
async fn loading_can_be_stopped_at_every_point() {
    let calm = StopAt::new(usize::MAX);
    let load = async |host: &StopAt| {
        engine_of(memory("nano", MODEL), &GpuOptions::default(), &options(), host).await.map(drop)
    };
    load(&calm).await.expect("nano loads");
    let events = calm.events.take();
    let mut moments = telling_moments(&events);
    moments.retain(|_| !cfg!(target_arch = "wasm32"));
    for number in moments {
        let host = StopAt::new(number);
        match load(&host).await {
            Err(error) => assert!(error.is_cancelled(), "at {:?}: {error}", events[number]),
            Ok(()) => assert!(is_over(&events, number), "{:?} did not end it", events[number]),
        }
        assert_eq!(host.done_since(), [], "STOP at {:?}", events[number]);
    }
}

/// A host for which nothing that is awaited ever comes once the engine waits at `at`; then somebody presses STOP.
struct Hanging {
    at: AwaitPoint,
    testbed: Rc<Testbed>,
    source: Rc<FaultySource>,
    reached: Cell<bool>,
    pressed: Cell<bool>,
}

impl Host for Hanging {
    fn emit(&self, _event: Event) {}

    fn cancelled(&self) -> bool {
        self.pressed.get()
    }

    fn awaiting(&self, at: AwaitPoint) {
        if at == self.at && !self.reached.replace(true) {
            self.testbed.hang(true);
            self.source.reads.set(Reads::Hang);
        }
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(poll_fn(|context| {
            // Only once it was waited in vain.
            if self.reached.get() && !self.pressed.replace(true) {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        }))
    }

    fn approve<'a>(&'a self, _proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        if self.reached.get() { Box::pin(pending()) } else { Box::pin(std::future::ready(())) }
    }
}

/// Everything that an engine waits for: a load, a prompt that misses experts, an answer, the rest, a lost GPU that is
/// replaced after a moment without any.
async fn use_it(engine: &mut Option<GpuEngine>, host: &Hanging) -> Result<(), StageError> {
    let options = LoadOptions { experts: ExpertLoading::AsNeeded, ..options() };
    let gpu = GpuOptions { testbed: Some(Rc::clone(&host.testbed)), ..GpuOptions::default() };
    let engine = engine.insert(engine_of(host.source.clone(), &gpu, &options, host).await?);
    engine.answer(&long_prompt(), host).await?;
    host.testbed.hide_adapters(1);
    host.testbed.lose_device();
    engine.answer(&long_prompt(), host).await.map(drop)
}

/// All of `AwaitPoint::ALL` that occur for a model whose weights never get ahead of the GPU.
fn points() -> impl Iterator<Item = AwaitPoint> {
    AwaitPoint::ALL.into_iter().filter(|point| *point != AwaitPoint::Uploads)
}

/// Whatever never comes, STOP does not wait for it; and then the same engine, or the next, gives the right answer.
async fn every_wait_can_be_stopped(began: impl Fn(AwaitPoint)) {
    let load = async || engine_of(memory("nano", MODEL), &GpuOptions::default(), &options(), &Quiet).await;
    let right = load().await.expect("nano loads").answer(&long_prompt(), &Quiet).await.expect("an answer").tokens;
    for at in points() {
        began(at);
        let (testbed, source) = (Rc::new(Testbed::default()), Rc::new(FaultySource::new("nano", MODEL)));
        let host = Hanging { at, testbed, source, reached: Cell::new(false), pressed: Cell::new(false) };
        let mut engine = None;
        let error = use_it(&mut engine, &host).await.expect_err("nothing that is waited for comes");
        assert!(host.reached.get() && error.is_cancelled(), "{at:?}: {error}");
        host.testbed.hang(false);
        host.source.reads.set(Reads::Good);
        let mut engine = match engine {
            Some(engine) => engine,
            // Loads and answers take Chromium seconds. The points of an answer come last, and each of them loads anew.
            None if cfg!(target_arch = "wasm32") => continue,
            None => load().await.expect("the next load goes well"),
        };
        let answer = engine.answer(&long_prompt(), &Quiet).await.expect("an answer");
        assert_eq!(answer.tokens, right, "after STOP at {at:?}");
    }
}

/// Somebody who presses STOP when the token of this number comes.
struct StopAtToken(u32, Cell<bool>);

impl Host for StopAtToken {
    fn emit(&self, event: Event) {
        if matches!(event, Event::Token(token) if token.index == self.0) {
            self.1.set(true);
        }
    }

    fn cancelled(&self) -> bool {
        self.1.get()
    }
}

/// Answers at once, whose draws read all logits: STOP of one in the middle of a batch's draws takes nothing from the other.
async fn one_of_several_answers_can_be_stopped() {
    let prompt = |seed| {
        let sampling = Sampling { seed, ..long_prompt().sampling };
        Prompt { user: "What is 12 + 30?".into(), max_new_tokens: 5, sampling, ..long_prompt() }
    };
    let (source, gpu) = (memory("nano", MODEL), GpuOptions::default());
    let loader = Loader { source, gpu, options: options(), all_logits: false, sequences: 2 };
    let mut engine = open_engine(loader, None, &Quiet).await.expect("nano loads");
    let right = engine.answer(&prompt(1), &Quiet).await.expect("an answer").tokens;
    for (at, order) in (0..4).flat_map(|at| [(at, [1, 2]), (at, [2, 1])]) {
        let mut answers = Answers::default();
        for tag in order {
            let host: Rc<dyn Host> = if tag == 1 { Rc::new(Quiet) } else { Rc::new(StopAtToken(at, Cell::new(false))) };
            answers.begin_prompt(&mut engine, tag, &prompt(tag), host).expect("it begins");
        }
        while !answers.is_empty() {
            for ended in answers.step(&mut engine, &Quiet).await {
                match ended.result {
                    Ok(answer) => assert_eq!((ended.tag, &answer.tokens), (1, &right), "{order:?} at {at}"),
                    Err(error) => assert!(ended.tag == 2 && error.is_cancelled(), "{order:?} at {at}: {error}"),
                }
            }
        }
    }
}

everywhere!(loading, loading_can_be_stopped_at_every_point());
everywhere!(several, one_of_several_answers_can_be_stopped());

#[cfg(target_arch = "wasm32")]
everywhere!(waits, every_wait_can_be_stopped(|_| {}));

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    use gptoss_model::{AnswerLimits, Reading, Sampler};
    use gptoss_synth::{Spec, TensorType, TypeMix};

    use super::*;

    everywhere!(answering, cancelling_works_at_every_point());

    /// STOP at any moment of an answer, also while a long prompt is read: not one batch and not one token more. What
    /// was read stays, and the question asked again gets its answer.
    async fn cancelling_works_at_every_point() {
        let engine = engine_of(memory("nano", MODEL), &GpuOptions::default(), &options(), &Quiet).await;
        let mut engine = engine.expect("nano loads");
        let question = long_prompt();
        let tokens = engine.encode(&question);
        let batch_tokens = gptoss_engine::DEFAULT_BATCH_TOKENS;
        assert!(tokens.len() as u32 > 2 * batch_tokens, "{} tokens are no long prompt", tokens.len());
        let limits =
            AnswerLimits { max_new_tokens: 3, reading: Reading::Text, reuse_prefix: true, ..Default::default() };
        let calm = StopAt::new(usize::MAX);
        let right = engine.answer(&question, &calm).await.expect("an answer").tokens;
        let events = calm.events.take();
        let mut batches_seen = 0;
        for number in telling_moments(&events) {
            let host = StopAt::new(number);
            match engine.answer(&question, &host).await {
                Err(error) => assert!(error.is_cancelled(), "at {:?}: {error}", events[number]),
                Ok(_) => assert!(is_over(&events, number), "{:?} did not end it", events[number]),
            }
            assert_eq!(host.done_since(), [], "STOP at {:?}", events[number]);
            let Event::Prefill { done_tokens, total_tokens, .. } = events[number] else { continue };
            batches_seen += 1;
            assert_eq!(engine.position(), done_tokens, "what was read is held");
            let sampler = Sampler::new(question.sampling).expect("valid");
            let again = engine.answer_tokens(&tokens, sampler, &limits, &Quiet).await.expect("an answer");
            assert_eq!(again.tokens, right, "after STOP at {done_tokens} of {total_tokens} tokens");
            assert_eq!(again.reused_tokens, done_tokens.min(total_tokens - 1), "and used again");
        }
        assert!(batches_seen >= 3, "{batches_seen} batches");
        assert_eq!(engine.answer(&question, &Quiet).await.expect("an answer").tokens, right);
    }

    /// Longer than anything between two steps takes; not for ever.
    const BOUND: Duration = Duration::from_secs(120);

    /// Runs a test that may hang on a thread of its own, and says at which of its steps it does.
    fn run_bounded<F: Future<Output = ()>>(test: impl FnOnce(Sender<AwaitPoint>) -> F + Send + 'static) {
        let (steps, begun) = channel();
        let thread = std::thread::spawn(move || crate::support::run(test(steps)));
        let mut last = None;
        loop {
            match begun.recv_timeout(BOUND) {
                Ok(step) => last = Some(step),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it hangs at {last:?}"),
            }
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }

    #[test]
    fn waits() {
        run_bounded(|steps| every_wait_can_be_stopped(move |at| steps.send(at).expect("somebody listens")));
    }

    /// A model that is larger than what the GPU may be behind.
    #[test]
    fn a_gpu_that_is_behind_with_uploads_can_be_stopped() {
        run_bounded(|steps| async move {
            steps.send(AwaitPoint::Uploads).expect("somebody listens");
            let spec = Spec::tiny().layers(2).hidden(512).ff(512).experts(32).types(TypeMix::Uniform(TensorType::F16));
            let file = spec.to_bytes().expect("a model that can be made");
            let (testbed, source) = (Rc::new(Testbed::default()), Rc::new(FaultySource::new("large", &file)));
            let gpu = GpuOptions { testbed: Some(Rc::clone(&testbed)), ..GpuOptions::default() };
            let at = AwaitPoint::Uploads;
            let host = Hanging { at, testbed, source, reached: Cell::new(false), pressed: Cell::new(false) };
            let loaded = engine_of(host.source.clone(), &gpu, &LoadOptions::default(), &host).await;
            let error = loaded.err().expect("the GPU does not answer");
            assert!(host.reached.get() && error.is_cancelled(), "{error}");
            assert_eq!(host.testbed.allocated_bytes(), 0, "nothing is held");
        });
    }
}
