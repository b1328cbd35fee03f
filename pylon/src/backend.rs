//! Where a model runs: on the GPU or on the CPU, chosen once when it is opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use gptoss_cpu::{Activations, CpuModel, CpuOptions, Isa};
use gptoss_engine::{Loader, Model, Session};
use gptoss_gguf::{Gguf, part_paths};
use gptoss_kernels::GpuOptions;
use gptoss_model::sequences::BlockCopy;
use gptoss_model::{
    Backend, Engine, EngineError, Host, ModelConfig, Outcome, SequenceId, Sequences, StageError, in_stage, tokenizer,
};
use gptoss_protocol::{
    Attention, CacheCounters, DeviceOptions, Event, ExpertLoading, FailureKind, LoadOptions, Stage, Watch, WorkCounters,
};
use gptoss_source::{FileSource, Source, SourceError};
use gptoss_text::Tokenizer;

use crate::adapters;
use crate::output::note;
use crate::routes::{Batch, Header};

/// Where the user wants it to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendChoice {
    /// The GPU if there is a real one that the model fits, else the CPU.
    #[default]
    Auto,
    /// The GPU, also a software one.
    Gpu,
    /// The CPU: threads and vector instructions, no GPU needed.
    Cpu,
}

/// The bytes of a model: its file, or all files of a split model of which `path` is one.
///
/// # Errors
/// A file cannot be opened, or parts are missing.
pub fn open_source(path: &Path) -> Result<Rc<dyn Source>, SourceError> {
    FileSource::open_all(&part_paths(path))
}

/// What to open, and how.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    pub path: PathBuf,
    pub backend: BackendChoice,
    pub load: LoadOptions,
    /// How the GPU is opened.
    pub gpu: DeviceOptions,
    /// Threads of the CPU backend; `None`: as many as the machine has.
    pub threads: Option<usize>,
    /// Activations of the CPU backend; the GPU's are F32.
    pub activations: Activations,
    /// Instruction set of the CPU backend, which this processor has; `None`: the best.
    pub isa: Option<Isa>,
    /// [`Backend::logits`] will be asked for.
    pub all_logits: bool,
    /// Text will go in or out.
    pub tokenizer: bool,
    /// How many sequences can be open at once; they share the KV cache.
    pub sequences: u32,
}

/// A model that is ready to run.
pub struct Opened {
    pub model: AnyModel,
    /// There if the request asked for it.
    pub tokenizer: Option<Tokenizer>,
    /// Why it runs where it runs; empty when the user said where.
    pub reason: String,
}

impl Opened {
    /// Says on standard error what computes and why, and which wishes have no effect there.
    pub fn announce(&self, request: &LoadRequest) {
        note(format_args!("pylon: {self}"));
        if self.model.is_on_gpu() && request.threads.is_some() {
            note("pylon: the number of threads has no effect on the GPU");
        }
        if !self.model.is_on_gpu() && request.load.expert_memory_bytes.is_some() {
            note("pylon: --expert-memory has no effect on the CPU, which reads experts from the mapped file");
        }
        if !self.model.is_on_gpu() && request.gpu.tier.is_some() {
            note("pylon: --tier has no effect on the CPU");
        }
        if !self.model.is_on_gpu() && request.load.experts == ExpertLoading::AsNeeded {
            note("pylon: --experts has no effect on the CPU, which reads them from the mapped file");
        }
        if !self.model.is_on_gpu() && request.load.gpu_memory_bytes.is_some() {
            note("pylon: --gpu-memory has no effect on the CPU");
        }
    }
}

impl fmt::Display for Opened {
    /// One line for people: what computes, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = self.model.description();
        if self.reason.is_empty() { f.write_str(&description) } else { write!(f, "{description} ({})", self.reason) }
    }
}

/// Opens a model where the request wants it.
///
/// # Errors
/// What stopped it, with its stage. With [`BackendChoice::Auto`] a GPU that is absent or too small is no error.
pub async fn open(request: &LoadRequest, host: &dyn Host) -> Result<Opened, StageError> {
    let begin = Instant::now();
    let opened = match request.backend {
        BackendChoice::Gpu => on_gpu(request, String::new(), host).await,
        BackendChoice::Cpu => on_cpu(request, String::new(), host).await,
        BackendChoice::Auto => match gpu_obstacle().await {
            Some(obstacle) => on_cpu(request, format!("chosen because {obstacle}"), host).await,
            None => match on_gpu(request, "chosen because the model fits this GPU".into(), host).await {
                Err(error) if is_about_the_gpu(&error.error) => {
                    on_cpu(request, format!("chosen because the GPU cannot be used: {error}"), host).await
                }
                other => other,
            },
        },
    }?;
    let (capacity_tokens, bytes) = (opened.model.kv_capacity(), opened.model.kv_bytes());
    host.emit(Event::Kv { used_tokens: 0, capacity_tokens, bytes });
    host.emit(Event::Experts(opened.model.cache_counters()));
    host.emit(Event::Work(opened.model.work_counters()));
    host.emit(Event::Ready { load_ms: begin.elapsed().as_secs_f64() * 1e3 });
    Ok(opened)
}

/// Opens a model with its tokenizer, and says on standard error what computes.
///
/// # Errors
/// As [`open`].
pub async fn open_engine(request: &LoadRequest, host: &dyn Host) -> Result<Engine<AnyModel>, StageError> {
    let opened = open(&LoadRequest { tokenizer: true, ..request.clone() }, host).await?;
    opened.announce(request);
    let tokenizer = opened.tokenizer.expect("it was asked for");
    Ok(Engine::new(opened.model, tokenizer))
}

/// Why no GPU is worth trying; `None` if one is.
async fn gpu_obstacle() -> Option<String> {
    let adapters = adapters::list().await;
    if adapters.iter().any(|adapter| adapter.usable && !adapter.software) {
        return None;
    }
    match adapters.iter().find(|adapter| !adapter.software).or(adapters.first()) {
        None => Some("there is no GPU adapter".into()),
        Some(adapter) if adapter.software => {
            Some(format!("the only GPU adapter is software, {}; --backend gpu takes it", adapter.name))
        }
        Some(adapter) => {
            Some(format!("{} cannot be used: {}", adapter.name, adapter.obstacle.as_deref().unwrap_or("unknown")))
        }
    }
}

/// Whether the CPU may do better: the device is missing, lost or too small. Memory for experts is what the user said.
fn is_about_the_gpu(error: &EngineError) -> bool {
    match error {
        EngineError::ExpertMemory { .. } => false,
        EngineError::Gpu(_)
        | EngineError::LostTooOften { .. }
        | EngineError::NoGpuAfterLoss { .. }
        | EngineError::Context { .. } => true,
        error => matches!(error.kind(), FailureKind::NoGpu | FailureKind::Memory),
    }
}

async fn on_gpu(request: &LoadRequest, reason: String, host: &dyn Host) -> Result<Opened, StageError> {
    let source = in_stage(host, Stage::RangeCheck, async { Ok(open_source(&request.path)?) }).await?;
    let DeviceOptions { default_limits, tier } = request.gpu;
    let gpu = GpuOptions { default_limits, tier, ..GpuOptions::default() };
    let LoadRequest { load, all_logits, sequences, .. } = request.clone();
    let loader = Loader { source, gpu, options: load, all_logits, sequences };
    let (session, tokenizer) = match request.tokenizer {
        true => Session::open_with_tokenizer(loader, host).await.map(|(session, it)| (session, Some(it)))?,
        false => (Session::open(loader, host).await?, None),
    };
    Ok(Opened { model: AnyModel::Gpu(Box::new(session)), tokenizer, reason })
}

async fn on_cpu(request: &LoadRequest, reason: String, host: &dyn Host) -> Result<Opened, StageError> {
    let model = CpuModel::open(&request.path, &cpu_options(request), host).await?;
    let tokenizer = tokenizer_of(model.gguf(), request, host).await?;
    Ok(Opened { model: AnyModel::Cpu(Box::new(model)), tokenizer, reason })
}

async fn tokenizer_of(gguf: &Gguf, request: &LoadRequest, host: &dyn Host) -> Result<Option<Tokenizer>, StageError> {
    if !request.tokenizer {
        return Ok(None);
    }
    in_stage(host, Stage::Tokenizer, async { tokenizer(gguf).map(Some) }).await
}

fn cpu_options(request: &LoadRequest) -> CpuOptions {
    CpuOptions {
        threads: request.threads,
        max_kv_tokens: request.load.max_kv_tokens,
        layers: request.load.layers,
        kv_f32: request.load.kv_f32,
        yarn_truncate: request.load.yarn_truncate,
        dense_attention: request.load.attention == Attention::Dense,
        activations: request.activations,
        isa: request.isa,
        sequences: Some(request.sequences),
    }
}

/// A model on either backend.
pub enum AnyModel {
    Gpu(Box<Session>),
    Cpu(Box<CpuModel>),
}

impl AnyModel {
    /// Keeps the routes of every batch from here on; says of what they are. `None` on the GPU, where they stay.
    pub fn record_routes(&mut self) -> Option<Header> {
        let Self::Cpu(model) = self else { return None };
        model.record_routes();
        let config = model.config();
        Some(Header {
            model: config.name.clone(),
            layers: model.layers(),
            experts: config.experts,
            experts_per_token: config.experts_per_token,
            expert_bytes: model.expert_file_bytes(),
        })
    }

    /// The routes that were kept: none unless [`AnyModel::record_routes`].
    pub fn take_routes(&mut self) -> Vec<Batch> {
        match self {
            Self::Cpu(model) => model.take_routes().into_iter().map(Batch::from).collect(),
            Self::Gpu(_) => Vec::new(),
        }
    }

    /// The model on its GPU, if that is where it is.
    pub fn on_gpu(&mut self) -> Option<&mut Model> {
        match self {
            Self::Gpu(session) => session.model_mut(),
            Self::Cpu(_) => None,
        }
    }

    pub fn is_on_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }
}

/// Calls the same method of whichever model it is.
macro_rules! either {
    ($any:expr, $model:ident => $call:expr) => {
        match $any {
            AnyModel::Gpu($model) => $call,
            AnyModel::Cpu($model) => $call,
        }
    };
}

impl Backend for AnyModel {
    fn config(&self) -> &ModelConfig {
        either!(self, model => model.config())
    }

    fn description(&self) -> String {
        either!(self, model => model.description())
    }

    fn kv_bytes(&self) -> u64 {
        either!(self, model => model.kv_bytes())
    }

    fn sequences(&self) -> &Sequences {
        either!(self, model => model.sequences())
    }

    fn sequences_mut(&mut self) -> &mut Sequences {
        either!(self, model => model.sequences_mut())
    }

    fn copy_blocks(&mut self, copies: &[BlockCopy]) {
        either!(self, model => model.copy_blocks(copies));
    }

    fn begin_pending(&mut self) {
        either!(self, model => model.begin_pending());
    }

    fn is_there(&self) -> bool {
        either!(self, model => model.is_there())
    }

    fn wants_prefetch(&self) -> bool {
        either!(self, model => model.wants_prefetch())
    }

    async fn prefetch(&mut self, host: &dyn Host) -> Result<(), EngineError> {
        either!(self, model => model.prefetch(host).await)
    }

    fn rewind(&mut self, sequence: SequenceId, position: u32) -> u32 {
        either!(self, model => model.rewind(sequence, position))
    }

    fn set_watch(&mut self, watch: Watch) {
        either!(self, model => model.set_watch(watch))
    }

    async fn compute_oldest(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        either!(self, model => model.compute_oldest(host).await)
    }

    async fn logits_at_hand(&mut self, sequence: SequenceId, host: &dyn Host) -> Result<Option<Vec<f32>>, EngineError> {
        either!(self, model => model.logits_at_hand(sequence, host).await)
    }

    fn cache_counters(&self) -> CacheCounters {
        either!(self, model => model.cache_counters())
    }

    fn work_counters(&self) -> WorkCounters {
        either!(self, model => model.work_counters())
    }
}
