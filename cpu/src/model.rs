//! A model on the CPU, as the engine sees it.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use gptoss_gguf::{Gguf, part_paths};
use gptoss_model::{
    Backend, CacheFormat, DEFAULT_CONTEXT_TOKENS, EngineError, Header, Host, Inventory, ModelConfig, NonFinite,
    NotFinite, Prediction, StageError, announce, in_stage, read_header, require_finite_rows, ring_holds,
};
use gptoss_source::FileSource;
use gptoss_telemetry::{CacheCounters, OptionId, Stage, WorkCounters};

use crate::activations::Activations;
use crate::cache::LayerCache;
use crate::forward::{LayerVectors, Scratch, Weights};
use crate::isa::Isa;
use crate::mapped::Mapped;
use crate::matmul::Compute;
use crate::pool::Pool;

/// Tokens of one prefill batch: experts see 64 of 512 on average, enough to pay for unpacking their weights.
const BATCH_TOKENS: usize = 512;

/// What the user and the host choose.
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// `None`: one per processor that the system grants.
    pub threads: Option<usize>,
    /// Capacity of the KV cache, in tokens.
    pub max_kv_tokens: Option<u32>,
    /// Layers that are run; `None`: all.
    pub layers: Option<u32>,
    /// Keep the KV cache in F32, for parity runs, instead of F16.
    pub kv_f32: bool,
    /// Round YaRN's correction range as llama.cpp does.
    pub yarn_truncate: bool,
    /// Full attention everywhere.
    pub dense_attention: bool,
    pub activations: Activations,
    /// `None`: the best that the processor has.
    pub isa: Option<Isa>,
}

/// A model whose weights are mapped from its file.
pub struct CpuModel {
    config: ModelConfig,
    inventory: Inventory,
    gguf: Gguf,
    mapped: Mapped,
    layers: Vec<LayerVectors>,
    output_norm: Vec<f32>,
    rope_table: Vec<[f32; 2]>,
    dense_attention: bool,
    cache_format: CacheFormat,
    caches: Vec<LayerCache>,
    kv_capacity: u32,
    compute: Compute,
    scratch: Scratch,
    /// Of the last batch whose logits were wanted.
    logits: Vec<f32>,
    position: u32,
    /// One past the last position that was ever written to the cache.
    written: u32,
}

impl CpuModel {
    /// Maps the file and checks it; reports the stages and the model to `host`. Of a split model `path` names any part, and
    /// the others lie beside it.
    pub async fn open(path: &Path, options: &CpuOptions, host: &dyn Host) -> Result<Self, StageError> {
        let paths = part_paths(path);
        let Header { mut config, inventory, gguf } = in_stage(host, Stage::GgufHeader, async {
            let source = FileSource::open_all(&paths)?;
            read_header(source.as_ref(), host).await
        })
        .await?;
        config.yarn.truncate = options.yarn_truncate;
        in_stage(host, Stage::MemoryPlan, async {
            let layers = options.layers.unwrap_or(config.layers);
            let header = Header { config, inventory, gguf };
            if layers > header.config.layers {
                return Err(EngineError::Option {
                    option: OptionId::Layers,
                    expected: "no more than the model has",
                    got: format!("{layers}, and the model has {}", header.config.layers),
                });
            }
            announce(&header, layers, host);
            Self::new(&paths, header, layers as usize, options)
        })
        .await
    }

    fn new(paths: &[PathBuf], header: Header, layers: usize, options: &CpuOptions) -> Result<Self, EngineError> {
        let Header { config, inventory, gguf } = header;
        let kv_capacity = kv_capacity(&config, options)?;
        let cache_format = if options.kv_f32 { CacheFormat::F32 } else { CacheFormat::F16 };
        let caches = (0..layers)
            .map(|layer| {
                let window = if options.dense_attention { 0 } else { config.window_of(layer as u32) as usize };
                let ring = if window == 0 { usize::MAX } else { window + BATCH_TOKENS };
                LayerCache::new(cache_format, config.kv_heads as usize, ring.min(kv_capacity as usize))
            })
            .collect();
        let mapped = Mapped::open(paths, gguf.file_len)?;
        mapped.check_sense(&gguf, paths)?;
        Ok(Self {
            layers: inventory.layers[..layers].iter().map(|tensors| LayerVectors::new(&mapped, tensors)).collect(),
            output_norm: mapped.plain(&inventory.output_norm),
            rope_table: config.yarn.table(kv_capacity as usize),
            dense_attention: options.dense_attention,
            cache_format,
            caches,
            kv_capacity,
            compute: compute(options)?,
            scratch: Scratch::default(),
            logits: Vec::new(),
            position: 0,
            written: 0,
            config,
            inventory,
            gguf,
            mapped,
        })
    }

    /// The file's header.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.compute.pool.threads()
    }

    /// Appends a batch of at most [`BATCH_TOKENS`]; leaves the logits of its last `logit_rows` tokens.
    fn forward(&mut self, batch: &[u32], logit_rows: usize, host: &dyn Host) -> Result<(), EngineError> {
        if let Some(&id) = batch.iter().find(|&&token| token >= self.config.vocabulary) {
            return Err(EngineError::Token { id, vocabulary: self.config.vocabulary });
        }
        let weights = Weights {
            config: &self.config,
            inventory: &self.inventory,
            mapped: &self.mapped,
            layers: &self.layers,
            rope_table: &self.rope_table,
            dense_attention: self.dense_attention,
        };
        self.written = self.written.max(self.position + batch.len() as u32);
        weights.embed(batch, &mut self.scratch);
        for (index, cache) in self.caches.iter_mut().enumerate() {
            if host.cancelled() {
                return Err(EngineError::Cancelled);
            }
            weights.layer(index, self.position as usize, cache, &mut self.compute, &mut self.scratch).map_err(
                |place| {
                    let found = NotFinite { layer: index as u32, place };
                    let (first_position, tokens) = (self.position, batch.len() as u32);
                    EngineError::NonFinite(NonFinite::Layer { found, first_position, tokens })
                },
            )?;
        }
        if logit_rows > 0 {
            weights.head(&self.output_norm, logit_rows, &mut self.compute, &mut self.scratch, &mut self.logits);
        }
        self.position += batch.len() as u32;
        Ok(())
    }

    fn predict(&self, inverse_temperature: f32, candidates: bool) -> Result<Prediction, EngineError> {
        Prediction::from_logits(&self.logits, inverse_temperature, candidates, self.position - 1)
    }
}

impl Backend for CpuModel {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn description(&self) -> String {
        let activations = match self.compute.activations {
            Activations::F32 => "F32 activations",
            Activations::Int8 => "8-bit activations",
        };
        let cache = match self.cache_format {
            CacheFormat::F16 => "F16",
            CacheFormat::F32 => "F32",
        };
        let threads = self.threads();
        let plural = if threads == 1 { "" } else { "s" };
        format!("CPU: {threads} thread{plural}, {}, {activations}, {cache} cache", self.compute.isa)
    }

    fn kv_capacity(&self) -> u32 {
        self.kv_capacity
    }

    fn kv_bytes(&self) -> u64 {
        self.caches.iter().map(LayerCache::size_bytes).sum()
    }

    fn position(&self) -> u32 {
        self.position
    }

    fn rewind(&mut self, position: u32) -> u32 {
        let position = position.min(self.position);
        let held = self.caches.iter().enumerate().all(|(layer, cache)| {
            let window = if self.dense_attention { 0 } else { self.config.window_of(layer as u32) };
            window == 0 || ring_holds(position, window, cache.capacity() as u32, self.written)
        });
        self.position = if held { position } else { 0 };
        if self.position == 0 {
            self.written = 0;
        }
        self.position
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
        let mut done = 0;
        for batch in tokens.chunks(BATCH_TOKENS) {
            done += batch.len();
            self.forward(batch, usize::from(done == tokens.len()), host)?;
            progress(done as u32);
        }
        self.predict(inverse_temperature, candidates)
    }

    async fn decode(
        &mut self,
        token: u32,
        inverse_temperature: f32,
        candidates: bool,
        host: &dyn Host,
    ) -> Result<Prediction, EngineError> {
        self.require_room(1)?;
        self.forward(&[token], 1, host)?;
        self.predict(inverse_temperature, candidates)
    }

    async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.rewind(0);
        self.require_room(tokens.len())?;
        let mut all = Vec::with_capacity(tokens.len() * self.config.vocabulary as usize);
        for batch in tokens.chunks(BATCH_TOKENS) {
            self.forward(batch, batch.len(), &gptoss_model::Quiet)?;
            let first_position = self.position - batch.len() as u32;
            require_finite_rows(&self.logits, self.config.vocabulary, first_position)?;
            all.extend_from_slice(&self.logits);
        }
        Ok(all)
    }

    async fn last_logits(&mut self, _host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        let first = self.logits.len() - self.config.vocabulary as usize;
        Ok(self.logits[first..].to_vec())
    }

    /// All experts are in the file's map: nothing is cached here.
    fn cache_counters(&self) -> CacheCounters {
        CacheCounters::default()
    }

    /// Counts GPU work only.
    fn work_counters(&self) -> WorkCounters {
        WorkCounters::default()
    }
}

fn kv_capacity(config: &ModelConfig, options: &CpuOptions) -> Result<u32, EngineError> {
    let wanted = options.max_kv_tokens.unwrap_or(config.context_tokens.min(DEFAULT_CONTEXT_TOKENS));
    if wanted < 2 {
        return Err(EngineError::Context { wanted, limit: "an answer needs at least 2".into() });
    }
    if wanted > config.context_tokens {
        let limit = format!("the model's own context is {} tokens", config.context_tokens);
        return Err(EngineError::Context { wanted, limit });
    }
    Ok(wanted)
}

fn compute(options: &CpuOptions) -> Result<Compute, EngineError> {
    let threads = match options.threads {
        Some(0) => {
            return Err(EngineError::Option { option: OptionId::Threads, expected: "at least 1", got: "0".into() });
        }
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, NonZero::get),
    };
    let pool = Pool::new(threads).map_err(|error| EngineError::Option {
        option: OptionId::Threads,
        expected: "a number that the system can start",
        got: format!("{threads}: {error}"),
    })?;
    Ok(Compute::new(pool, options.isa.unwrap_or_else(Isa::detect), options.activations))
}
