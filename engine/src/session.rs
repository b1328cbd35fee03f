//! A model that outlives its device: when the GPU is lost, another is opened, the model is loaded again, the tokens so
//! far are replayed, and what was asked for is done. Whoever uses it sees events, not errors.

use std::rc::Rc;

use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::sequences::BlockCopy;
use gptoss_model::{
    Asked, Backend, EngineError, GpuError, Host, ModelConfig, Outcome, SequenceId, Sequences, StageError,
    check_cancelled, in_stage, milliseconds_since, tokenizer,
};
use gptoss_protocol::{CacheCounters, Event, ExpertLoading, LoadOptions, Stage, Watch, WorkCounters};
use gptoss_source::Source;
use gptoss_text::Tokenizer;
use web_time::Instant;

use crate::load::{Preflight, load, preflight};
use crate::model::Model;
use crate::plan::MemoryPlan;
use crate::policy::LoadPolicy;

/// How often a device is replaced in one answer, or in one load: a GPU that is lost more often will not recover.
pub const MAX_RECOVERIES: u32 = 3;

/// Where a model is loaded from and how, for the first load and for reloads after a lost device.
#[derive(Clone)]
pub struct Loader {
    /// The model file.
    pub source: Rc<dyn Source>,
    /// Options for opening the GPU.
    pub gpu: GpuOptions,
    /// Options that the user chose.
    pub options: LoadOptions,
    /// Whether [`Backend::logits`] will be called, which needs room for the logits of a whole batch.
    pub all_logits: bool,
    /// How many sequences can be open at once; they share the context's memory.
    pub sequences: u32,
}

impl Loader {
    /// Opens a GPU and loads the model. `read` takes what else is wanted from header and plan, before anything big is
    /// fetched and after the host has approved the plan; its error ends the load. Errors that a lost device caused say
    /// so.
    async fn load<T>(
        &self,
        read: impl AsyncFn(&Preflight) -> Result<T, StageError>,
        policy: LoadPolicy,
        host: &dyn Host,
    ) -> Result<(Model, T), StageError> {
        let gpu = policy.open_gpu(&self.gpu, host).await?;
        match self.load_onto(Rc::clone(&gpu), read, policy, host).await {
            Ok(loaded) => Ok(loaded),
            Err(StageError { stage, error }) => Err(StageError { stage, error: explained(&gpu, error).await }),
        }
    }

    async fn load_onto<T>(
        &self,
        gpu: Rc<Gpu>,
        read: impl AsyncFn(&Preflight) -> Result<T, StageError>,
        policy: LoadPolicy,
        host: &dyn Host,
    ) -> Result<(Model, T), StageError> {
        let mut prepared = preflight(&gpu, self.source.as_ref(), &self.options, policy, host).await?;
        if self.sequences > 1 {
            prepared.options.sequences = self.sequences;
            prepared.plan_again(&gpu.limits())?;
        }
        if self.all_logits {
            prepared.with_all_logits(&gpu.limits())?;
        }
        prepared.approved(host).await?;
        let taken = read(&prepared).await?;
        host.load_begins();
        Ok((load(gpu, Rc::clone(&self.source), prepared, host).await?, taken))
    }
}

/// Replaces an error by the loss of the device, if that caused it.
async fn explained(gpu: &Gpu, error: EngineError) -> EngineError {
    match error {
        EngineError::Gpu(error) => gpu.loss().await.unwrap_or(error).into(),
        other => other,
    }
}

/// Counts lost devices, and decides when it is enough.
#[derive(Default)]
struct Losses {
    recoveries: u32,
}

impl Losses {
    /// Counts a loss and returns `Ok` if a new device may help; otherwise returns the error. `tokens`: how many will be
    /// replayed.
    fn survive(&mut self, stage: Stage, error: EngineError, tokens: usize, host: &dyn Host) -> Result<(), EngineError> {
        if !matches!(error, EngineError::Gpu(GpuError::DeviceLost { .. })) {
            return Err(error);
        }
        if self.recoveries == MAX_RECOVERIES {
            return Err(EngineError::LostTooOften { recoveries: MAX_RECOVERIES, last: error.to_string() });
        }
        self.recoveries += 1;
        host.emit(Event::Recovering {
            stage,
            attempt: self.recoveries,
            most: MAX_RECOVERIES,
            tokens: tokens as u32,
            reason: error.to_string(),
        });
        check_cancelled(host)
    }
}

/// The model on its device; between two devices, the sequences that the next one takes over.
enum Held {
    Loaded(Box<Model>),
    Lost(Box<Sequences>),
}

/// A model on whatever device there is. If no model is loaded (after a loss, or after a recovery that was stopped or
/// failed), it is loaded again. Sequences and batches outlive the device: their tokens are run again.
pub struct Session {
    loader: Loader,
    held: Held,
    /// Configuration of the most recently loaded model.
    config: ModelConfig,
    plan: MemoryPlan,
    description: String,
    /// Losses since the last rewind, which begins every answer.
    losses: Losses,
    /// When a device was lost whose work has not been repeated yet.
    lost_at: Option<Instant>,
    /// Work of earlier devices.
    past_work: WorkCounters,
    past_cache: CacheCounters,
}

impl Session {
    /// Loads the model; replaces a device that is lost on the way.
    pub async fn open(loader: Loader, host: &dyn Host) -> Result<Self, StageError> {
        Ok(Self::open_reading(loader, async |_| Ok(()), host).await?.0)
    }

    /// Loads the model, and the tokenizer of its file.
    pub async fn open_with_tokenizer(loader: Loader, host: &dyn Host) -> Result<(Self, Tokenizer), StageError> {
        Self::open_if(loader, |_, _| Ok(()), host).await
    }

    /// Like [`Session::open_with_tokenizer`], but first asks `fits` whether tokenizer and plan are acceptable, before
    /// anything big is fetched.
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
            let policy = if losses.recoveries > 0 { LoadPolicy::AfterLoss } else { LoadPolicy::First };
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
            held: Held::Loaded(Box::new(model)),
            losses: Losses::default(),
            lost_at: None,
            past_work: WorkCounters::default(),
            past_cache: CacheCounters::default(),
        }
    }

    /// The model, unless its device was lost.
    pub fn model(&self) -> Option<&Model> {
        match &self.held {
            Held::Loaded(model) => Some(model),
            Held::Lost(_) => None,
        }
    }

    /// The model, unless its device was lost, for measurements.
    pub fn model_mut(&mut self) -> Option<&mut Model> {
        match &mut self.held {
            Held::Loaded(model) => Some(model),
            Held::Lost(_) => None,
        }
    }

    /// Plan of the most recently loaded model.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Reports to `host` what is resident and what was done so far.
    pub(crate) fn report(&self, host: &dyn Host) {
        host.emit(Event::Experts(self.cache_counters()));
        host.emit(Event::Work(self.work_counters()));
    }

    /// Number of tokens of all sequences, including uncommitted ones.
    fn all_tokens(&self) -> usize {
        let cache = &self.sequences().cache;
        cache.open_sequences().map(|sequence| cache.len(sequence) as usize).sum()
    }

    /// Reports that the work is where it was before a loss, if there was one.
    fn made_good(&mut self, host: &dyn Host) {
        if let Some(begin) = self.lost_at.take() {
            let elapsed_ms = milliseconds_since(begin);
            host.emit(Event::Recovered { tokens: self.all_tokens() as u32, elapsed_ms });
        }
    }

    /// Handles an error of the model: if its device is lost, unloads the model and returns `Ok`.
    async fn survive(&mut self, stage: Stage, error: EngineError, host: &dyn Host) -> Result<(), EngineError> {
        let error = match self.model() {
            Some(model) => explained(model.gpu(), error).await,
            None => error,
        };
        if matches!(error, EngineError::Gpu(GpuError::DeviceLost { .. })) {
            self.lost_at.get_or_insert_with(Instant::now);
            // The model is unloaded before the next is loaded, because two need not fit side by side.
            self.unload();
        }
        self.losses.survive(stage, error, self.all_tokens(), host)
    }

    fn unload(&mut self) {
        let Held::Loaded(model) = &mut self.held else { return };
        let sequences = model.sequences.take_all();
        if let Held::Loaded(model) = std::mem::replace(&mut self.held, Held::Lost(Box::new(sequences))) {
            self.count_work_of(&model);
        }
    }

    /// Loads the model again and restores the sequences of the lost one.
    async fn recover(&mut self, stage: Stage, host: &dyn Host) -> Result<(), EngineError> {
        let loaded = self.loader.load(async |_| Ok(()), LoadPolicy::AfterLoss, host).await;
        let mut model = match loaded {
            Ok((model, ())) => model,
            Err(StageError { error, .. }) => return self.survive(stage, error, host).await,
        };
        let Held::Lost(lost) = &mut self.held else { unreachable!("only what was lost is rebuilt") };
        let replayed = match replay(&mut model, lost, host).await {
            Ok(()) => model.sequences.take_over(lost),
            Err(error) => Err(error),
        };
        match replayed {
            Ok(()) => {
                self.plan = model.plan().clone();
                self.description = model.description();
                self.held = Held::Loaded(Box::new(model));
                Ok(())
            }
            Err(error) => {
                let error = explained(model.gpu(), error).await;
                self.count_work_of(&model);
                drop(model);
                self.survive(stage, error, host).await
            }
        }
    }

    /// Adds the work of a model that is unloaded to that of earlier ones.
    fn count_work_of(&mut self, model: &Model) {
        self.past_work = self.past_work + model.work_counters();
        self.past_cache = self.past_cache + CacheCounters { resident: 0, slots: 0, ..model.cache_counters() };
    }
}

/// Computes the committed tokens of all sequences of a lost model again on a new one, under their ids, and marks their
/// turns.
async fn replay(model: &mut Model, lost: &Sequences, host: &dyn Host) -> Result<(), EngineError> {
    for sequence in lost.cache.open_sequences() {
        let tokens = lost.cache.tokens(sequence);
        let (mut reached, copies) = model.sequences.reopen(sequence, tokens)?;
        model.copy_blocks(&copies);
        let mut turns: Vec<u32> = lost.cache.turns(sequence).collect();
        turns.sort_unstable();
        for end in turns.iter().copied().chain([tokens.len() as u32]) {
            if end > reached {
                model.prefill(sequence, &tokens[reached as usize..end as usize], Asked::TOP, host, |_| {}).await?;
                reached = end;
            }
            if end == reached && turns.contains(&end) {
                model.mark_turn(sequence);
            }
        }
    }
    Ok(())
}

impl Backend for Session {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn kv_bytes(&self) -> u64 {
        self.plan.totals.kv_bytes
    }

    fn sequences(&self) -> &Sequences {
        match &self.held {
            Held::Loaded(model) => &model.sequences,
            Held::Lost(sequences) => sequences,
        }
    }

    fn sequences_mut(&mut self) -> &mut Sequences {
        match &mut self.held {
            Held::Loaded(model) => &mut model.sequences,
            Held::Lost(sequences) => sequences,
        }
    }

    fn is_there(&self) -> bool {
        self.model().is_some()
    }

    fn wants_prefetch(&self) -> bool {
        let as_needed = self.loader.options.experts == ExpertLoading::AsNeeded;
        as_needed && self.model().is_some_and(Model::has_free_slots)
    }

    /// The work is reported. A device that is lost meanwhile is replaced when something needs it.
    async fn prefetch(&mut self, host: &dyn Host) -> Result<(), EngineError> {
        let done = match &mut self.held {
            Held::Loaded(model) => match model.prefetch(host).await {
                Ok(()) => Ok(()),
                Err(error) => Err(explained(model.gpu(), error).await),
            },
            Held::Lost(_) => Ok(()),
        };
        host.emit(Event::Work(self.work_counters()));
        done
    }

    /// Lost contents are not copied but computed again.
    fn copy_blocks(&mut self, copies: &[BlockCopy]) {
        if let Held::Loaded(model) = &mut self.held {
            model.copy_blocks(copies);
        }
    }

    fn begin_pending(&mut self) {
        if let Held::Loaded(model) = &mut self.held {
            model.begin_pending();
        }
    }

    fn rewind(&mut self, sequence: SequenceId, position: u32) -> u32 {
        (self.losses, self.lost_at) = (Losses::default(), None);
        let (reached, copies) = self.sequences_mut().rewind(sequence, position);
        self.copy_blocks(&copies);
        reached
    }

    fn set_watch(&mut self, watch: Watch) {
        if let Held::Loaded(model) = &mut self.held {
            model.set_watch(watch);
        }
    }

    async fn compute_oldest(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        let rows = self.sequences().pending().front().map_or(0, |batch| batch.rows.len());
        let stage = if rows > 1 { Stage::Prefill } else { Stage::Decode };
        loop {
            let Held::Loaded(model) = &mut self.held else {
                self.recover(stage, host).await?;
                continue;
            };
            match model.compute_oldest(host).await {
                Ok(outcomes) => {
                    self.made_good(host);
                    return Ok(outcomes);
                }
                Err(error) => self.survive(stage, error, host).await?,
            }
        }
    }

    async fn logits_at_hand(&mut self, sequence: SequenceId, host: &dyn Host) -> Result<Option<Vec<f32>>, EngineError> {
        let Held::Loaded(model) = &mut self.held else { return Ok(None) };
        match model.logits_at_hand(sequence, host).await {
            Ok(logits) => Ok(logits),
            Err(error) => self.survive(Stage::Decode, error, host).await.map(|()| None),
        }
    }

    fn cache_counters(&self) -> CacheCounters {
        let now = self.model().map(Model::cache_counters).unwrap_or_default();
        self.past_cache + now
    }

    fn work_counters(&self) -> WorkCounters {
        let now = self.model().map(Model::work_counters).unwrap_or_default();
        self.past_work + now
    }
}
