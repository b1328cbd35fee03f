//! A model on the CPU, as the engine sees it.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use gptoss_gguf::{Gguf, part_paths};
use gptoss_model::sequences::{BlockCopy, KvCache, KvShape, Reach};
use gptoss_model::{
    Backend, BatchLimits, CacheFormat, DEFAULT_CONTEXT_TOKENS, EngineError, Header, Host, Inventory, LogitsPart,
    ModelConfig, NonFinite, NotFinite, Outcome, SequenceId, Sequences, StageError, Wanted, announce, in_stage,
    read_header, require_finite_rows,
};
use gptoss_protocol::{CacheCounters, Event, OptionId, Stage, WorkCounters};
use gptoss_source::FileSource;

use crate::activations::Activations;
use crate::cache::LayerCache;
use crate::forward::{LayerVectors, RowAt, Scratch, Weights};
use crate::isa::Isa;
use crate::mapped::Mapped;
use crate::matmul::Compute;
use crate::pool::Pool;
use crate::recorder::{BatchRoutes, Recorder};
use crate::shared::SharedMut;
use crate::turn::{Place, Turn};
use crate::watching::Watching;

/// Rows of the largest batch: experts see 64 of 512 on average, enough to pay for unpacking their weights.
const BATCH_ROWS: u32 = 512;
/// Logits that a task looks through: some ten microseconds of work. Cuts do not depend on the number of threads, so that
/// predictions do not.
const PART_TOKENS: usize = 4096;

/// Options of the CPU backend.
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// Number of threads; `None` takes one per processor that the system grants.
    pub threads: Option<usize>,
    /// Capacity of the KV cache in tokens; `None` takes the default.
    pub max_kv_tokens: Option<u32>,
    /// Number of layers that are run; `None` runs all.
    pub layers: Option<u32>,
    /// Whether the KV cache is in F32, for parity runs, instead of F16.
    pub kv_f32: bool,
    /// Whether to round YaRN's correction range as llama.cpp does.
    pub yarn_truncate: bool,
    /// Whether all layers see everything, for experiments.
    pub dense_attention: bool,
    /// How many sequences can be open at once; they share the capacity. `None` means one.
    pub sequences: Option<u32>,
    /// Precision of the activations.
    pub activations: Activations,
    /// Instruction set, one of [`Isa::available`]; `None` takes the best of them.
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
    sequences: Sequences,
    compute: Compute,
    /// Its place among the models that compute on the same processors.
    place: Place,
    scratch: Scratch,
    /// Logits of the rows of the last batch that wanted something, [rows, vocabulary].
    logits: Vec<f32>,
    /// Sequence and position of these rows.
    logit_rows: Vec<(SequenceId, u32)>,
}

impl CpuModel {
    /// Maps the file and checks it; reports the stages and the model to `host`. `path` names any part of a split model,
    /// whose other parts lie beside it.
    ///
    /// # Panics
    /// If `options` ask for an instruction set that this processor does not have.
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
            let bytes = header.gguf.file_len;
            let model = Self::new(&paths, header, layers as usize, options)?;
            host.emit(Event::Mapped { bytes });
            Ok(model)
        })
        .await
    }

    fn new(paths: &[PathBuf], header: Header, layers: usize, options: &CpuOptions) -> Result<Self, EngineError> {
        let Header { config, inventory, gguf } = header;
        let kv_capacity = kv_capacity(&config, options)?;
        let cache_format = if options.kv_f32 { CacheFormat::F32 } else { CacheFormat::F16 };
        let window_of = |layer: usize| if options.dense_attention { 0 } else { config.window_of(layer as u32) };
        let window = (0..layers).map(window_of).max().unwrap_or(0);
        let shape = KvShape::new(kv_capacity, window, BATCH_ROWS, options.sequences.unwrap_or(1));
        let blocks_of = |layer| shape.blocks(Reach::of_window(window_of(layer)));
        let kv_heads = config.kv_heads as usize;
        let caches = (0..layers).map(|layer| LayerCache::new(cache_format, kv_heads, blocks_of(layer))).collect();
        let limits = BatchLimits { rows: BATCH_ROWS, wanted: BATCH_ROWS };
        let mapped = Mapped::open(paths, gguf.file_len)?;
        let compute = compute(options)?;
        mapped.check_sense(&gguf, paths)?;
        Ok(Self {
            layers: inventory.layers[..layers].iter().map(|tensors| LayerVectors::new(&mapped, tensors)).collect(),
            output_norm: mapped.plain(&inventory.output_norm),
            rope_table: config.yarn.table(kv_capacity as usize),
            dense_attention: options.dense_attention,
            cache_format,
            caches,
            sequences: Sequences::new(KvCache::new(shape), config.vocabulary, limits),
            place: Place::new(compute.pool.threads(), processors()),
            compute,
            scratch: Scratch::default(),
            logits: Vec::new(),
            logit_rows: Vec::new(),
            config,
            inventory,
            gguf,
            mapped,
        })
    }

    /// Header of the file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Number of threads that compute, including the caller's.
    pub fn threads(&self) -> usize {
        self.compute.pool.threads()
    }

    /// Number of layers that are run.
    pub fn layers(&self) -> u32 {
        self.layers.len() as u32
    }

    /// Bytes of one expert in the file, the mean over the layers that are run.
    pub fn expert_file_bytes(&self) -> u64 {
        let layers = &self.inventory.layers[..self.layers.len()];
        let bytes: u64 = layers.iter().map(|layer| layer.expert_file_bytes()).sum();
        bytes / (layers.len() as u64 * u64::from(self.config.experts)).max(1)
    }

    /// Records the routes of every later batch.
    pub fn record_routes(&mut self) {
        self.scratch.recorder = Some(Recorder::default());
    }

    /// Routes of the batches since the last call; empty without [`CpuModel::record_routes`].
    pub fn take_routes(&mut self) -> Vec<BatchRoutes> {
        self.scratch.recorder.as_mut().map(Recorder::take).unwrap_or_default()
    }

    /// Computes the oldest batch, and keeps the logits of its rows that want something. In `turn` other models may wait.
    fn forward(&mut self, turn: &Turn, host: &dyn Host) -> Result<(), EngineError> {
        let batch = self.sequences.pending().front().expect("a batch is pending");
        let weights = Weights {
            config: &self.config,
            inventory: &self.inventory,
            mapped: &self.mapped,
            layers: &self.layers,
            rope_table: &self.rope_table,
            dense_attention: self.dense_attention,
        };
        let tokens: Vec<u32> = batch.rows.iter().map(|row| row.token).collect();
        let mut watching = Watching::new(host.watch(), self.config.hidden);
        weights.embed(&tokens, &mut self.scratch);
        watching.embedded(&self.scratch);
        let rows_at = |reach| -> Vec<RowAt<'_>> {
            let places = batch.rows.iter().zip(&batch.positions);
            let table = |sequence| self.sequences.cache.tables(sequence).of(reach);
            places.map(|(row, &position)| RowAt { position: position as usize, table: table(row.sequence) }).collect()
        };
        let (full, sliding) = (rows_at(Reach::Full), rows_at(Reach::Sliding));
        self.logit_rows.clear();
        for (index, cache) in self.caches.iter_mut().enumerate() {
            turn.pass_on();
            if host.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let rows = if weights.window_of(index) == 0 { &full } else { &sliding };
            weights.layer(index, rows, cache, &mut self.compute, &mut self.scratch).map_err(|place| {
                let found = NotFinite { layer: index as u32, place };
                let (first_position, tokens) = batch.span();
                EngineError::NonFinite(NonFinite::Layer { found, first_position, tokens })
            })?;
            watching.went_through(&self.scratch);
        }
        let last = *batch.positions.last().expect("batches have rows");
        watching.tell(last, tokens.len() as u32, host);
        let wanted = batch.wanted();
        if wanted > 0 {
            weights.head(&self.output_norm, wanted, &mut self.compute, &mut self.scratch, &mut self.logits);
            let rows = batch.rows.iter().zip(&batch.positions).skip(batch.rows.len() - wanted);
            self.logit_rows.extend(rows.map(|(row, &position)| (row.sequence, position)));
        }
        Ok(())
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

    fn kv_bytes(&self) -> u64 {
        self.caches.iter().map(LayerCache::size_bytes).sum()
    }

    fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    fn sequences_mut(&mut self) -> &mut Sequences {
        &mut self.sequences
    }

    fn copy_blocks(&mut self, copies: &[BlockCopy]) {
        for &BlockCopy { reach, from, to } in copies {
            for (layer, cache) in self.caches.iter_mut().enumerate() {
                let window = if self.dense_attention { 0 } else { self.config.window_of(layer as u32) };
                if Reach::of_window(window) == reach {
                    cache.copy_block(from, to);
                }
            }
        }
    }

    async fn compute_oldest(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        if let Some(recorder) = &mut self.scratch.recorder {
            recorder.begin_batch();
        }
        let turn = self.place.turn();
        let computed = self.forward(&turn, host);
        if let (Err(_), Some(recorder)) = (&computed, &mut self.scratch.recorder) {
            recorder.drop_batch();
        }
        computed?;
        let batch = self.sequences.pending().front().expect("it was computed");
        let vocabulary = self.config.vocabulary as usize;
        let first = batch.rows.len() - batch.wanted();
        let rows = batch.rows[first..].iter().zip(&batch.positions[first..]);
        let rows: Vec<_> = rows.map(|(row, &position)| (row.wanted, position)).collect();
        outcomes(&mut self.compute.pool, &rows, &self.logits, vocabulary)
    }

    async fn logits_at_hand(
        &mut self,
        sequence: SequenceId,
        _host: &dyn Host,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let vocabulary = self.config.vocabulary as usize;
        let wanted = (sequence, self.position(sequence).wrapping_sub(1));
        let row = self.logit_rows.iter().position(|row| *row == wanted);
        Ok(row.map(|row| self.logits[row * vocabulary..][..vocabulary].to_vec()))
    }

    /// Zero, because all experts are in the file's map and nothing is cached here.
    fn cache_counters(&self) -> CacheCounters {
        CacheCounters::default()
    }

    /// Zero, because only GPU work counts.
    fn work_counters(&self) -> WorkCounters {
        WorkCounters::default()
    }
}

/// What rows wanted, with their positions, from their logits [rows, vocabulary].
fn outcomes(
    pool: &mut Pool,
    rows: &[(Wanted, u32)],
    logits: &[f32],
    vocabulary: usize,
) -> Result<Vec<Outcome>, EngineError> {
    let parts = vocabulary.div_ceil(PART_TOKENS);
    let mut joined: Vec<Option<LogitsPart>> = vec![None; rows.len() * parts];
    let places = SharedMut::new(&mut joined);
    pool.for_each(rows.len() * parts, &|task, _| {
        let (row, part) = (task / parts, task % parts);
        if let Wanted::Prediction { inverse_temperature, candidates } = rows[row].0 {
            let first = part * PART_TOKENS;
            let logits = &logits[row * vocabulary..][..vocabulary][first..];
            let logits = &logits[..PART_TOKENS.min(logits.len())];
            // SAFETY: each task has a place of its own.
            #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
            let place = unsafe { places.slice(task, 1) };
            place[0] = Some(LogitsPart::of(logits, first as u32, inverse_temperature, candidates));
        }
    });
    let rows = rows.iter().zip(logits.chunks_exact(vocabulary)).zip(joined.chunks_exact_mut(parts));
    rows.map(|((&(wanted, position), logits), parts)| match wanted {
        Wanted::Prediction { .. } => {
            let parts = parts.iter_mut().filter_map(Option::take);
            let joined = parts.reduce(LogitsPart::and).expect("a vocabulary has tokens");
            joined.prediction(position).map(Outcome::Prediction)
        }
        Wanted::Logits => {
            require_finite_rows(logits, vocabulary as u32, position)?;
            Ok(Outcome::Logits(logits.to_vec()))
        }
        Wanted::Nothing => unreachable!("those come first"),
    })
    .collect()
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

/// Processors that the system grants.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Threads and instruction set that the options ask for.
pub(crate) fn compute(options: &CpuOptions) -> Result<Compute, EngineError> {
    let threads = match options.threads {
        Some(0) => {
            return Err(EngineError::Option { option: OptionId::Threads, expected: "at least 1", got: "0".into() });
        }
        Some(threads) => threads,
        None => processors(),
    };
    let pool = Pool::new(threads).map_err(|error| EngineError::Option {
        option: OptionId::Threads,
        expected: "a number that the system can start",
        got: format!("{threads}: {error}"),
    })?;
    let isa = options.isa.unwrap_or_else(Isa::detect);
    assert!(isa.is_available(), "this processor has no {isa}: CpuOptions::isa takes one of Isa::available()");
    Ok(Compute::new(pool, isa, options.activations))
}
