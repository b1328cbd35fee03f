//! The model's hyperparameters, from the file's metadata.

use gptoss_gguf::{Gguf, Metadata};
use gptoss_kernels::rope::{HEAD_DIM, Yarn};
use gptoss_kernels::step::Status;

use crate::error::EngineError;

/// What a gpt-oss file says about its shape. What no key carries is a constant of the architecture: which layers slide,
/// SwiGLU's numbers, YaRN without truncation.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub name: String,
    pub architecture: String,
    pub layers: u32,
    pub hidden: u32,
    pub query_heads: u32,
    pub kv_heads: u32,
    /// Width of one expert.
    pub ff: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    /// Keys that a query of a sliding layer sees, itself included.
    pub window_tokens: u32,
    pub vocabulary: u32,
    pub context_tokens: u32,
    pub epsilon: f32,
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
        if architecture != "gpt-oss" && architecture != "gptoss" {
            return Err(EngineError::Architecture { got: architecture });
        }
        let keys = Keys { metadata, prefix: &architecture };
        let ff = match keys.optional_u32("expert_feed_forward_length")? {
            Some(ff) => ff,
            None => keys.u32("feed_forward_length")?,
        };
        let config = Self {
            name: metadata.optional::<&str>("general.name")?.unwrap_or("gpt-oss").to_owned(),
            layers: keys.u32("block_count")?,
            hidden: keys.u32("embedding_length")?,
            query_heads: keys.u32("attention.head_count")?,
            kv_heads: keys.u32("attention.head_count_kv")?,
            ff,
            experts: keys.u32("expert_count")?,
            experts_per_token: keys.u32("expert_used_count")?,
            window_tokens: keys.u32("attention.sliding_window")?,
            vocabulary: metadata.string_array("tokenizer.ggml.tokens")?.len() as u32,
            context_tokens: keys.u32("context_length")?,
            epsilon: keys.f32("attention.layer_norm_rms_epsilon")?,
            yarn: keys.yarn()?,
            architecture: architecture.clone(),
        };
        config.check(&keys)?;
        Ok(config)
    }

    fn check(&self, keys: &Keys<'_>) -> Result<(), EngineError> {
        let head_dim = HEAD_DIM as u32;
        for key in ["attention.key_length", "attention.value_length"] {
            // Absent means hidden / heads in GGUF, which is not what gpt-oss has: the tensors' shapes decide then.
            if let Some(got) = keys.optional_u32(key)?.filter(|&got| got != head_dim) {
                return Err(keys.wrong(key, head_dim, got));
            }
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
            (1..=Status::MAX_EXPERTS).contains(&self.experts),
            "expert_count",
            format!("1 to {}", Status::MAX_EXPERTS),
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

    pub fn query_columns(&self) -> u32 {
        self.query_heads * HEAD_DIM as u32
    }

    pub fn kv_columns(&self) -> u32 {
        self.kv_heads * HEAD_DIM as u32
    }

    /// The window of a layer: even layers slide, odd ones see everything (0).
    pub fn window_of(&self, layer: u32) -> u32 {
        if layer.is_multiple_of(2) { self.window_tokens } else { 0 }
    }
}

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn u32(&self, name: &str) -> Result<u32, EngineError> {
        Ok(self.metadata.u32(&self.key(name))?)
    }

    fn optional_u32(&self, name: &str) -> Result<Option<u32>, EngineError> {
        Ok(self.metadata.optional(&self.key(name))?)
    }

    fn f32(&self, name: &str) -> Result<f32, EngineError> {
        Ok(self.metadata.f32(&self.key(name))?)
    }

    fn optional_f32(&self, name: &str) -> Result<Option<f32>, EngineError> {
        Ok(self.metadata.optional(&self.key(name))?)
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
        EngineError::Hyperparameter { key: self.key(name), expected: expected.to_string(), got: got.to_string() }
    }
}
