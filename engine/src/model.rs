//! A loaded model: tokens in, logits or the most likely next tokens out.

use std::rc::Rc;

use gptoss_kernels::launch::record;
use gptoss_kernels::repack::Repack;
use gptoss_kernels::sample::CANDIDATES_BYTES;
use gptoss_kernels::{Gpu, GpuBuffer, Launch, Status, Step};
use gptoss_model::ops::sample::Candidate;
use gptoss_model::{
    AwaitPoint, Backend, EngineError, Host, Inventory, ModelConfig, NonFinite, Prediction, Quiet, check_cancelled,
    require_finite_rows, ring_holds, until_stopped,
};
use gptoss_source::Source;
use gptoss_telemetry::{CacheCounters, Event, Missing, WorkCounters};

use crate::embedding::Embedding;
use crate::pieces;
use crate::plan::MemoryPlan;
use crate::program::Program;
use crate::recipe::{BufferId, Filled, Shared};
use crate::residency::Residency;
use crate::upload::{self, Streamed};
use crate::weights::Weights;

/// What to learn from a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing: more of the prompt follows.
    Nothing,
    /// The most likely token after the last one.
    Top,
    /// The same, and the [`gptoss_kernels::sample::CANDIDATES`] most likely ones.
    Candidates,
    /// All logits of every token of the batch (parity runs).
    AllLogits,
}

/// Bytes read back, by purpose.
#[derive(Clone, Copy, Debug, Default)]
struct Readbacks {
    status_bytes: u64,
    sampling_bytes: u64,
}

/// Weights, cache and program of one model on one GPU.
pub struct Model {
    pub(crate) gpu: Rc<Gpu>,
    pub(crate) source: Rc<dyn Source>,
    pub(crate) config: ModelConfig,
    pub(crate) inventory: Inventory,
    pub(crate) plan: MemoryPlan,
    pub(crate) weights: Weights,
    pub(crate) embedding: Embedding,
    pub(crate) repack: Repack,
    /// Bound by the program; the program's launches keep the GPU objects, these keep the count of their bytes.
    pub(crate) buffers: Filled,
    pub(crate) shared: Shared,
    pub(crate) residency: Residency,
    pub(crate) program: Program,
    pub(crate) readback: GpuBuffer,
    pub(crate) streamed: Streamed,
    pub(crate) state: State,
}

/// What changes from batch to batch.
#[derive(Default)]
pub(crate) struct State {
    position: u32,
    /// One past the last position that was ever written to the cache: rings have lost what lies a capacity before it.
    written: u32,
    stamp: u32,
    readbacks: Readbacks,
}

impl Model {
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    fn buffer(&self, id: BufferId) -> &GpuBuffer {
        &self.buffers[id]
    }

    async fn read_logits(&mut self, rows: usize, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        let bytes = rows as u64 * u64::from(self.config.vocabulary) * 4;
        let raw = until_stopped(host, AwaitPoint::Logits, self.gpu.read(&self.buffers[self.shared.logits], 0, bytes))
            .await??;
        self.state.readbacks.sampling_bytes += bytes;
        Ok(bytemuck::pod_collect_to_vec(&raw))
    }

    /// One batch through all layers. Starts optimistically; whenever a layer lacks experts, everything after it was
    /// skipped on the GPU: load them and go on from there. What a token computes does not depend on what was resident.
    async fn forward(
        &mut self,
        batch: &[u32],
        wanted: Wanted,
        inverse_temperature: f32,
        host: &dyn Host,
    ) -> Result<Option<Prediction>, EngineError> {
        check_cancelled(host)?;
        self.state.stamp = self.state.stamp.wrapping_add(1);
        let tokens = batch.len() as u32;
        self.state.written = self.state.written.max(self.state.position + tokens);
        let (head_first, head_tokens) = match wanted {
            Wanted::Nothing => (0, 0),
            Wanted::Top | Wanted::Candidates => (tokens - 1, 1),
            Wanted::AllLogits => (0, tokens),
        };
        let step = Step {
            tokens,
            first_position: self.state.position,
            head_first,
            head_tokens,
            stamp: self.state.stamp,
            inverse_temperature,
            padding: [0; 2],
        };
        let mut embedded = Vec::with_capacity(batch.len() * self.config.hidden as usize);
        for &token in batch {
            embedded.extend(self.embedding.row(token)?);
        }
        self.gpu.write(self.buffer(self.shared.x), 0, bytemuck::cast_slice(&embedded));
        self.gpu.write(self.buffer(self.shared.step), 0, bytemuck::bytes_of(&step));

        let mut report = self.submit(&step, Resume::FromStart, wanted, host).await?;
        require_finite(&report.status, &step)?;
        while report.status.halt_layer != Status::RUNNING {
            check_cancelled(host)?;
            let layer = report.status.halt_layer as usize;
            let missing: Vec<u32> = report.status.missed_experts().collect();
            let resume = self.bring_in(&step, layer, &missing, &report.stamps, host).await?;
            report = self.submit(&step, resume, wanted, host).await?;
            require_finite(&report.status, &step)?;
        }
        self.state.position += tokens;
        self.finish(wanted, &report)
    }

    fn finish(&self, wanted: Wanted, report: &Report) -> Result<Option<Prediction>, EngineError> {
        if wanted == Wanted::Nothing {
            return Ok(None);
        }
        let status = &report.status;
        if status.non_finite != 0 {
            let found = NonFinite::Logits { count: status.non_finite, position: self.state.position - 1 };
            return Err(EngineError::NonFinite(found));
        }
        Ok(Some(Prediction {
            token: status.top_token,
            logit: status.top_logit,
            log_sum_exp: status.log_sum_exp,
            log_sum_exp_tempered: status.log_sum_exp_tempered,
            entropy_nats: status.entropy_nats,
            candidates: report.candidates[..].iter().take(self.config.vocabulary as usize).copied().collect(),
        }))
    }

    /// Loads what a halted layer needs and says where to go on. When the batch needs more experts than the layer has
    /// slots, they come in turns: each turn computes the pairs whose experts are there.
    async fn bring_in(
        &mut self,
        step: &Step,
        layer: usize,
        missing: &[u32],
        stamps: &[u32],
        host: &dyn Host,
    ) -> Result<Resume, EngineError> {
        let stamps = &stamps[layer * self.config.experts as usize..][..self.config.experts as usize];
        let resident: Vec<u32> = (0..self.config.experts)
            .filter(|&expert| stamps[expert as usize] == step.stamp && self.residency.is_resident(layer, expert))
            .collect();
        // A token of an answer is soon there, a prompt's first batch may wait for most of the model.
        let tells = step.tokens > 1;
        if tells {
            let experts = missing.len() as u32;
            let bytes = u64::from(experts) * self.expert_file_bytes(layer);
            host.emit(Event::Missing(Missing { layer: layer as u32, layers: self.plan.layers, experts, bytes }));
        }
        let resume = self.read_missing(step, layer, missing, &resident, stamps, host).await?;
        if tells {
            host.emit(Event::Experts(self.residency.counters()));
        }
        Ok(resume)
    }

    /// Reads what is missing, in turns where it has to be.
    async fn read_missing(
        &mut self,
        step: &Step,
        layer: usize,
        missing: &[u32],
        resident: &[u32],
        stamps: &[u32],
        host: &dyn Host,
    ) -> Result<Resume, EngineError> {
        let slots = self.residency.slots_per_layer();
        if resident.len() + missing.len() <= slots {
            self.load_experts(layer, missing, resident, stamps, host).await?;
            return Ok(Resume::Experts(layer));
        }
        // Those that are here go first, before their slots are needed.
        self.run_experts(step, layer);
        let mut turns = missing.chunks(slots).peekable();
        while let Some(turn) = turns.next() {
            self.load_experts(layer, turn, &[], stamps, host).await?;
            if turns.peek().is_some() {
                self.run_experts(step, layer);
            }
        }
        Ok(Resume::Experts(layer))
    }

    /// Bytes in the file of one expert.
    pub(crate) fn expert_file_bytes(&self, layer: usize) -> u64 {
        self.inventory.layers[layer].expert_file_bytes() / u64::from(self.config.experts)
    }

    /// As before a batch; what was found in the batch before it halted stays.
    fn reset_status(&self, resume: Resume) {
        let status = Status::running();
        let bytes = match resume {
            Resume::FromStart => bytemuck::bytes_of(&status),
            Resume::Experts(_) => &bytemuck::bytes_of(&status)[..Status::BEFORE_NOT_FINITE_BYTES],
        };
        self.gpu.write(self.buffer(self.shared.status), 0, bytes);
    }

    /// Computes the pairs of a halted layer whose experts are resident.
    fn run_experts(&self, step: &Step, layer: usize) {
        self.reset_status(Resume::Experts(layer));
        let mut encoder = self.gpu.encoder("experts");
        record(&self.gpu, &mut encoder, step, &self.program.layers[layer].experts);
        self.gpu.submit(encoder);
    }

    /// Gives experts slots, and reads them into these. `keep` stay where they are; `stamps`, [experts], say who goes where no
    /// slot is free.
    pub(crate) async fn load_experts(
        &mut self,
        layer: usize,
        experts: &[u32],
        keep: &[u32],
        stamps: &[u32],
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        let mut keep = keep.to_vec();
        let mut all = Vec::new();
        for &expert in experts {
            let slot = self.residency.claim(&self.gpu, layer, expert, &keep, stamps);
            keep.push(expert);
            all.extend(self.weights.expert_pieces(layer, &self.inventory.layers[layer], expert, slot));
        }
        let spans = pieces::spans(all, self.plan.piece_bytes);
        let loaded = upload::stream(&self.gpu, &self.repack, self.source.as_ref(), spans, None, host, |_, _| {
            unreachable!("experts are not kept on the host")
        })
        .await;
        match loaded {
            Ok(streamed) => {
                self.streamed.fetched_bytes += streamed.fetched_bytes;
                self.streamed.used_bytes += streamed.used_bytes;
                let each = streamed.used_bytes / experts.len().max(1) as u64;
                for &expert in experts {
                    self.residency.publish(&self.gpu, layer, expert, each);
                }
                Ok(())
            }
            Err(error) => {
                for &expert in experts {
                    self.residency.abandon(layer, expert);
                }
                Err(error)
            }
        }
    }

    /// Records and submits from `resume` on, and reads back the status and what else is wanted. After STOP the GPU ends what it
    /// was given, and nobody looks at it: the position stays where it was.
    async fn submit(
        &mut self,
        step: &Step,
        resume: Resume,
        wanted: Wanted,
        host: &dyn Host,
    ) -> Result<Report, EngineError> {
        self.reset_status(resume);
        let mut encoder = self.gpu.encoder("forward");
        record(&self.gpu, &mut encoder, step, launches(&self.program, resume));

        let candidates_bytes = if wanted == Wanted::Candidates { CANDIDATES_BYTES } else { 0 };
        let stamps_bytes =
            if self.residency.is_complete() { 0 } else { self.buffer(self.shared.last_used).size_bytes() };
        let readback = self.readback.raw();
        let mut at = 0;
        for (buffer, bytes) in [
            (self.shared.status, Status::SIZE_BYTES),
            (self.shared.candidates, candidates_bytes),
            (self.shared.last_used, stamps_bytes),
        ] {
            if bytes > 0 {
                encoder.copy_buffer_to_buffer(self.buffer(buffer).raw(), 0, readback, at, bytes);
                at += bytes;
            }
        }
        self.gpu.submit(encoder);
        let layers = self.plan.layers - resume.first_layer() as u32;
        let read = self.gpu.read_work(&self.readback, at, u64::from(step.tokens) * u64::from(layers + 1));
        let raw = until_stopped(host, AwaitPoint::Batch, read).await??;
        self.state.readbacks.status_bytes += Status::SIZE_BYTES + stamps_bytes;
        self.state.readbacks.sampling_bytes += candidates_bytes;

        let (status, rest) = raw.split_at(Status::SIZE_BYTES as usize);
        let (candidates, stamps) = rest.split_at(candidates_bytes as usize);
        let status: Status = bytemuck::pod_read_unaligned(status);
        self.residency.count_uses(status.hits, status.misses);
        Ok(Report {
            status,
            candidates: bytemuck::pod_collect_to_vec(candidates),
            stamps: bytemuck::pod_collect_to_vec(stamps),
        })
    }
}

impl Backend for Model {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn description(&self) -> String {
        let adapter = self.gpu.adapter();
        let cache = self.plan.cache.name();
        let name = if adapter.name.is_empty() { "unnamed adapter" } else { &adapter.name };
        format!("GPU: {name} ({}), F32 activations, {cache} cache", adapter.backend)
    }

    fn kv_capacity(&self) -> u32 {
        self.plan.kv_capacity
    }

    fn kv_bytes(&self) -> u64 {
        self.plan.totals.kv_bytes
    }

    fn position(&self) -> u32 {
        self.state.position
    }

    fn rewind(&mut self, position: u32) -> u32 {
        let position = position.min(self.state.position);
        let whole = (0..self.plan.layers).all(|layer| {
            let window = self.plan.window_of(&self.config, layer);
            window == 0
                || ring_holds(position, window, self.plan.cache_capacity(&self.config, layer), self.state.written)
        });
        self.state.position = if whole { position } else { 0 };
        if self.state.position == 0 {
            self.state.written = 0;
        }
        self.state.position
    }

    async fn prefill(
        &mut self,
        tokens: &[u32],
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
        mut progress: impl FnMut(u32),
    ) -> Result<Prediction, EngineError> {
        self.require_room(tokens.len())?;
        let batches = tokens.chunks(self.plan.batch_tokens as usize);
        let last = batches.len() - 1;
        let mut done = 0;
        let mut prediction = None;
        for (index, batch) in batches.enumerate() {
            let wanted = match (index == last, candidates) {
                (false, _) => Wanted::Nothing,
                (true, false) => Wanted::Top,
                (true, true) => Wanted::Candidates,
            };
            prediction = self.forward(batch, wanted, inverse_temperature, host).await?;
            done += batch.len() as u32;
            progress(done);
        }
        Ok(prediction.expect("the last batch was asked for a prediction"))
    }

    /// One submission when every expert is resident.
    async fn decode(
        &mut self,
        token: u32,
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
    ) -> Result<Prediction, EngineError> {
        self.require_room(1)?;
        let wanted = if candidates { Wanted::Candidates } else { Wanted::Top };
        let prediction = self.forward(&[token], wanted, inverse_temperature, host).await?;
        Ok(prediction.expect("a prediction was asked for"))
    }

    /// In batches of at most as many tokens as the plan has head tokens.
    async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.rewind(0);
        self.require_room(tokens.len())?;
        let mut logits = Vec::with_capacity(tokens.len() * self.config.vocabulary as usize);
        for batch in tokens.chunks(self.plan.head_tokens.min(self.plan.batch_tokens) as usize) {
            let first_position = self.state.position;
            self.forward(batch, Wanted::AllLogits, 1.0, &Quiet).await?;
            let rows = self.read_logits(batch.len(), &Quiet).await?;
            require_finite_rows(&rows, self.config.vocabulary, first_position)?;
            logits.extend(rows);
        }
        Ok(logits)
    }

    async fn last_logits(&mut self, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        self.read_logits(1, host).await
    }

    fn cache_counters(&self) -> CacheCounters {
        self.residency.counters()
    }

    fn work_counters(&self) -> WorkCounters {
        let gpu = self.gpu.counters();
        WorkCounters {
            submits: gpu.submits,
            dispatches: gpu.dispatches,
            buffers_created: gpu.buffers_created,
            bind_groups_created: gpu.bind_groups_created,
            pipelines_created: gpu.pipelines_created,
            status_readback_bytes: self.state.readbacks.status_bytes,
            sampling_readback_bytes: self.state.readbacks.sampling_bytes,
            weights_fetched_bytes: self.streamed.fetched_bytes,
            weights_used_bytes: self.streamed.used_bytes,
        }
    }
}

/// Where a submission begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    FromStart,
    /// At the experts of this layer: its attention and routing are done.
    Experts(usize),
}

impl Resume {
    fn first_layer(self) -> usize {
        match self {
            Self::FromStart => 0,
            Self::Experts(layer) => layer,
        }
    }
}

struct Report {
    status: Status,
    candidates: Vec<Candidate>,
    /// [layers, experts]; empty when nothing can be missed.
    stamps: Vec<u32>,
}

fn launches(program: &Program, resume: Resume) -> impl Iterator<Item = &Launch> {
    let skip_attention = matches!(resume, Resume::Experts(_));
    let begin = if skip_attention { &[][..] } else { &program.begin[..] };
    let layers = program.layers[resume.first_layer()..].iter().enumerate().flat_map(move |(index, layer)| {
        let attend = if skip_attention && index == 0 { &[][..] } else { &layer.attend[..] };
        attend.iter().chain(&layer.experts).chain(&layer.combine)
    });
    begin.iter().chain(layers).chain(&program.head)
}

/// Refuses a batch in which an activation was not finite.
fn require_finite(status: &Status, step: &Step) -> Result<(), EngineError> {
    let (first_position, tokens) = (step.first_position, step.tokens);
    match status.not_finite() {
        None => Ok(()),
        Some(found) => Err(EngineError::NonFinite(NonFinite::Layer { found, first_position, tokens })),
    }
}
