//! The model's hyperparameters, from the file's metadata.

use std::fmt::Display;

use crate::ops::rope::{HEAD_DIM, Yarn};
use gptoss_gguf::{Array, GPT_OSS_ARCHITECTURES, Gguf, Metadata, Value, WrongKey, check_keys};

use crate::error::EngineError;

/// Most experts that a layer may have: kernels keep them in masks of this many bits.
pub const MAX_EXPERTS: u32 = 128;

/// Context length in tokens if the user does not choose one.
pub const DEFAULT_CONTEXT_TOKENS: u32 = 8192;

/// The shape of a gpt-oss model, from its file. What no key carries is a constant of the architecture: SwiGLU's
/// numbers, YaRN without truncation, and, if the file does not say, which layers slide.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `general.name`, for display.
    pub name: String,
    /// `general.architecture`, the prefix of the other keys.
    pub architecture: String,
    /// Number of layers: `block_count`.
    pub layers: u32,
    /// Width of the residual stream: `embedding_length`.
    pub hidden: u32,
    /// Query heads of a layer: `attention.head_count`.
    pub query_heads: u32,
    /// Key and value heads of a layer: `attention.head_count_kv`.
    pub kv_heads: u32,
    /// Width of one expert: `expert_feed_forward_length`.
    pub ff: u32,
    /// Experts of a layer: `expert_count`.
    pub experts: u32,
    /// Experts that each token uses: `expert_used_count`.
    pub experts_per_token: u32,
    /// Keys that a query of a sliding layer sees, itself included: `attention.sliding_window`.
    pub window_tokens: u32,
    /// For each layer, whether it slides.
    pub sliding: Vec<bool>,
    /// Number of token ids.
    pub vocabulary: u32,
    /// Longest context that the model was made for, in tokens: `context_length`.
    pub context_tokens: u32,
    /// ε of the RMS norms: `attention.layer_norm_rms_epsilon`.
    pub epsilon: f32,
    /// Rotary position embedding, scaled by YaRN.
    pub yarn: Yarn,
}

impl ModelConfig {
    /// Reads and checks every key; errors name the key, what was expected and what was found.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, EngineError> {
        if let Some(role) = gguf.role() {
            return Err(EngineError::NotAModel { role });
        }
        let metadata = &gguf.metadata;
        let architecture = metadata.str("general.architecture")?.to_owned();
        if !GPT_OSS_ARCHITECTURES.contains(&architecture.as_str()) {
            return Err(EngineError::Architecture { got: architecture });
        }
        let layers = metadata.u32(&format!("{architecture}.block_count"))?;
        let keys = Keys { metadata, prefix: &architecture, layers };
        let ff = match keys.optional_u32("expert_feed_forward_length")? {
            Some(ff) => ff,
            None => keys.u32("feed_forward_length")?,
        };
        let query_heads = keys.u32("attention.head_count")?;
        let config = Self {
            name: name(metadata),
            layers,
            hidden: keys.u32("embedding_length")?,
            query_heads,
            kv_heads: keys.optional_u32("attention.head_count_kv")?.unwrap_or(query_heads),
            ff,
            experts: keys.u32("expert_count")?,
            experts_per_token: keys.u32("expert_used_count")?,
            window_tokens: keys.u32("attention.sliding_window")?,
            sliding: keys.sliding()?,
            vocabulary: metadata.string_array("tokenizer.ggml.tokens")?.len() as u32,
            context_tokens: keys.u32("context_length")?,
            epsilon: keys.f32("attention.layer_norm_rms_epsilon")?,
            yarn: keys.yarn()?,
            architecture: architecture.clone(),
        };
        check_keys(metadata, &architecture)?;
        config.check(&keys)?;
        Ok(config)
    }

    fn check(&self, keys: &Keys<'_>) -> Result<(), EngineError> {
        if let Some(got) = keys.optional_u32("vocab_size")?.filter(|&got| got != self.vocabulary) {
            return Err(keys.wrong("vocab_size", format!("{}, as there are tokens", self.vocabulary), got));
        }
        let require = |good: bool, key: &str, expected: String, got: u32| {
            if good { Ok(()) } else { Err(keys.wrong(key, expected, got)) }
        };
        require(self.layers > 0, "block_count", "at least 1".into(), self.layers)?;
        require(
            self.hidden > 0 && self.hidden.is_multiple_of(32),
            "embedding_length",
            "a multiple of 32".into(),
            self.hidden,
        )?;
        require(
            self.ff > 0 && self.ff.is_multiple_of(32),
            "expert_feed_forward_length",
            "a multiple of 32".into(),
            self.ff,
        )?;
        require(self.kv_heads > 0, "attention.head_count_kv", "at least 1".into(), self.kv_heads)?;
        require(
            self.query_heads >= self.kv_heads && self.query_heads.is_multiple_of(self.kv_heads),
            "attention.head_count",
            format!("a multiple of head_count_kv ({})", self.kv_heads),
            self.query_heads,
        )?;
        require(
            (1..=MAX_EXPERTS).contains(&self.experts),
            "expert_count",
            format!("1 to {MAX_EXPERTS}"),
            self.experts,
        )?;
        require(
            (1..=self.experts).contains(&self.experts_per_token),
            "expert_used_count",
            format!("1 to expert_count ({})", self.experts),
            self.experts_per_token,
        )?;
        require(self.window_tokens > 0, "attention.sliding_window", "at least 1".into(), self.window_tokens)?;
        require(self.vocabulary > 0, "tokenizer.ggml.tokens", "at least one token".into(), 0)
    }

    /// Columns of the concatenated query, key and value rows.
    pub fn qkv_columns(&self) -> u32 {
        (self.query_heads + 2 * self.kv_heads) * HEAD_DIM as u32
    }

    /// Width of all query heads together.
    pub fn query_columns(&self) -> u32 {
        self.query_heads * HEAD_DIM as u32
    }

    /// Width of all key heads together; that of the value heads is the same.
    pub fn kv_columns(&self) -> u32 {
        self.kv_heads * HEAD_DIM as u32
    }

    /// The window of a layer; 0 where it sees everything.
    pub fn window_of(&self, layer: u32) -> u32 {
        if self.sliding[layer as usize] { self.window_tokens } else { 0 }
    }
}

/// The model's name. It is only shown, so that nothing is refused because of it.
fn name(metadata: &Metadata) -> String {
    match metadata.get("general.name") {
        Some(Value::String(name) | Value::NotUtf8(name)) => name.clone(),
        _ => "gpt-oss".to_owned(),
    }
}

/// One layer in this many sees everything if the file does not say otherwise.
const SLIDING_PATTERN: u32 = 2;

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
    layers: u32,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn u32(&self, name: &str) -> Result<u32, EngineError> {
        match self.optional_u32(name)? {
            Some(number) => Ok(number),
            None => Ok(self.metadata.u32(&self.key(name))?),
        }
    }

    fn f32(&self, name: &str) -> Result<f32, EngineError> {
        match self.optional_f32(name)? {
            Some(number) => Ok(number),
            None => Ok(self.metadata.f32(&self.key(name))?),
        }
    }

    /// Reads a number, or an array with the same number for each layer.
    fn optional_u32(&self, name: &str) -> Result<Option<u32>, EngineError> {
        let key = self.key(name);
        match self.metadata.get(&key) {
            Some(Value::Array(_)) => self.same_in_all_layers(name, &self.metadata.u32_array(&key)?).map(Some),
            _ => Ok(self.metadata.optional(&key)?),
        }
    }

    fn optional_f32(&self, name: &str) -> Result<Option<f32>, EngineError> {
        let key = self.key(name);
        match self.metadata.get(&key) {
            Some(Value::Array(Array::F32(numbers))) => self.same_in_all_layers(name, numbers).map(Some),
            _ => Ok(self.metadata.optional(&key)?),
        }
    }

    fn same_in_all_layers<T: Copy + PartialEq + Display>(&self, name: &str, numbers: &[T]) -> Result<T, EngineError> {
        let layers = self.layers as usize;
        let expected = || format!("one number, or the same for each of the {layers} layers");
        match numbers {
            [first, ..] if numbers.len() == layers => match numbers.iter().position(|number| number != first) {
                None => Ok(*first),
                Some(other) => {
                    Err(self.wrong(name, expected(), format!("{first}, but {} in layer {other}", numbers[other])))
                }
            },
            _ => Err(self.wrong(name, expected(), format!("an array of {}", numbers.len()))),
        }
    }

    /// Which layers slide: the file has either llama.cpp's period `n` (all but the last of each `n` layers slide; 0:
    /// all), or a boolean for each layer.
    fn sliding(&self) -> Result<Vec<bool>, EngineError> {
        let name = "attention.sliding_window_pattern";
        let layers: Vec<bool> = match self.metadata.get(&self.key(name)) {
            None => return Ok(every(SLIDING_PATTERN, self.layers)),
            Some(Value::Array(Array::Bool(slides))) => slides.clone(),
            Some(Value::Array(_)) => {
                self.metadata.u32_array(&self.key(name))?.iter().map(|&slides| slides != 0).collect()
            }
            Some(_) => return Ok(every(self.metadata.u32(&self.key(name))?, self.layers)),
        };
        if layers.len() == self.layers as usize {
            Ok(layers)
        } else {
            let expected = format!("a number, or a boolean for each of the {} layers", self.layers);
            Err(self.wrong(name, expected, format!("an array of {}", layers.len())))
        }
    }

    fn yarn(&self) -> Result<Yarn, EngineError> {
        let scaling: Option<&str> = self.metadata.optional(&self.key("rope.scaling.type"))?;
        if let Some(other) = scaling.filter(|&kind| kind != "yarn") {
            return Err(self.wrong("rope.scaling.type", "yarn", other));
        }
        let base = f64::from(self.f32("rope.freq_base")?);
        let factor = f64::from(self.f32("rope.scaling.factor")?);
        let original_context = f64::from(self.u32("rope.scaling.original_context_length")?);
        if !(base > 1.0 && base.is_finite() && factor >= 1.0 && factor.is_finite() && original_context > 0.0) {
            return Err(self.wrong(
                "rope.*",
                "freq_base above 1, scaling.factor of at least 1, a positive original_context_length",
                format!("{base}, {factor}, {original_context}"),
            ));
        }
        Ok(Yarn {
            base,
            factor,
            original_context,
            beta_fast: f64::from(self.optional_f32("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0)),
            beta_slow: f64::from(self.optional_f32("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0)),
            truncate: false,
        })
    }

    fn wrong(&self, name: &str, expected: impl ToString, got: impl ToString) -> EngineError {
        WrongKey { key: self.key(name), expected: expected.to_string(), got: got.to_string() }.into()
    }
}

/// For each layer, whether it slides: all but the last of each `period` do; with 0, all.
fn every(period: u32, layers: u32) -> Vec<bool> {
    (0..layers).map(|layer| period == 0 || layer % period < period - 1).collect()
}
