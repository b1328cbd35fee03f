//! What gates D and G run: which layers of the model, on which tokens, and how both backends are loaded for it.

use std::path::Path;
use std::rc::Rc;

use gptoss_engine::{LoadPolicy, Model, load, open_gpu, preflight};
use gptoss_gates::Report;
use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{Inventory, ModelConfig, Quiet};
use gptoss_protocol::LoadOptions;

use crate::error::CliError;
use crate::gguf_file::GgufFile;

/// A model whose weights take more than this in F32 is cut to [`LARGE_MODEL_LAYERS`] layers unless the user says
/// otherwise.
const SMALL_MODEL_BYTES: u64 = 1 << 30;
/// Number of layers: one sliding layer and one with full attention.
const LARGE_MODEL_LAYERS: u32 = 2;
/// GPU memory for the experts of one layer: all 32 of gpt-oss-20b, some of 120b's, which then are paged.
const EXPERT_BYTES_PER_LAYER: u64 = 512 << 20;

/// How many tokens are run by default.
const FEW_TOKENS: u32 = 8;
/// The largest window that is filled by default.
const MOST_WINDOW_TOKENS: u32 = 128;

/// How far the tokens should reach when the user does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as the prompt, or its beginning.
    Prompt,
    /// Past the sliding window, so that keys leave it; only the prompt if that would take long.
    BeyondWindow,
}

/// How much of the model is run.
#[derive(Debug, clap::Args)]
pub struct Size {
    /// Run the first N layers; 0 is embedding and output matrix only. All layers if not given, 2 of models whose
    /// weights take more than 1 GiB in F32
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Text whose tokens are run, as plain text
    #[arg(long, value_name = "TEXT", default_value = "What is 2 + 2?")]
    prompt: String,
    /// Run N tokens: the prompt cut short, or repeated. 8 if not given; in gate d as many as reach beyond the sliding
    /// window of models whose weights take at most 1 GiB in F32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    tokens: Option<u32>,
}

/// The file, and how much of it is run.
pub struct Subject {
    pub file: GgufFile,
    pub config: ModelConfig,
    pub inventory: Inventory,
    pub layers: u32,
    pub tokens: Vec<u32>,
    /// Whether all weights fit memory in F32.
    pub is_small: bool,
}

impl Subject {
    /// Opens the file and says in the report what will be run.
    pub fn open(path: &Path, size: &Size, reach: Reach, report: &mut Report) -> Result<Self, CliError> {
        let file = GgufFile::open_model(path)?;
        let config = ModelConfig::from_gguf(&file.gguf)?;
        let inventory = Inventory::from_gguf(&file.gguf, &config)?;
        let decoded_bytes = file.gguf.tensors.iter().map(|tensor| tensor.elements() * 4).sum::<u64>();
        let is_small = decoded_bytes <= SMALL_MODEL_BYTES;
        let layers =
            size.layers.unwrap_or(if is_small { config.layers } else { LARGE_MODEL_LAYERS.min(config.layers) });
        if layers > config.layers {
            return Err(CliError::Argument {
                what: "--layers".into(),
                got: layers.to_string(),
                expected: format!("at most {}, the model's", config.layers),
            });
        }
        let prompt = file.tokenizer()?.encode_ordinary(&size.prompt);
        if prompt.is_empty() {
            return Err(CliError::Argument {
                what: "--prompt".into(),
                got: "empty".into(),
                expected: "text of at least one token".into(),
            });
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
        Ok(Self { file, config, inventory, layers, tokens, is_small })
    }

    /// Number of tokens that the cache has to hold.
    pub fn kv_tokens(&self) -> u32 {
        (self.tokens.len() as u32).max(2)
    }

    pub fn is_whole(&self) -> bool {
        self.layers == self.config.layers
    }

    /// The model on the GPU, for comparing: F32 cache, and memory bounded by paging experts.
    pub async fn on_gpu(&self, gpu: &Rc<Gpu>) -> Result<Model, CliError> {
        let source = Rc::clone(&self.file.source);
        let options = LoadOptions {
            layers: Some(self.layers),
            max_kv_tokens: Some(self.kv_tokens()),
            expert_memory_bytes: (!self.is_small).then(|| EXPERT_BYTES_PER_LAYER * u64::from(self.layers.max(1))),
            kv_f32: true,
            ..LoadOptions::default()
        };
        let prepared = preflight(gpu, source.as_ref(), &options, LoadPolicy::First, &Quiet).await?;
        Ok(load(Rc::clone(gpu), source, prepared, &Quiet).await?)
    }
}

/// The device that the engine would use.
pub fn open_device(report: &mut Report) -> Result<Rc<Gpu>, CliError> {
    let gpu = pollster::block_on(open_gpu(&GpuOptions::default(), &Quiet))?;
    gptoss_gates::limits::describe_device(&gpu, report);
    Ok(gpu)
}
