//! A loaded model: tokens in, logits or the most likely next tokens out.

use std::rc::Rc;

use gptoss_kernels::stopwatch::{Stopwatch, Timing};
use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_model::sequences::{BlockCopy, Reach};
use gptoss_model::{Backend, EngineError, Host, ModelConfig, Outcome, SequenceId, Sequences};
use gptoss_protocol::{CacheCounters, Watch, WorkCounters};

use crate::embedding::Embedding;
use crate::forward::State;
use crate::pager::Pager;
use crate::plan::MemoryPlan;
use crate::program::Program;
use crate::recipe::{BufferId, Filled, Shared};

/// Weights, cache and program of one model on one GPU.
pub struct Model {
    pub(crate) gpu: Rc<Gpu>,
    pub(crate) config: ModelConfig,
    pub(crate) plan: MemoryPlan,
    pub(crate) embedding: Embedding,
    /// Buffers that the program is bound to. The program's launches keep the GPU objects alive, these keep the count of
    /// their bytes.
    pub(crate) buffers: Filled,
    pub(crate) shared: Shared,
    pub(crate) pager: Pager,
    /// Exists while launches are timed.
    pub(crate) stopwatch: Option<Stopwatch>,
    pub(crate) program: Program,
    pub(crate) sequences: Sequences,
    /// For each layer, keys and values.
    pub(crate) caches: Vec<(BufferId, BufferId)>,
    /// One buffer for each batch that may be under way.
    pub(crate) readbacks: Vec<GpuBuffer>,
    pub(crate) state: State,
}

impl Model {
    /// What is where in memory.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The GPU that the model is on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Starts timing every launch, which makes batches slower. `false` if the GPU cannot measure time.
    pub fn start_stopwatch(&mut self) -> bool {
        self.stopwatch = Stopwatch::new(&self.gpu);
        self.stopwatch.is_some()
    }

    /// Ends the timing and returns how long the launches took, by operation.
    ///
    /// # Errors
    /// Those of the GPU.
    pub async fn stop_stopwatch(&mut self) -> Result<Vec<Timing>, EngineError> {
        match self.stopwatch.take() {
            Some(mut stopwatch) => Ok(stopwatch.read(&self.gpu).await?),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn buffer(&self, id: BufferId) -> &Rc<GpuBuffer> {
        &self.buffers[id]
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

    fn kv_bytes(&self) -> u64 {
        self.plan.totals.kv_bytes
    }

    fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    fn sequences_mut(&mut self) -> &mut Sequences {
        &mut self.sequences
    }

    /// Copies through a separate buffer, because a copy within one buffer is not allowed.
    fn copy_blocks(&mut self, copies: &[BlockCopy]) {
        if copies.is_empty() {
            return;
        }
        let bytes = self.plan.block_bytes(&self.config);
        let between = self.buffer(self.shared.block_copy).raw();
        let mut encoder = self.gpu.encoder("copied blocks");
        for &BlockCopy { reach, from, to } in copies {
            for (layer, &(keys, values)) in (0..).zip(&self.caches) {
                if Reach::of_window(self.plan.window_of(&self.config, layer)) != reach {
                    continue;
                }
                for cache in [keys, values].map(|cache| self.buffer(cache).raw()) {
                    encoder.copy_buffer_to_buffer(cache, u64::from(from) * bytes, between, 0, bytes);
                    encoder.copy_buffer_to_buffer(between, 0, cache, u64::from(to) * bytes, bytes);
                }
            }
        }
        self.gpu.submit(encoder);
    }

    fn begin_pending(&mut self) {
        // An error here occurs again when the batch is waited for, and is reported then.
        let _told_later = self.start_pending();
    }

    fn set_watch(&mut self, watch: Watch) {
        self.state.watch = watch;
    }

    async fn compute_oldest(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        let computed = self.forward(host).await;
        if computed.is_err() {
            // Nobody waits for experts any more, and after STOP the network should be quiet.
            self.pager.give_up();
            self.pager.journal().tell_all(host);
        }
        computed
    }

    async fn logits_at_hand(&mut self, sequence: SequenceId, host: &dyn Host) -> Result<Option<Vec<f32>>, EngineError> {
        let wanted = (sequence, self.position(sequence).wrapping_sub(1));
        match self.state.logit_rows.iter().position(|row| *row == wanted) {
            Some(row) => Ok(Some(self.read_logits(row, 1, host).await?)),
            None => Ok(None),
        }
    }

    fn cache_counters(&self) -> CacheCounters {
        self.pager.residency().counters()
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
            watched_readback_bytes: self.state.readbacks.watched_bytes,
            weights_fetched_bytes: self.pager.streamed().fetched_bytes,
            weights_used_bytes: self.pager.streamed().used_bytes,
        }
    }
}
