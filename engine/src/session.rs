//! A model that outlives its device: when the GPU is lost, another is opened, the model is loaded again, the tokens so far are
//! replayed, and what was asked for is done. Whoever uses it sees events, not errors.

use std::rc::Rc;

use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{
    Backend, EngineError, GpuError, Host, ModelConfig, Prediction, Quiet, StageError, check_cancelled, in_stage,
    milliseconds_since, tokenizer,
};
use gptoss_source::Source;
use gptoss_telemetry::{CacheCounters, Event, ExpertLoading, LoadOptions, Stage, WorkCounters};
use gptoss_text::Tokenizer;
use web_time::Instant;

use crate::load::{Preflight, load, preflight};
use crate::model::Model;
use crate::plan::MemoryPlan;
use crate::policy::LoadPolicy;

/// Devices that are replaced in one answer, or in one load: a GPU that is lost more often than this is not going to recover.
pub const MAX_REBUILDS: u32 = 3;

/// From what a model is loaded, and how: at first, and whenever its device was lost.
#[derive(Clone)]
pub struct Loader {
    pub source: Rc<dyn Source>,
    pub gpu: GpuOptions,
    pub options: LoadOptions,
    /// [`Backend::logits`] will be asked for: room for those of a whole batch.
    pub all_logits: bool,
}

impl Loader {
    /// Opens a GPU and loads the model; `read` takes what else is wanted from header and plan, before anything big is fetched, and
    /// once the host approves of the plan. Its error ends the load. Errors of a device that was lost say so.
    async fn load<T>(
        &self,
        read: impl AsyncFn(&Preflight) -> Result<T, StageError>,
        policy: LoadPolicy,
        host: &dyn Host,
    ) -> Result<(Model, T), StageError> {
        let gpu = policy.open_gpu(&self.gpu, host).await?;
        match self.fill(Rc::clone(&gpu), read, policy, host).await {
            Ok(loaded) => Ok(loaded),
            Err(StageError { stage, error }) => Err(StageError { stage, error: explained(&gpu, error).await }),
        }
    }

    async fn fill<T>(
        &self,
        gpu: Rc<Gpu>,
        read: impl AsyncFn(&Preflight) -> Result<T, StageError>,
        policy: LoadPolicy,
        host: &dyn Host,
    ) -> Result<(Model, T), StageError> {
        let mut prepared = preflight(&gpu, self.source.as_ref(), &self.options, policy, host).await?;
        if self.all_logits {
            prepared.with_all_logits(&gpu.limits())?;
        }
        prepared.approved(host).await?;
        let taken = read(&prepared).await?;
        host.going_ahead();
        Ok((load(gpu, Rc::clone(&self.source), prepared, host).await?, taken))
    }
}

/// The loss of the device, if that is what is behind an error.
async fn explained(gpu: &Gpu, error: EngineError) -> EngineError {
    match error {
        EngineError::Gpu(error) => gpu.loss().await.unwrap_or(error).into(),
        other => other,
    }
}

/// Counts lost devices, and says when it is enough.
#[derive(Default)]
struct Losses {
    rebuilds: u32,
}

impl Losses {
    /// Notes an error; gives it back unless it is a loss that a new device may make good. `tokens` will be replayed.
    fn survive(&mut self, stage: Stage, error: EngineError, tokens: usize, host: &dyn Host) -> Result<(), EngineError> {
        if !matches!(error, EngineError::Gpu(GpuError::DeviceLost { .. })) {
            return Err(error);
        }
        if self.rebuilds == MAX_REBUILDS {
            return Err(EngineError::LostTooOften { rebuilds: MAX_REBUILDS, last: error.to_string() });
        }
        self.rebuilds += 1;
        host.emit(Event::Recovering {
            stage,
            attempt: self.rebuilds,
            most: MAX_REBUILDS,
            tokens: tokens as u32,
            reason: error.to_string(),
        });
        check_cancelled(host)
    }
}

/// A model on whatever device there is. Loading starts again where nothing is loaded: after a loss, or when a rebuild was
/// stopped or failed.
pub struct Session {
    loader: Loader,
    /// `None` between two devices.
    model: Option<Model>,
    /// Configuration of the most recently loaded model.
    config: ModelConfig,
    plan: MemoryPlan,
    description: String,
    /// What the cache is to hold, by position.
    context: Vec<u32>,
    /// Since the last rewind, which begins every answer.
    losses: Losses,
    /// When a device was lost whose work has not been made good yet.
    lost_at: Option<Instant>,
    /// Work that was done on devices that are gone.
    past_work: WorkCounters,
    past_cache: CacheCounters,
}

impl Session {
    /// Loads the model. A device that is lost on the way is replaced.
    pub async fn open(loader: Loader, host: &dyn Host) -> Result<Self, StageError> {
        Ok(Self::open_reading(loader, async |_| Ok(()), host).await?.0)
    }

    /// Loads the model, and the tokenizer of its file.
    pub async fn open_with_tokenizer(loader: Loader, host: &dyn Host) -> Result<(Self, Tokenizer), StageError> {
        Self::open_if(loader, |_, _| Ok(()), host).await
    }

    /// As [`Session::open_with_tokenizer`], if `fits` has nothing against tokenizer and plan; asked before anything big is fetched.
    pub(crate) async fn open_if(
        loader: Loader,
        fits: impl Fn(&Tokenizer, &Preflight) -> Result<(), StageError>,
        host: &dyn Host,
    ) -> Result<(Self, Tokenizer), StageError> {
        let read = async |prepared: &Preflight| {
            let tokenizer = in_stage(host, Stage::Tokenizer, async { tokenizer(&prepared.header.gguf) }).await?;
            fits(&tokenizer, prepared)?;
            Ok::<_, StageError>(tokenizer)
        };
        Self::open_reading(loader, read, host).await
    }

    async fn open_reading<T>(
        loader: Loader,
        read: impl AsyncFn(&Preflight) -> Result<T, StageError>,
        host: &dyn Host,
    ) -> Result<(Self, T), StageError> {
        let mut losses = Losses::default();
        loop {
            let policy = if losses.rebuilds > 0 { LoadPolicy::AfterLoss } else { LoadPolicy::First };
            match loader.load(&read, policy, host).await {
                Ok((model, taken)) => return Ok((Self::new(loader, model), taken)),
                Err(StageError { stage, error }) => {
                    losses.survive(stage, error, 0, host).map_err(|error| StageError { stage, error })?
                }
            }
        }
    }

    fn new(loader: Loader, model: Model) -> Self {
        Self {
            loader,
            config: model.config().clone(),
            plan: model.plan().clone(),
            description: model.description(),
            model: Some(model),
            context: Vec::new(),
            losses: Losses::default(),
            lost_at: None,
            past_work: WorkCounters::default(),
            past_cache: CacheCounters::default(),
        }
    }

    /// The model, if there is one now.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    /// Plan of the most recently loaded model.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Whether experts are to come when there is nothing else to do: [`Session::fill`].
    pub fn has_rest(&self) -> bool {
        let as_needed = self.loader.options.experts == ExpertLoading::AsNeeded;
        as_needed && self.model.as_ref().is_some_and(Model::has_free_slots)
    }

    /// As [`Model::fill`], whose work is reported. A device that is lost meanwhile is replaced when something needs it.
    ///
    /// # Errors
    /// As [`Model::fill`]. Answers can be asked for whatever came of it.
    pub async fn fill(&mut self, host: &dyn Host) -> Result<(), EngineError> {
        let filled = match &mut self.model {
            Some(model) => match model.fill(host).await {
                Ok(()) => Ok(()),
                Err(error) => Err(explained(model.gpu(), error).await),
            },
            None => Ok(()),
        };
        host.emit(Event::Work(self.work_counters()));
        filled
    }

    /// Tells `host` what is resident and what was done so far.
    pub(crate) fn report(&self, host: &dyn Host) {
        host.emit(Event::Experts(self.cache_counters()));
        host.emit(Event::Work(self.work_counters()));
    }

    /// Runs what the cache does not hold of the context: the next tokens, or after a loss all of them.
    async fn catch_up(
        &mut self,
        stage: Stage,
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
        mut progress: impl FnMut(u32),
    ) -> Result<Prediction, EngineError> {
        loop {
            let Some(model) = &mut self.model else {
                self.rebuild(stage, host).await?;
                continue;
            };
            let held = model.position();
            let outcome = match &self.context[held as usize..] {
                [token] => model.decode(*token, inverse_temperature, candidates, host).await,
                rest => {
                    let report = |done_tokens| progress(held + done_tokens);
                    model.prefill(rest, inverse_temperature, candidates, host, report).await
                }
            };
            match outcome {
                Ok(prediction) => {
                    self.made_good(host);
                    return Ok(prediction);
                }
                Err(error) => self.survive(stage, error, host).await?,
            }
        }
    }

    /// Says that the work goes on where it was, if a loss kept it from that.
    fn made_good(&mut self, host: &dyn Host) {
        if let Some(begin) = self.lost_at.take() {
            let elapsed_ms = milliseconds_since(begin);
            host.emit(Event::Recovered { tokens: self.context.len() as u32, elapsed_ms });
        }
    }

    /// Appends `tokens` to what the cache is to hold; after an error it is to hold what it does hold.
    async fn append(
        &mut self,
        stage: Stage,
        tokens: &[u32],
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
        progress: impl FnMut(u32),
    ) -> Result<Prediction, EngineError> {
        self.require_room(tokens.len())?;
        self.context.extend_from_slice(tokens);
        let prediction = self.catch_up(stage, inverse_temperature, candidates, host, progress).await;
        if prediction.is_err() {
            self.context.truncate(self.model.as_ref().map_or(0, Model::position) as usize);
        }
        prediction
    }

    /// After an error of the model: if its device is lost, lets go of it and returns.
    async fn survive(&mut self, stage: Stage, error: EngineError, host: &dyn Host) -> Result<(), EngineError> {
        let error = match &self.model {
            Some(model) => explained(model.gpu(), error).await,
            None => error,
        };
        if matches!(error, EngineError::Gpu(GpuError::DeviceLost { .. })) {
            self.lost_at.get_or_insert_with(Instant::now);
            // Before the next is loaded: two models need not fit side by side.
            self.let_go();
        }
        self.losses.survive(stage, error, self.context.len(), host)
    }

    fn let_go(&mut self) {
        let Some(model) = self.model.take() else { return };
        let (work, cache) = (model.work_counters(), model.cache_counters());
        self.past_work = self.past_work + work;
        self.past_cache = self.past_cache + CacheCounters { resident: 0, slots: 0, ..cache };
    }

    async fn rebuild(&mut self, stage: Stage, host: &dyn Host) -> Result<(), EngineError> {
        match self.loader.load(async |_| Ok(()), LoadPolicy::AfterLoss, host).await {
            Ok((model, _)) => {
                self.plan = model.plan().clone();
                self.description = model.description();
                self.model = Some(model);
                Ok(())
            }
            Err(StageError { error, .. }) => self.survive(stage, error, host).await,
        }
    }
}

impl Backend for Session {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn kv_capacity(&self) -> u32 {
        self.plan.kv_capacity
    }

    fn kv_bytes(&self) -> u64 {
        self.plan.totals.kv_bytes
    }

    fn position(&self) -> u32 {
        self.context.len() as u32
    }

    fn rewind(&mut self, position: u32) -> u32 {
        (self.losses, self.lost_at) = (Losses::default(), None);
        let reached = self.model.as_mut().map_or(0, |model| model.rewind(position));
        self.context.truncate(reached as usize);
        reached
    }

    async fn prefill(
        &mut self,
        tokens: &[u32],
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
        mut progress: impl FnMut(u32),
    ) -> Result<Prediction, EngineError> {
        let before = self.position();
        let report = |position: u32| progress(position.saturating_sub(before));
        self.append(Stage::Prefill, tokens, inverse_temperature, candidates, host, report).await
    }

    async fn decode(
        &mut self,
        token: u32,
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
    ) -> Result<Prediction, EngineError> {
        self.append(Stage::Decode, &[token], inverse_temperature, candidates, host, |_| {}).await
    }

    async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.rewind(0);
        loop {
            let Some(model) = &mut self.model else {
                self.rebuild(Stage::Prefill, &Quiet).await?;
                continue;
            };
            match model.logits(tokens).await {
                Ok(logits) => {
                    self.context = tokens.to_vec();
                    return Ok(logits);
                }
                Err(error) => self.survive(Stage::Prefill, error, &Quiet).await?,
            }
        }
    }

    async fn last_logits(&mut self, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        loop {
            if let Some(model) = &mut self.model {
                match model.last_logits(host).await {
                    Ok(logits) => return Ok(logits),
                    Err(error) => self.survive(Stage::Decode, error, host).await?,
                }
            }
            self.catch_up(Stage::Decode, 1.0, false, host, |_| {}).await?;
        }
    }

    fn cache_counters(&self) -> CacheCounters {
        let now = self.model.as_ref().map(Model::cache_counters).unwrap_or_default();
        self.past_cache + now
    }

    fn work_counters(&self) -> WorkCounters {
        let now = self.model.as_ref().map(Model::work_counters).unwrap_or_default();
        self.past_work + now
    }
}
