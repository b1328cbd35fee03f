//! Loading a model onto the GPU: plan, memory, weights. Each stage is reported; each can be cancelled.

use std::rc::Rc;

use gptoss_kernels::{Gpu, Limits, self_check};
use gptoss_model::sequences::KvCache;
use gptoss_model::{
    AwaitPoint, BatchLimits, CacheFormat, EngineError, Header, Host, LoadProposal, ModelConfig, SensibleSource,
    Sequences, StageError, announce, in_stage, milliseconds_since, read_header, until_stopped,
};
use gptoss_protocol::{self as protocol, Attention, Event, LoadOptions, OptionId, Stage};
use gptoss_source::Source;
use web_time::Instant;

use crate::allocation::{Allocated, Allocation};
use crate::embedding::Embedding;
use crate::forward::State;
use crate::model::Model;
use crate::pager::Pager;
use crate::pieces;
use crate::plan::{MemoryPlan, PlanOptions};
use crate::policy::LoadPolicy;
use crate::program::{ModelKernels, Program};
use crate::recipe::Recipe;
use crate::upload::{self, Progress, Uploads};

/// Translates the user's options for the planner.
pub fn plan_options(config: &ModelConfig, options: &LoadOptions) -> Result<PlanOptions, EngineError> {
    let layers = options.layers.unwrap_or(config.layers);
    if layers > config.layers {
        return Err(EngineError::Option {
            option: OptionId::Layers,
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

/// How many bytes tell at least how fast a source is.
const TELLING_BYTES: u64 = 1 << 20;

/// Header and plan: everything that is known before anything big is fetched.
pub struct Preflight {
    /// Header of the model.
    pub header: Header,
    /// Options that the plan was made from.
    pub options: PlanOptions,
    /// What goes where in memory.
    pub plan: MemoryPlan,
    /// Speed at which the header came over the network; `None` without a network, or if the header was too small to
    /// tell.
    pub bytes_per_second: Option<f64>,
    /// Whether the user is asked for approval.
    pub policy: LoadPolicy,
}

impl Preflight {
    /// Plans again, with room for the logits of every token of a batch.
    pub fn with_all_logits(&mut self, limits: &Limits) -> Result<(), StageError> {
        self.options.head_tokens = self.options.batch_tokens;
        self.plan_again(limits)
    }

    /// Plans again after the options were changed.
    pub fn plan_again(&mut self, limits: &Limits) -> Result<(), StageError> {
        let Header { config, inventory, .. } = &self.header;
        self.plan = MemoryPlan::new(config, inventory, limits, &self.options)
            .map_err(|error| StageError { stage: Stage::MemoryPlan, error })?;
        Ok(())
    }

    /// Waits for the approval of the plan.
    pub(crate) async fn approved(&self, host: &dyn Host) -> Result<(), StageError> {
        let proposal = LoadProposal {
            plan: &self.plan.totals,
            bytes_per_second: self.bytes_per_second,
            wished_expert_bytes: self.options.expert_memory_bytes,
        };
        let approval = self.policy.approval(host, proposal).await;
        approval.map_err(|error| StageError { stage: Stage::MemoryPlan, error })
    }
}

/// Reads the header and makes the plan.
pub async fn preflight(
    gpu: &Gpu,
    source: &dyn Source,
    options: &LoadOptions,
    policy: LoadPolicy,
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
        Ok(Preflight { header, options, plan, bytes_per_second, policy })
    })
    .await
}

/// Allocates and fills the GPU as the preflight says.
pub async fn load(
    gpu: Rc<Gpu>,
    source: Rc<dyn Source>,
    preflight: Preflight,
    host: &dyn Host,
) -> Result<Model, StageError> {
    let Preflight { header: Header { config, inventory, gguf }, options, plan, policy, bytes_per_second: _ } =
        preflight;
    let source: Rc<dyn Source> = Rc::new(SensibleSource::new(source, &gguf));
    let (recipe, kernels) = in_stage(host, Stage::Kernels, async {
        let recipe = Recipe::new(&config, &inventory, &plan, &gpu.limits())?;
        let kernels = ModelKernels::compile(&gpu, &recipe, &inventory);
        until_stopped(host, AwaitPoint::Kernels, gpu.finished()).await??;
        Ok((recipe, kernels))
    })
    .await?;
    let last_position = plan.kv_capacity - 1;
    in_stage(host, Stage::SelfCheck, self_check(&gpu, &kernels, (&config, &recipe, last_position), host)).await?;
    let allocation = Allocation { gpu: &gpu, kernels: &kernels, config: &config, inventory: &inventory, policy };
    let (plan, allocated) = in_stage(host, Stage::GpuMemory, allocation.make(plan, options, host)).await?;
    let Allocated { recipe, buffers, weights, residency, repack, readbacks } = allocated;
    let program = Program::new(&gpu, &kernels.kernels, &recipe, &buffers);
    host.emit(Event::GpuMemory { allocated_bytes: gpu.counters().allocated_bytes });

    let mut rows = Vec::new();
    let mut uploads = Uploads::new(Rc::clone(&gpu), repack);
    let streamed = in_stage(host, Stage::WeightsFetch, async {
        let all = weights.pieces(&inventory, plan.experts_ahead);
        let tensor_count = all.iter().filter(|piece| piece.completes.is_some()).count() as u32;
        let progress = Progress { needed_bytes: plan.totals.load_bytes, tensor_count };
        let spans = pieces::spans(all, plan.piece_bytes);
        let keep = |offset_bytes, bytes| rows.push((offset_bytes, bytes));
        let streamed = upload::stream(&mut uploads, source.as_ref(), spans, progress, host, keep).await?;
        until_stopped(host, AwaitPoint::LastUploads, gpu.finished()).await??;
        Ok(streamed)
    })
    .await?;
    let embedding = Embedding::new(inventory.token_embd.clone(), rows);
    let limits = BatchLimits { rows: plan.batch_tokens, wanted: plan.head_tokens };
    let sequences = Sequences::new(KvCache::new(plan.kv), config.vocabulary, limits);
    let caches = recipe.layers.iter().map(|layer| (layer.buffers.keys, layer.buffers.values)).collect();
    let pager = Pager::new(Rc::clone(&gpu), source, inventory, weights, uploads, residency, streamed);
    Ok(Model {
        sequences,
        caches,
        readbacks,
        gpu,
        config,
        plan,
        embedding,
        pager,
        stopwatch: None,
        shared: recipe.shared,
        buffers,
        program,
        state: State::default(),
    })
}

/// Refuses to go on if a kernel computes something wrong on this adapter. Skipped if the host remembers that the same
/// kernels passed on the same adapter.
async fn self_check(
    gpu: &Gpu,
    kernels: &ModelKernels,
    (config, recipe, last_position): (&ModelConfig, &Recipe, u32),
    host: &dyn Host,
) -> Result<(), EngineError> {
    let begin = Instant::now();
    let key = self_check::key(gpu);
    let remembered = host.remembered(&key);
    let report = if remembered {
        None
    } else {
        let check = kernels.self_check(gpu, config, recipe, last_position);
        Some(until_stopped(host, AwaitPoint::SelfCheck, check).await??)
    };
    if report.is_some() {
        host.remember(&key);
    }
    host.emit(Event::SelfCheck(protocol::SelfCheck {
        kernels: report.as_ref().map_or(0, |report| report.kernels),
        remembered,
        elapsed_ms: milliseconds_since(begin),
        worst_error: report.as_ref().map(|report| report.worst_error),
        worst_kernel: report.map(|report| report.worst_kernel),
    }));
    Ok(())
}
