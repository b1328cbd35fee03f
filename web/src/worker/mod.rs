//! The worker: owns engine, GPU and source. Takes [`Command`]s, one task at a time, and posts events.

mod cache;
mod download;
mod hashes;
mod host;
mod open;
mod storage;
mod timer;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::lock::Mutex;
use gptoss_engine::GpuEngine;
use gptoss_model::{EngineError, StageError};
use gptoss_protocol::{
    CacheOptions, Command, Event, Failure, FailureKind, LoadSettings, ModelLocation, NetworkOptions, Prompt, Stage,
};
use js_sys::Array;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{DedicatedWorkerGlobalScope, File, MessageEvent};
use web_time::Instant;

use self::cache::DownloadCache;
use self::download::Downloaded;
use self::host::{PrefetchHost, ReplacingHost, WorkerHost};
use self::open::{Use, Wanted};
use self::timer::within;
use crate::signal::Signal;

/// Something that a browser in good health says at once.
const SOON: Duration = Duration::from_millis(500);

/// One per worker, for as long as it lives.
struct Worker {
    host: Rc<WorkerHost>,
    cache: DownloadCache,
    /// Locked while it works.
    engine: Mutex<Option<GpuEngine>>,
    /// Armed while the engine reads what nobody asked for; whoever wants something requests an end of that.
    end_prefetch: Signal,
}

/// What a message asks for: a command, and the picked files where there are any.
type Order = (Command, Vec<File>);

/// What takes long, one at a time.
enum Work {
    Load(ModelLocation, LoadSettings, Option<Prompt>),
    Download(ModelLocation, NetworkOptions, CacheOptions),
    Answer(Prompt),
}

/// Starts the worker. Called once, by `bin/worker.rs`.
pub fn run() {
    let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
    let host = Rc::new(WorkerHost::new(scope.clone()));
    let cache = DownloadCache::new(Rc::clone(&host));
    let worker = Rc::new(Worker { cache, host, engine: Mutex::new(None), end_prefetch: Signal::default() });
    let failing = scope.clone();
    crate::panic::report(move |message| host::post_failure_of_panic(&failing, message));
    let orders = Rc::clone(&worker);
    let receive = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| match read(&message.data()) {
        Ok(order) => orders.obey(order),
        Err(detail) => {
            orders.fail(Stage::GpuDevice, internal(format!("the page sent a command that cannot be read: {detail}")))
        }
    });
    scope.set_onmessage(Some(receive.as_ref().unchecked_ref()));
    receive.forget();
    worker.host.post(Event::HostReady);
}

fn read(data: &JsValue) -> Result<Order, String> {
    let parts: &Array = data.dyn_ref().ok_or("it is not a list")?;
    let json = parts.get(0).as_string().ok_or("it has no text")?;
    let command = serde_json::from_str(&json).map_err(|error| error.to_string())?;
    let files = parts.iter().skip(1).map(|file| file.dyn_into().map_err(|_| "something beside it is not a file"));
    Ok((command, files.collect::<Result<_, _>>()?))
}

impl Worker {
    fn obey(self: &Rc<Self>, (command, files): Order) {
        let work = match command {
            Command::Stop => {
                self.end_prefetch.request();
                return self.host.stop().request();
            }
            Command::Approve => return self.host.approval().request(),
            Command::Cache { action } => {
                let worker = Rc::clone(self);
                return spawn_local(async move { storage::act(&worker.host, &worker.cache, action).await });
            }
            Command::Load { .. } | Command::Generate { .. } | Command::Download { .. }
                if self.host.stop().is_armed() =>
            {
                let failure = internal("the page sent a command while another was under way".to_owned());
                return self.fail(Stage::GpuDevice, failure);
            }
            Command::Load { model, options, prompt, remembered } => {
                self.host.recall(remembered);
                Work::Load(model, options, prompt)
            }
            Command::Download { model, network, cache } => Work::Download(model, network, cache),
            Command::Generate { prompt } => Work::Answer(prompt),
        };
        self.host.stop().arm();
        self.end_prefetch.request();
        let worker = Rc::clone(self);
        spawn_local(async move {
            let done = match work {
                Work::Load(model, options, prompt) => {
                    let LoadSettings { engine, gpu, network, cache } = &options;
                    let wanted = Wanted { model: &model, files: &files, network, cache };
                    let used = Use { options: engine, gpu, prompt: prompt.as_ref() };
                    worker.load(&wanted, &used).await
                }
                Work::Download(model, network, cache) => {
                    let wanted = Wanted { model: &model, files: &files, network: &network, cache: &cache };
                    worker.download(&wanted).await
                }
                Work::Answer(prompt) => worker.answer(&prompt).await,
            };
            worker.host.stop().disarm();
            let went_well = done.is_ok();
            worker.settle(done);
            // Somebody who pressed STOP wants quiet; a host that failed is not asked at once for what nobody needs.
            if went_well {
                worker.prefetch().await;
            }
        });
    }

    /// Tells how a task that did not end well ended.
    fn settle(&self, done: Result<(), StageError>) {
        match done {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {
                // Who still reads the rest with it will give it back.
                let model_loaded = self.engine.try_lock().is_none_or(|mut engine| {
                    // Stopped between two devices: there is nothing to keep.
                    *engine = engine.take().filter(|engine| engine.model.model().is_some());
                    engine.is_some()
                });
                self.host.post(Event::Stopped { model_loaded });
            }
            Err(error) => {
                let failure = error.failure();
                if failure.kind == FailureKind::DeviceLost
                    && let Some(mut engine) = self.engine.try_lock()
                {
                    engine.take();
                }
                self.fail(error.stage, failure);
            }
        }
    }

    /// Loads a model in place of the one before, and answers the prompt if there is one. The one before is let go of once the new
    /// one was looked at, and before anything is allocated for it: two need not fit side by side.
    ///
    /// STOP drops the loading future wherever it waits: requests are aborted and GPU memory is freed with it.
    async fn load(self: &Rc<Self>, wanted: &Wanted<'_>, used: &Use<'_>) -> Result<(), StageError> {
        // Who reads the rest with it gives it back soon.
        let engine = self.or_stop(pin!(async { Ok(self.engine.lock().await.take()) })).await?;
        let replacing = ReplacingHost { host: &self.host, before: RefCell::new(engine) };
        let loaded = {
            let loading = pin!(open::load(&self.host, &replacing, &self.cache, wanted, used));
            self.or_stop(loading).await
        };
        self.cache.tell_progress();
        self.tell_cache().await;
        let (engine, done) = match loaded {
            Ok(engine) => (Some(engine), Ok(())),
            Err(error) => (replacing.before.take(), Err(error)),
        };
        *self.engine.lock().await = engine;
        match (done, used.prompt) {
            (Ok(()), Some(prompt)) => self.answer(prompt).await,
            (done, _) => done,
        }
    }

    /// Keeps a model for later. What is loaded stays loaded.
    async fn download(self: &Rc<Self>, wanted: &Wanted<'_>) -> Result<(), StageError> {
        let begin = Instant::now();
        let downloading = pin!(download::download(&self.host, &self.cache, wanted));
        let done = self.or_stop(downloading).await;
        let elapsed_ms = begin.elapsed().as_secs_f64() * 1000.0;
        self.tell_cache().await;
        let Downloaded { cached, model } = done?;
        self.host.post(Event::Downloaded { cached_bytes: cached, model_bytes: model, elapsed_ms });
        Ok(())
    }

    /// Tells what is cached now, before anything else is told; later, where the browser takes its time to say so.
    async fn tell_cache(self: &Rc<Self>) {
        if within(SOON, storage::tell(&self.host, None)).await.is_none() {
            let worker = Rc::clone(self);
            spawn_local(async move { storage::tell(&worker.host, None).await });
        }
    }

    /// What `work` comes to, unless the user stops it, which drops it.
    async fn or_stop<T>(&self, work: impl Future<Output = Result<T, StageError>> + Unpin) -> Result<T, StageError> {
        match select(work, pin!(self.host.stop().requested())).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => {
                let stage = self.host.cancel_running_stage();
                Err(StageError { stage, error: EngineError::Cancelled })
            }
        }
    }

    /// STOP ends it inside of the engine, which keeps what it holds in order.
    async fn answer(&self, prompt: &Prompt) -> Result<(), StageError> {
        let mut engine = self.or_stop(pin!(async { Ok(self.engine.lock().await) })).await?;
        let Some(engine) = &mut *engine else {
            return Err(StageError { stage: Stage::PromptEncode, error: EngineError::NoModel });
        };
        engine.answer(prompt, self.host.as_ref()).await.map(drop)
    }

    /// Reads what no answer has needed so far, until somebody wants something. The page chose at load time whether there is such
    /// a rest.
    async fn prefetch(&self) {
        let mut engine = self.engine.lock().await;
        // Whoever waits for the engine comes first.
        let Some(engine) =
            engine.as_mut().filter(|engine| engine.model.wants_prefetch() && !self.host.stop().is_armed())
        else {
            return;
        };
        self.end_prefetch.arm();
        let filled = engine.model.prefetch(&PrefetchHost { host: &self.host, end: &self.end_prefetch }).await;
        self.end_prefetch.disarm();
        self.cache.tell_progress();
        match filled {
            Ok(()) => {}
            Err(EngineError::Cancelled) => self.host.post(Event::PrefetchPaused),
            // Another is opened when there is an answer to be given.
            Err(error) if error.kind() == FailureKind::DeviceLost => self.host.post(Event::PrefetchPaused),
            Err(error) => {
                let error = StageError { stage: Stage::WeightsFetch, error };
                self.host.post(Event::PrefetchFailed(error.failure()));
            }
        }
    }

    fn fail(&self, stage: Stage, failure: Failure) {
        self.host.post(Event::Failed { stage, failure });
    }
}

fn internal(message: String) -> Failure {
    let advice = "Reload the page so that both sides are of the same build.".to_owned();
    Failure { kind: FailureKind::Internal, message, advice, parameter: None }
}
