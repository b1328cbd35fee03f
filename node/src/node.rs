//! The node itself: what is done next, and what becomes of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{Either, join, select};
use futures_util::stream::FuturesUnordered;
use gptoss_model::{Answers, Backend, Engine, EngineError, Host, StageError, milliseconds_since};
use gptoss_protocol::{CacheAction, Command, Event, FailureKind, KvBlocks, Prompt, Request, RequestId, Stage};
use web_time::Instant;

use crate::hosts::{CommonHost, RequestHost};
use crate::platform::{Download, Downloaded, Gates, Load, Platform};
use crate::queue::{Queue, Waiting, Work};
use crate::signal::{Signal, give_turn};
use crate::teller::Teller;

/// One model at most, and requests about it. See the crate's documentation.
pub struct Node<P: Platform> {
    platform: Rc<P>,
    teller: Rc<Teller>,
    queue: Queue<P>,
    cache_actions: RefCell<VecDeque<(RequestId, CacheAction)>>,
    /// The model that is loaded, unless it is at work.
    engine: RefCell<Option<Engine<P::Model>>>,
    /// Questions are being answered; more may join them.
    answers: Cell<bool>,
    /// How the KV cache is used, as it was told last.
    kv_blocks: Cell<Option<KvBlocks>>,
    /// Something was submitted.
    arrived: Signal,
    cache_action_arrived: Signal,
    /// The prefetch is to end: somebody wants something else.
    end_prefetch: Signal,
    /// Nothing ends what has no end of its own.
    never: Signal,
}

impl<P: Platform> Node<P> {
    /// A node without a model.
    pub fn new(platform: Rc<P>, teller: Rc<Teller>) -> Self {
        Self {
            platform,
            teller,
            queue: Queue::default(),
            cache_actions: RefCell::default(),
            engine: RefCell::default(),
            answers: Cell::new(false),
            kv_blocks: Cell::new(None),
            arrived: Signal::default(),
            cache_action_arrived: Signal::default(),
            end_prefetch: Signal::default(),
            never: Signal::default(),
        }
    }

    /// Takes a request in, and what came beside it. Its id is another than those of requests that wait or are under way: the
    /// transport sees to that. STOP and approval act at once, everything else when its turn comes.
    pub fn submit(&self, request: Request, attachment: P::Attachment) {
        let Request { id, command, .. } = request;
        let work = match command {
            Command::Stop { request } => return self.stop(request),
            Command::Approve { load } => {
                return self.queue.running(Some(load)).iter().for_each(|host| host.approve());
            }
            Command::Watch { watch } => return self.teller.set_watch(watch),
            Command::Cache { action } => {
                self.cache_actions.borrow_mut().push_back((id, action));
                return self.cache_action_arrived.request();
            }
            Command::Load { model, options, prompt, remembered } => {
                self.platform.recall(remembered);
                Work::Load { model, options, prompt, attachment }
            }
            Command::Download { model, network, cache } => Work::Download { model, network, cache, attachment },
            Command::Gate { model, slice, whole } => Work::Gate { model, slice, whole, attachment },
            Command::Generate { prompt } => Work::Answer(prompt),
            Command::Count { prompt } => Work::Count(prompt),
        };
        self.queue.push(Rc::new(RequestHost::new(id, &self.platform, &self.teller)), work);
        self.end_prefetch.request();
        self.arrived.request();
        if !self.answers.get() && !self.queue.running(None).is_empty() {
            self.queue.tell_waiting();
        }
    }

    fn stop(&self, request: Option<RequestId>) {
        if request.is_none() {
            self.end_prefetch.request();
        }
        for host in self.queue.withdraw(request) {
            host.tell(Event::Stopped { model_loaded: self.has_model() });
        }
        for host in self.queue.running(request) {
            host.stop.request();
        }
    }

    /// Whether a model is loaded: idle, at work, or held until another is known to be good.
    fn has_model(&self) -> bool {
        let is_held = || self.queue.running(None).iter().any(|host| host.holds_model());
        self.answers.get() || self.engine.borrow().is_some() || is_held()
    }

    /// What `look` makes of the engine; `None` while there is none, or it is at work.
    pub fn with_engine<T>(&self, look: impl FnOnce(&mut Engine<P::Model>) -> T) -> Option<T> {
        self.engine.borrow_mut().as_mut().map(look)
    }

    /// Does what is asked for, for ever. When there is nothing to do, experts are prefetched.
    pub async fn run(&self) {
        let work = async {
            loop {
                self.arrived.clear();
                // Somebody who pressed STOP wants quiet; a host that failed is not asked at once for what nobody needs.
                if self.work_off().await {
                    self.prefetch().await;
                }
                self.arrived.requested().await;
            }
        };
        join(work, self.tend_cache()).await;
    }

    /// Does what was asked for so far, without a prefetch.
    pub async fn run_until_idle(&self) {
        self.work_off().await;
        loop {
            let Some((id, action)) = self.cache_actions.borrow_mut().pop_front() else { return };
            self.platform.cache(action, &self.common(Some(id))).await;
        }
    }

    /// Works the queue off; `true` if there was something and the last of it went well.
    async fn work_off(&self) -> bool {
        let mut went_well = false;
        while let Some(Waiting { host, work, .. }) = self.queue.begin_next() {
            self.teller.set_current(Some(host.id));
            went_well = match work {
                Work::Load { model, options, prompt, attachment } => {
                    let wanted =
                        Load { model: &model, attachment: &attachment, options: &options, prompt: prompt.as_ref() };
                    let loaded = self.load(wanted, &host).await;
                    match (loaded, prompt) {
                        (Ok(()), Some(prompt)) => self.answer(Rc::clone(&host), prompt).await,
                        (loaded, _) => self.settle(&host, loaded),
                    }
                }
                Work::Download { model, network, cache, attachment } => {
                    let wanted = Download { model: &model, attachment: &attachment, network: &network, cache: &cache };
                    let done = self.download(wanted, &host).await;
                    self.settle(&host, done)
                }
                Work::Gate { model, slice, whole, attachment } => {
                    let (slice, whole) = (slice.as_ref(), whole.as_ref());
                    let wanted = Gates { model: &model, attachment: &attachment, slice, whole };
                    let done = self.gate(wanted, &host).await;
                    self.settle(&host, done)
                }
                Work::Answer(prompt) => self.answer(host, prompt).await,
                Work::Count(prompt) => self.count(self.engine.borrow().as_ref(), &host, &prompt),
            };
            self.teller.set_current(None);
        }
        went_well
    }

    /// Whatever there is to do about the download cache, beside everything else.
    async fn tend_cache(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            self.cache_action_arrived.clear();
            for (id, action) in self.cache_actions.take() {
                under_way.push(async move { self.platform.cache(action, &self.common(Some(id))).await });
            }
            let arrived = pin!(self.cache_action_arrived.requested());
            if under_way.is_empty() {
                arrived.await;
            } else {
                select(under_way.next(), arrived).await;
            }
        }
    }

    fn common(&self, request: Option<RequestId>) -> CommonHost<'_, P> {
        CommonHost { platform: &self.platform, teller: &self.teller, request, end: &self.never }
    }

    /// A request that is not a question is over: tells how, if not well; `true` if well.
    fn settle(&self, host: &RequestHost<P>, done: Result<(), StageError>) -> bool {
        if done.as_ref().is_err_and(is_loss) {
            self.engine.take();
        }
        let model_loaded = self.engine.borrow().is_some();
        self.tell_end(host, done, model_loaded)
    }

    fn tell_end(&self, host: &RequestHost<P>, done: Result<(), StageError>, model_loaded: bool) -> bool {
        self.queue.ended(host.id);
        let Err(error) = done else { return true };
        host.tell(match error.is_cancelled() {
            true => Event::Stopped { model_loaded },
            false => Event::Failed { stage: error.stage, failure: error.failure() },
        });
        false
    }

    /// Loads a model in place of the one before. The one before is let go of once the new one was looked at, and before anything
    /// is allocated for it: two need not fit side by side.
    async fn load(&self, wanted: Load<'_, P::Attachment>, host: &Rc<RequestHost<P>>) -> Result<(), StageError> {
        host.hold(self.engine.take());
        let loaded = or_stop(host, self.platform.load(wanted, host.as_ref())).await;
        self.platform.settled(host.as_ref()).await;
        let (engine, done) = match loaded {
            Ok(engine) => (Some(engine), Ok(())),
            Err(error) => (host.take_held(), Err(error)),
        };
        if let Some(engine) = &engine {
            self.tell_kv_blocks(engine, &Answers::default());
        }
        self.engine.replace(engine);
        done
    }

    /// Caches all of a model. What is loaded stays loaded.
    async fn download(&self, wanted: Download<'_, P::Attachment>, host: &Rc<RequestHost<P>>) -> Result<(), StageError> {
        let begin = Instant::now();
        let done = or_stop(host, self.platform.download(wanted, host.as_ref())).await;
        let elapsed_ms = milliseconds_since(begin);
        self.platform.settled(host.as_ref()).await;
        let Downloaded { cached_bytes, model_bytes } = done?;
        host.tell(Event::Downloaded { cached_bytes, model_bytes, elapsed_ms });
        Ok(())
    }

    /// Runs gates, on a device of their own. What is loaded stays loaded.
    async fn gate(&self, wanted: Gates<'_, P::Attachment>, host: &Rc<RequestHost<P>>) -> Result<(), StageError> {
        let done = or_stop(host, self.platform.gate(wanted, host.as_ref())).await;
        self.platform.settled(host.as_ref()).await;
        done
    }

    /// Answers a question, and those that come meanwhile, as many at once as the backend has sequences for.
    async fn answer(&self, host: Rc<RequestHost<P>>, prompt: Prompt) -> bool {
        let Some(mut engine) = self.engine.take() else {
            return self.settle(&host, Err(StageError { stage: Stage::PromptEncode, error: EngineError::NoModel }));
        };
        self.answers.set(true);
        let mut went_well = true;
        let mut is_lost = false;
        let mut answers = Answers::default();
        let mut hosts = Vec::new();
        let mut next = Some((host, prompt));
        loop {
            while let Some((host, prompt)) = next.take() {
                let begun =
                    answers.begin_prompt(&mut engine, host.id.0, &prompt, Rc::clone(&host) as Rc<dyn Host + '_>);
                match begun {
                    Ok(()) => hosts.push(host),
                    Err(error) => went_well = self.tell_end(&host, Err(error), engine.model.is_there()),
                }
                next = if answers.has_room(&engine) { self.queue.begin_question() } else { None };
            }
            self.queue.tell_waiting();
            self.tell_kv_blocks(&engine, &answers);
            if answers.is_empty() {
                break;
            }
            let only = self.queue.only_running();
            self.teller.set_current(only);
            for ended in answers.step(&mut engine, &self.common(only)).await {
                let Some(at) = hosts.iter().position(|host| host.id.0 == ended.tag) else { continue };
                let host: Rc<RequestHost<P>> = hosts.remove(at);
                is_lost |= ended.result.as_ref().is_err_and(is_loss);
                went_well = self.tell_end(&host, ended.result.map(drop), engine.model.is_there());
            }
            while let Some((host, prompt)) = self.queue.begin_count() {
                self.count(Some(&engine), &host, &prompt);
            }
            give_turn().await;
            next = if answers.has_room(&engine) { self.queue.begin_question() } else { None };
        }
        drop(answers);
        self.answers.set(false);
        // A model that was stopped between two devices is nothing to keep.
        self.engine.replace((engine.model.is_there() && !is_lost).then_some(engine));
        went_well
    }

    /// Tells how the KV cache is used, if that has changed and somebody wants to know.
    fn tell_kv_blocks(&self, engine: &Engine<P::Model>, answers: &Answers<'_>) {
        if !self.platform.wants_kv_blocks() {
            return;
        }
        let now = answers.kv_usage(engine);
        if self.kv_blocks.replace(Some(now)) != Some(now) {
            self.teller.tell_of(None, Event::KvBlocks(now));
        }
    }

    /// Tells how many tokens a prompt has.
    fn count(&self, engine: Option<&Engine<P::Model>>, host: &RequestHost<P>, prompt: &Prompt) -> bool {
        let no_model = StageError { stage: Stage::PromptEncode, error: EngineError::NoModel };
        let counted = engine.ok_or(no_model).map(|engine| {
            host.tell(Event::Counted { tokens: engine.encode(prompt).len() as u32 });
        });
        self.tell_end(host, counted, engine.is_some())
    }

    /// Reads experts that no answer has needed so far, until somebody wants something.
    async fn prefetch(&self) {
        if !self.queue.is_empty() {
            return;
        }
        let Some(mut engine) = self.engine.take() else { return };
        if engine.model.wants_prefetch() {
            self.end_prefetch.clear();
            let host = CommonHost { end: &self.end_prefetch, ..self.common(None) };
            let done = engine.model.prefetch(&host).await;
            self.platform.settled(&host).await;
            match done {
                Ok(()) => {}
                Err(EngineError::Cancelled) => host.emit(Event::PrefetchPaused),
                // Another GPU is opened when there is an answer to be given.
                Err(error) if error.kind() == FailureKind::DeviceLost => host.emit(Event::PrefetchPaused),
                Err(error) => {
                    let error = StageError { stage: Stage::WeightsFetch, error };
                    host.emit(Event::PrefetchFailed(error.failure()));
                }
            }
        }
        self.engine.replace(Some(engine));
    }
}

fn is_loss(error: &StageError) -> bool {
    error.error.kind() == FailureKind::DeviceLost
}

/// What `work` comes to, unless the user stops it, which drops it: requests are aborted and GPU memory is freed with it.
async fn or_stop<P: Platform, T>(
    host: &RequestHost<P>,
    work: impl Future<Output = Result<T, StageError>>,
) -> Result<T, StageError> {
    // STOP is looked at first: work that goes on when it is woken by STOP could come further than anybody wants.
    match select(pin!(host.stop.requested()), pin!(work)).await {
        Either::Left(_) => {
            let stage = host.cancel_running_stage();
            Err(StageError { stage, error: EngineError::Cancelled })
        }
        Either::Right((done, _)) => done,
    }
}
