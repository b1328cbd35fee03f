//! What gates D and G run: which layers of the model, on which tokens, and how it is loaded for that.

pub mod correctness;
mod layered;
pub mod logits;

use std::pin::Pin;
use std::rc::Rc;

use gptoss_engine::{LoadPolicy, Model, load, preflight};
use gptoss_kernels::Gpu;
use gptoss_model::{AwaitPoint, EngineError, Host, Inventory, ModelConfig, milliseconds_since, tokenizer};
use gptoss_protocol::{Event, GateProgress, GateStep, LoadOptions};
use gptoss_source::Source;
use gptoss_text::Tokenizer;
use web_time::Instant;

use self::layered::Layered;
use crate::error::{GateError, Wrong};
use crate::file::GatedFile;
use crate::report::Report;

/// A model whose weights take more than this in F32 is cut to [`LARGE_MODEL_LAYERS`] layers unless the user says
/// otherwise: scalar arithmetic over all of it would take hours.
const SMALL_MODEL_BYTES: u64 = 1 << 30;
/// Number of layers: one sliding layer and one with full attention.
const LARGE_MODEL_LAYERS: u32 = 2;
/// GPU memory for the experts of one layer: all 32 of gpt-oss-20b, some of 120b's, which then are paged.
const EXPERT_BYTES_PER_LAYER: u64 = 512 << 20;

/// How many tokens are run by default.
const FEW_TOKENS: u32 = 8;
/// The largest window that is filled by default.
const MOST_WINDOW_TOKENS: u32 = 128;

/// Text whose tokens are run unless somebody says otherwise.
pub const USUAL_PROMPT: &str = "What is 2 + 2?";

/// Largest relative error of logits that passes unless somebody says otherwise. Errors of rounding add up over the layers: F32
/// against F64 gives about 1e-6 on models that are known to be right, and one wrong weight type or shape far more than 1e-2.
pub const USUAL_TOLERANCE: f64 = 1e-4;

/// How far the tokens should reach when the user does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as the prompt, or its beginning.
    Prompt,
    /// Past the sliding window, so that keys leave it; only the prompt if that would take long.
    BeyondWindow,
}

/// How much of the model is run.
#[derive(Debug, Clone)]
pub struct Size {
    /// The first layers; `None`: all, or two of a large model.
    pub layers: Option<u32>,
    /// Text whose tokens are run, as plain text.
    pub prompt: String,
    /// Number of tokens: the prompt cut short, or repeated; `None`: as [`Reach`] says.
    pub tokens: Option<u32>,
}

impl Default for Size {
    fn default() -> Self {
        Self { layers: None, prompt: USUAL_PROMPT.to_owned(), tokens: None }
    }
}

/// A model, and how much of it is run.
pub struct Subject<'a> {
    /// The file.
    pub file: GatedFile<'a>,
    /// Hyperparameters of the whole model.
    pub config: ModelConfig,
    /// The tokenizer of the file's own vocabulary.
    pub tokenizer: Tokenizer,
    /// The layers that are run, from the first on.
    pub layers: u32,
    /// The tokens that are run, from position 0 on.
    pub tokens: Vec<u32>,
    inventory: Inventory,
    /// Whether all weights take little memory in F32.
    is_small: bool,
}

impl<'a> Subject<'a> {
    /// Works out what will be run, and says it in the report.
    ///
    /// # Errors
    /// The file holds no whole gpt-oss model; `size` does not fit it.
    pub fn new(file: &GatedFile<'a>, size: &Size, reach: Reach, report: &mut Report) -> Result<Self, GateError> {
        let config = ModelConfig::from_gguf(file.gguf)?;
        let inventory = Inventory::from_gguf(file.gguf, &config)?;
        let decoded_bytes = file.gguf.tensors.iter().map(|tensor| tensor.elements() * 4).sum::<u64>();
        let is_small = decoded_bytes <= SMALL_MODEL_BYTES;
        let layers =
            size.layers.unwrap_or(if is_small { config.layers } else { LARGE_MODEL_LAYERS.min(config.layers) });
        if layers > config.layers {
            let expected = format!("at most {}, the model's", config.layers);
            return Err(GateError::Argument { wrong: Wrong::Layers, got: layers.to_string(), expected });
        }
        let tokenizer = tokenizer(file.gguf)?;
        let prompt = tokenizer.encode_ordinary(&size.prompt);
        if prompt.is_empty() {
            let expected = "text of at least one token".to_owned();
            return Err(GateError::Argument { wrong: Wrong::Prompt, got: "empty".to_owned(), expected });
        }
        let few = FEW_TOKENS.min(prompt.len() as u32);
        let count = size.tokens.unwrap_or(match reach {
            Reach::BeyondWindow if is_small => config.window_tokens.min(MOST_WINDOW_TOKENS) + FEW_TOKENS,
            Reach::BeyondWindow | Reach::Prompt => few,
        });
        let tokens: Vec<u32> = prompt.into_iter().cycle().take(count as usize).collect();
        report.fact("weights in F32", format!("{decoded_bytes} bytes"));
        report.fact("layers", format!("{layers} of {}", config.layers));
        let shown = &tokens[..tokens.len().min(FEW_TOKENS as usize)];
        let more = if shown.len() < tokens.len() { " and so on" } else { "" };
        report.fact("tokens", format!("{}: {shown:?}{more}", tokens.len()));
        report.fact("sliding window", config.window_tokens);
        Ok(Self { file: *file, config, tokenizer, layers, tokens, inventory, is_small })
    }

    /// Number of tokens that the cache has to hold.
    pub fn kv_tokens(&self) -> u32 {
        (self.tokens.len() as u32).max(2)
    }

    /// The model on the GPU, for comparing: F32 cache, and memory bounded by paging experts.
    ///
    /// # Errors
    /// It does not fit, the GPU computes wrongly or was lost, reading failed, and STOP.
    pub async fn on_gpu(&self, gpu: &Rc<Gpu>, host: &dyn Host) -> Result<Model, GateError> {
        let options = LoadOptions {
            layers: Some(self.layers),
            max_kv_tokens: Some(self.kv_tokens()),
            expert_memory_bytes: (!self.is_small).then(|| EXPERT_BYTES_PER_LAYER * u64::from(self.layers.max(1))),
            kv_f32: true,
            ..LoadOptions::default()
        };
        let way = Way::new(self);
        let beside = Beside { host, way: &way };
        let source = self.file.source;
        let prepared = preflight(gpu, source.as_ref(), &options, LoadPolicy::First, &beside).await;
        let prepared = prepared.map_err(GateError::of_stage)?;
        load(Rc::clone(gpu), Rc::clone(source), prepared, &beside).await.map_err(GateError::of_stage)
    }

    /// What scalar arithmetic gives: all logits of all tokens.
    ///
    /// # Errors
    /// Reading failed, and STOP.
    pub async fn expected(&self, host: &dyn Host) -> Result<Expected, GateError> {
        let logits = Layered { subject: self, way: Way::new(self) }.logits(host).await?;
        let Self { layers, config, .. } = self;
        let against = if *layers == config.layers {
            format!("scalar arithmetic, all {layers} layers")
        } else {
            format!("scalar arithmetic over the first {layers} of {} layers", config.layers)
        };
        Ok(Expected { logits, against })
    }
}

/// What the logits have to be.
pub struct Expected {
    /// All logits of all tokens, [tokens, vocabulary].
    pub logits: Vec<f32>,
    /// How they were worked out.
    pub against: String,
}

impl Expected {
    /// The logits after the last of `tokens`, with which the tokens that were run have to begin.
    pub fn after(&self, tokens: &[u32], vocabulary: u32) -> &[f32] {
        &self.logits[(tokens.len() - 1) * vocabulary as usize..][..vocabulary as usize]
    }
}

/// How far a gate is on a whole model.
struct Way {
    begin: Instant,
    layers: u32,
}

impl Way {
    fn new(subject: &Subject<'_>) -> Self {
        Self { begin: Instant::now(), layers: subject.layers }
    }

    fn tell(&self, what: String, step: GateStep, [fetched_bytes, needed_bytes]: [u64; 2], host: &dyn Host) {
        let elapsed_ms = milliseconds_since(self.begin);
        host.emit(Event::GateProgress(GateProgress { tensor: what, step, fetched_bytes, needed_bytes, elapsed_ms }));
    }
}

/// The host of a load that is a gate's: its stages and how far it is are told. All else would be of a model that somebody can ask.
struct Beside<'a> {
    host: &'a dyn Host,
    way: &'a Way,
}

impl Host for Beside<'_> {
    fn emit(&self, event: Event) {
        match event {
            Event::Stage { .. } => self.host.emit(event),
            Event::Fetch { fetched_bytes, needed_bytes, .. } => {
                let what = format!("{} layers", self.way.layers);
                self.way.tell(what, GateStep::Fetch, [fetched_bytes, needed_bytes], self.host);
            }
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.host.cancelled()
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.host.until_cancelled()
    }

    fn awaiting(&self, at: AwaitPoint) {
        self.host.awaiting(at);
    }

    fn remembered(&self, key: &str) -> bool {
        self.host.remembered(key)
    }

    fn remember(&self, key: &str) {
        self.host.remember(key);
    }
}

/// Bytes of the file, once they are there.
async fn bytes_of(
    source: &dyn Source,
    offset_bytes: u64,
    len_bytes: u64,
    host: &dyn Host,
) -> Result<Vec<u8>, EngineError> {
    let reading = source.read(offset_bytes, len_bytes);
    let read = gptoss_model::until_stopped(host, AwaitPoint::Weights, reading).await??;
    Ok(read.to_vec(0..read.len()))
}
