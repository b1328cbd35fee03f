//! Loading: header, plan, memory, weights. Each stage is reported; each can be cancelled.

use std::rc::Rc;

use gptoss_gguf::{Gguf, GgufError, Progress as HeaderProgress, parse};
use gptoss_kernels::repack::Repack;
use gptoss_kernels::sources::CacheFormat;
use gptoss_kernels::{Gpu, GpuError, Limits, self_check};
use gptoss_source::Source;
use gptoss_telemetry::{self as telemetry, Attention, Event, LoadOptions, ModelInfo, Stage};
use web_time::Instant;

use crate::config::ModelConfig;
use crate::embedding::Embedding;
use crate::error::{EngineError, StageError};
use crate::header_telling::HeaderTelling;
use crate::host::{Ahead, Host, check_cancelled, in_stage, milliseconds_since};
use crate::inventory::Inventory;
use crate::model::{Model, State};
use crate::notes::file_notes;
use crate::pieces;
use crate::plan::{MemoryPlan, PlanOptions};
use crate::program::{Kernels, LayerCache, Parts, Program, Scratch};
use crate::residency::Residency;
use crate::sensible::SensibleSource;
use crate::upload::{self, Progress};
use crate::waiting::{AwaitPoint, until_stopped};
use crate::weights::Weights;

/// First read of a header, in bytes. Each read after it brings four times as much as is there: five reads for the 13 MB of
/// gpt-oss-20b, and little beyond the header for small models, whose weights would otherwise be fetched twice.
const FIRST_HEADER_BYTES: u64 = 64 << 10;
const HEADER_GROWTH: u64 = 4;

/// A header that was read and understood.
pub struct Header {
    pub config: ModelConfig,
    pub inventory: Inventory,
    pub gguf: Gguf,
}

/// Reads the header of a model from a source: of one file, or of all parts that the source joins.
pub async fn read_header(source: &dyn Source, host: &dyn Host) -> Result<Header, EngineError> {
    let gguf = read_gguf(source, host).await?;
    let config = ModelConfig::from_gguf(&gguf)?;
    let inventory = Inventory::from_gguf(&gguf, &config)?;
    Ok(Header { config, inventory, gguf })
}

/// Reads the header of a GGUF file, whatever it is of, or of all parts that the source joins.
pub async fn read_gguf(source: &dyn Source, host: &dyn Host) -> Result<Gguf, EngineError> {
    let mut headers = Vec::new();
    let mut telling = HeaderTelling::new(source, host);
    match source.parts() {
        [] => headers.push((source.name().to_owned(), read_file_header(source, &mut telling, host).await?)),
        parts => {
            for part in parts {
                headers.push((part.name().to_owned(), read_file_header(part.as_ref(), &mut telling, host).await?));
            }
        }
    }
    Ok(Gguf::join(headers)?)
}

/// Reads the header of one file: as many bytes as it takes, no more than one read too many.
async fn read_file_header(
    source: &dyn Source,
    telling: &mut HeaderTelling<'_>,
    host: &dyn Host,
) -> Result<Gguf, EngineError> {
    let named = |error: GgufError| {
        // What is cached of it would be no better the next time.
        source.distrust(0);
        EngineError::Gguf { name: source.name().to_owned(), error: error.of_file(source.name()) }
    };
    let file_bytes = source.len_bytes();
    let mut bytes = Vec::new();
    let mut wanted = FIRST_HEADER_BYTES.min(file_bytes);
    loop {
        // Only what is not here yet.
        let have = bytes.len() as u64;
        let read = telling.wait_for(source.read(have, wanted - have), wanted - have);
        let more = until_stopped(host, AwaitPoint::Header, read).await??;
        bytes.extend(more.to_vec(0..more.len()));
        match parse(&bytes, file_bytes).map_err(named)? {
            HeaderProgress::Ready(gguf) => return Ok(*gguf),
            HeaderProgress::NeedMore { at_least } => {
                wanted = at_least.max(HEADER_GROWTH * bytes.len() as u64).min(file_bytes)
            }
        }
    }
}

/// Tells the host what the header says about the model, of which `layers_run` layers are run, and what is worth knowing
/// about the file.
pub fn announce(header: &Header, layers_run: u32, host: &dyn Host) {
    host.emit(Event::Model(model_info(header, layers_run)));
    for text in file_notes(&header.gguf) {
        host.emit(Event::FileNote { text });
    }
}

fn model_info(header: &Header, layers_run: u32) -> ModelInfo {
    let config = &header.config;
    let mut formats: Vec<(String, u32, u64)> = Vec::new();
    for tensor in &header.gguf.tensors {
        let name = tensor.kind.name();
        match formats.iter_mut().find(|(known, ..)| known == name) {
            Some((_, count, bytes)) => {
                *count += 1;
                *bytes += tensor.size_bytes;
            }
            None => formats.push((name.to_owned(), 1, tensor.size_bytes)),
        }
    }
    ModelInfo {
        name: config.name.clone(),
        architecture: config.architecture.clone(),
        file_bytes: header.gguf.file_len,
        tensors: header.gguf.tensors.len() as u32,
        layers: config.layers,
        hidden: config.hidden,
        query_heads: config.query_heads,
        kv_heads: config.kv_heads,
        experts: config.experts,
        experts_per_token: config.experts_per_token,
        vocabulary: config.vocabulary,
        context_tokens: config.context_tokens,
        window_tokens: config.window_tokens,
        layers_run,
        formats,
    }
}

/// Turns what the user chose into what the planner takes.
pub fn plan_options(config: &ModelConfig, options: &LoadOptions) -> Result<PlanOptions, EngineError> {
    let layers = options.layers.unwrap_or(config.layers);
    if layers > config.layers {
        return Err(EngineError::Option {
            what: "layers",
            expected: "no more than the model has",
            got: format!("{layers}, and the model has {}", config.layers),
        });
    }
    Ok(PlanOptions {
        layers,
        max_kv_tokens: options.max_kv_tokens,
        expert_memory_bytes: options.expert_memory_bytes,
        gpu_memory_bytes: options.gpu_memory_bytes,
        cache: if options.kv_f32 { CacheFormat::F32 } else { CacheFormat::F16 },
        experts: options.experts,
        dense_attention: options.attention == Attention::Dense,
        ..PlanOptions::for_model(config)
    })
}

/// Less than this says little about how fast a source is, in bytes.
const TELLING_BYTES: u64 = 1 << 20;

/// Header and plan: what can be known before anything big is fetched.
pub struct Preflight {
    pub header: Header,
    pub options: PlanOptions,
    pub plan: MemoryPlan,
    /// At which the header came over the network; `None` where that was too little to tell, or did not.
    pub bytes_per_second: Option<f64>,
    /// Whether the host is asked before it goes on. A device that was lost is replaced without a question.
    pub asks: bool,
}

impl Preflight {
    /// Plans again with room for the logits of every token of a batch.
    pub fn with_all_logits(&mut self, limits: &Limits) -> Result<(), StageError> {
        let Header { config, inventory, .. } = &self.header;
        self.options.head_tokens = self.options.batch_tokens;
        self.plan = MemoryPlan::new(config, inventory, limits, &self.options)
            .map_err(|error| StageError { stage: Stage::MemoryPlan, error })?;
        Ok(())
    }

    /// Waits until whoever is asked agrees.
    pub(crate) async fn approved(&self, host: &dyn Host) -> Result<(), StageError> {
        let ahead = Ahead { plan: &self.plan.totals, bytes_per_second: self.bytes_per_second };
        let approved = if self.asks { approval(host, ahead).await } else { check_cancelled(host) };
        approved.map_err(|error| StageError { stage: Stage::MemoryPlan, error })
    }
}

async fn approval(host: &dyn Host, ahead: Ahead<'_>) -> Result<(), EngineError> {
    until_stopped(host, AwaitPoint::Approval, host.approve(ahead)).await?;
    check_cancelled(host)
}

/// Reads the header and works out the plan.
pub async fn preflight(
    gpu: &Gpu,
    source: &dyn Source,
    options: &LoadOptions,
    host: &dyn Host,
) -> Result<Preflight, StageError> {
    let (begin, wire_before) = (Instant::now(), source.wire_bytes());
    let mut header = in_stage(host, Stage::GgufHeader, read_header(source, host)).await?;
    let came = source.wire_bytes().zip(wire_before).map(|(after, before)| after - before);
    let bytes_per_second =
        came.filter(|&bytes| bytes >= TELLING_BYTES).map(|bytes| bytes as f64 / begin.elapsed().as_secs_f64());
    header.config.yarn.truncate = options.yarn_truncate;
    in_stage(host, Stage::MemoryPlan, async move {
        let options = plan_options(&header.config, options)?;
        announce(&header, options.layers, host);
        let plan = MemoryPlan::new(&header.config, &header.inventory, &gpu.limits(), &options)?;
        host.emit(Event::Plan(plan.totals.clone()));
        Ok(Preflight { header, options, plan, bytes_per_second, asks: true })
    })
    .await
}

/// Everything on the GPU that a plan asks for, still empty.
struct Allocated {
    weights: Weights,
    caches: Vec<LayerCache>,
    scratch: Scratch,
    residency: Residency,
    repack: Repack,
    readback: gptoss_kernels::GpuBuffer,
}

/// Allocates and fills the GPU from a preflight.
pub async fn load(
    gpu: Rc<Gpu>,
    source: Rc<dyn Source>,
    preflight: Preflight,
    host: &dyn Host,
) -> Result<Model, StageError> {
    let Preflight { header: Header { config, inventory, gguf }, options, plan, asks, bytes_per_second: _ } = preflight;
    let source: Rc<dyn Source> = Rc::new(SensibleSource::new(source, &gguf));
    let kernels = in_stage(host, Stage::Kernels, async {
        let kernels = Kernels::new(&gpu, &inventory, plan.cache);
        until_stopped(host, AwaitPoint::Kernels, gpu.finished()).await??;
        Ok(kernels)
    })
    .await?;
    in_stage(host, Stage::SelfCheck, self_check(&gpu, &kernels, &config, &plan, host)).await?;
    let (plan, allocated) =
        in_stage(host, Stage::GpuMemory, allocate(&gpu, &kernels, &config, &inventory, plan, options, asks, host))
            .await?;
    let Allocated { weights, caches, scratch, residency, repack, readback } = allocated;
    let program = Program::new(&Parts {
        gpu: &gpu,
        kernels: &kernels,
        config: &config,
        plan: &plan,
        weights: &weights,
        caches: &caches,
        scratch: &scratch,
        residency: &residency,
    });
    host.emit(Event::GpuMemory { allocated_bytes: gpu.counters().allocated_bytes });

    let mut rows = Vec::new();
    let streamed = in_stage(host, Stage::WeightsFetch, async {
        let all = weights.pieces(&inventory, plan.experts_ahead);
        let tensor_count = all.iter().filter(|piece| piece.completes.is_some()).count() as u32;
        let progress = Progress { host, needed_bytes: plan.totals.load_bytes, tensor_count };
        let spans = pieces::spans(all, plan.piece_bytes);
        let keep = |offset_bytes, bytes| rows.push((offset_bytes, bytes));
        let streamed = upload::stream(&gpu, &repack, source.as_ref(), spans, Some(progress), host, keep).await?;
        until_stopped(host, AwaitPoint::LastUploads, gpu.finished()).await??;
        Ok(streamed)
    })
    .await?;
    let embedding = Embedding::new(inventory.token_embd.clone(), rows);
    Ok(Model {
        gpu,
        source,
        config,
        inventory,
        plan,
        weights,
        embedding,
        repack,
        _caches: caches,
        scratch,
        residency,
        program,
        readback,
        streamed,
        state: State::default(),
    })
}

/// Refuses to go on when a kernel does not compute what it must on this adapter. Not run again where the host remembers that
/// the same kernels passed on the same adapter.
async fn self_check(
    gpu: &Gpu,
    kernels: &Kernels,
    config: &ModelConfig,
    plan: &MemoryPlan,
    host: &dyn Host,
) -> Result<(), EngineError> {
    let begin = Instant::now();
    let key = self_check::key(gpu);
    let remembered = host.remembered(&key);
    let report = if remembered {
        None
    } else {
        Some(until_stopped(host, AwaitPoint::SelfCheck, kernels.self_check(gpu, config, plan)).await??)
    };
    if report.is_some() {
        host.remember(&key);
    }
    host.emit(Event::SelfCheck(telemetry::SelfCheck {
        kernels: report.as_ref().map_or(0, |report| report.kernels),
        remembered,
        elapsed_ms: milliseconds_since(begin),
        worst_error: report.as_ref().map(|report| report.worst_error),
        worst_kernel: report.map(|report| report.worst_kernel),
    }));
    Ok(())
}

/// Allocates what the plan says. When the GPU has less than that, experts give way, then the default context; the new plan
/// is reported. What does not fit even then is refused with the numbers.
async fn allocate(
    gpu: &Gpu,
    kernels: &Kernels,
    config: &ModelConfig,
    inventory: &Inventory,
    mut plan: MemoryPlan,
    mut options: PlanOptions,
    asks: bool,
    host: &dyn Host,
) -> Result<(MemoryPlan, Allocated), EngineError> {
    let wanted = plan.totals.gpu_total_bytes;
    loop {
        let bytes = plan.totals.gpu_total_bytes;
        let probe = gpu.probe_memory("the model", bytes, || allocate_all(gpu, kernels, config, inventory, &plan));
        let out_of_memory = match until_stopped(host, AwaitPoint::Memory, probe).await? {
            Ok(allocated) => {
                let allocated = allocated?;
                if asks && bytes < wanted {
                    approval(host, Ahead { plan: &plan.totals, bytes_per_second: None }).await?;
                }
                return Ok((plan, allocated));
            }
            Err(error @ GpuError::OutOfMemory { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        if !give_way(&plan, config, &mut options) {
            return Err(out_of_memory.into());
        }
        // No plan at all: the context is as short as it may be.
        plan = MemoryPlan::new(config, inventory, &gpu.limits(), &options).map_err(|_| out_of_memory)?;
        host.emit(Event::Plan(plan.totals.clone()));
    }
}

/// Asks for less than the plan that did not fit: half the expert slots, down to the fewest that work; then half the cache,
/// if the context was not the user's wish. `false` when nothing is left to give.
fn give_way(plan: &MemoryPlan, config: &ModelConfig, options: &mut PlanOptions) -> bool {
    if plan.layers > 0 && plan.slots_per_layer > config.experts_per_token {
        let slots = (plan.slots_per_layer / 2).max(config.experts_per_token);
        options.expert_memory_bytes = Some(plan.expert_bytes(slots));
        return true;
    }
    let totals = &plan.totals;
    options.gpu_memory_bytes = Some(totals.gpu_total_bytes - totals.kv_bytes.div_ceil(2));
    options.max_kv_tokens.is_none() && totals.kv_bytes > 0
}

fn allocate_all(
    gpu: &Gpu,
    kernels: &Kernels,
    config: &ModelConfig,
    inventory: &Inventory,
    plan: &MemoryPlan,
) -> Result<Allocated, GpuError> {
    Ok(Allocated {
        weights: Weights::allocate(gpu, inventory, plan)?,
        caches: LayerCache::allocate(gpu, config, plan),
        scratch: Scratch::allocate(gpu, config, plan),
        residency: Residency::new(gpu, plan.layers, config.experts, plan.slots_per_layer, plan.experts_ahead),
        repack: Repack::with(gpu, Rc::clone(&kernels.repack), plan.piece_bytes),
        readback: gpu.staging("readback", plan.readback_bytes(config)),
    })
}
