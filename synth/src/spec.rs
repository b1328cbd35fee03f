//! What a model is to be: a shape, types, a vocabulary, a seed.

use crate::{Model, SynthError, TensorType, TypeMix, Vocabulary};

/// Elements of one attention head, in every gpt-oss model.
pub(crate) const HEAD_DIM: u64 = 64;

/// Where tensor data begin in the 20b file that this project's golden facts were measured on, in bytes.
///
/// That file is Unsloth's `gpt-oss-20b-Q8_0.gguf` (37 keys, 12,109,567,168 bytes). ggml-org's `gpt-oss-20b-mxfp4.gguf`
/// (35 keys, 12,109,566,560 bytes) has the same tensors and begins its data at 13,008,224; their texts differ, mostly
/// in the length of the chat template.
pub const GOLDEN_20B_DATA_OFFSET: u64 = 13_008_832;

/// The publisher whose metadata keys and tensor names a file imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// ggml-org: 35 keys.
    GgmlOrg,
    /// Unsloth: two keys more, another padding token.
    Unsloth,
    /// Ollama: architecture `gptoss`, no chat template, no `expert_feed_forward_length` nor `rope.scaling.type`,
    /// `blk.N.attn_sinks` and `blk.N.ffn_norm.weight` for `attn_sinks.weight` and `post_attention_norm.weight`.
    Ollama,
}

/// A description of a model, to be changed one thing at a time and then [built](Spec::build).
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Size in the model's name, as in `Gpt Oss 20b` and `20B`.
    pub(crate) size: &'static str,
    pub(crate) architecture: String,
    pub(crate) publisher: Publisher,
    pub(crate) layers: u32,
    pub(crate) hidden: u32,
    pub(crate) ff: u32,
    pub(crate) query_heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) experts: u32,
    pub(crate) experts_per_token: u32,
    pub(crate) window_tokens: u32,
    pub(crate) context_tokens: u32,
    pub(crate) types: TypeMix,
    /// Pattern and type of each override; the last that matches a name decides.
    pub(crate) overrides: Vec<(String, TensorType)>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) vocabulary_only: bool,
    pub(crate) fused_gate_up: bool,
    pub(crate) chat_template: Option<String>,
    pub(crate) data_offset: Option<u64>,
    pub(crate) seed: u64,
}

/// One method per number: each returns the changed specification.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    )*};
}

impl Spec {
    /// Small enough for any test: 4 layers, hidden 256, 8 query and 2 KV heads, 8 experts of width 256, window 128, a
    /// vocabulary of 320. About 2 MB in MXFP4.
    pub fn tiny() -> Self {
        Self {
            size: "tiny",
            layers: 4,
            hidden: 256,
            ff: 256,
            query_heads: 8,
            kv_heads: 2,
            experts: 8,
            vocabulary: Vocabulary::Tiny { tokens: Vocabulary::TINY_TOKENS },
            ..Self::gpt_oss_20b()
        }
    }

    /// The shape of this project's trained demo model: 6 layers, hidden 192, 4 query and 2 KV heads, 8 experts of width
    /// 96, window 64, a vocabulary of 1280.
    pub fn nano() -> Self {
        Self {
            size: "nano",
            layers: 6,
            hidden: 192,
            ff: 96,
            query_heads: 4,
            window_tokens: 64,
            vocabulary: Vocabulary::Tiny { tokens: 1280 },
            ..Self::tiny()
        }
    }

    /// gpt-oss-20b: 24 layers, 32 experts, 12.1 GB.
    pub fn gpt_oss_20b() -> Self {
        Self {
            size: "20b",
            architecture: "gpt-oss".to_owned(),
            publisher: Publisher::GgmlOrg,
            layers: 24,
            hidden: 2880,
            ff: 2880,
            query_heads: 64,
            kv_heads: 8,
            experts: 32,
            experts_per_token: 4,
            window_tokens: 128,
            context_tokens: 131_072,
            types: TypeMix::Mxfp4,
            overrides: Vec::new(),
            vocabulary: Vocabulary::O200k,
            vocabulary_only: false,
            fused_gate_up: false,
            chat_template: None,
            data_offset: None,
            seed: 0,
        }
    }

    /// gpt-oss-120b: 36 layers, 128 experts, 63.4 GB.
    pub fn gpt_oss_120b() -> Self {
        Self { size: "120b", layers: 36, experts: 128, ..Self::gpt_oss_20b() }
    }

    setters! {
        /// `block_count`.
        layers: u32;
        /// `embedding_length`, a multiple of 32.
        hidden: u32;
        /// `expert_feed_forward_length`, a multiple of 32.
        ff: u32;
        /// `attention.head_count`, a multiple of the number of KV heads.
        query_heads: u32;
        /// `attention.head_count_kv`.
        kv_heads: u32;
        /// `expert_count`.
        experts: u32;
        /// `expert_used_count`.
        experts_per_token: u32;
        /// `attention.sliding_window`: keys that a query of an even layer sees, itself included.
        window_tokens: u32;
        /// `context_length`.
        context_tokens: u32;
        /// Types of the matrices.
        types: TypeMix;
        /// The tokens.
        vocabulary: Vocabulary;
        /// Metadata and tokenizer only, without tensors: what llama.cpp's `ggml-vocab-*.gguf` files are.
        vocabulary_only: bool;
        /// Gate and up rows of an expert in one tensor, `ffn_gate_up_exps`, as llama.cpp's `--fuse-gate-up-exps` and
        /// Ollama's first files have it. The architecture says in which order.
        fused_gate_up: bool;
        /// Decides all weights.
        seed: u64;
    }

    /// `general.architecture` and the prefix of its keys: `gpt-oss`, or `gptoss` as Ollama has it.
    #[must_use]
    pub fn architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self
    }

    /// Metadata and names as in this publisher's files; for Ollama's also the architecture and the types.
    #[must_use]
    pub fn publisher(mut self, publisher: Publisher) -> Self {
        if publisher == Publisher::Ollama {
            "gptoss".clone_into(&mut self.architecture);
            self.types = TypeMix::Mxfp4Bf16;
        }
        self.publisher = publisher;
        self
    }

    /// Gives all tensors whose names are like `pattern` this type. `*` stands for any text; of several patterns the
    /// last one that matches decides.
    #[must_use]
    pub fn tensor_type(mut self, pattern: &str, kind: TensorType) -> Self {
        self.overrides.push((pattern.to_owned(), kind));
        self
    }

    /// `tokenizer.chat_template`, in place of the project's own.
    #[must_use]
    pub fn chat_template(mut self, template: String) -> Self {
        self.chat_template = Some(template);
        self
    }

    /// Pads the chat template with a comment so that tensor data begin at this byte, a multiple of 32.
    #[must_use]
    pub fn data_offset(mut self, bytes: u64) -> Self {
        self.data_offset = Some(bytes);
        self
    }

    /// Checks the description and makes everything but the weights.
    ///
    /// # Errors
    /// A shape that no gpt-oss model can have, types that do not fit it, a data offset that cannot be reached.
    pub fn build(&self) -> Result<Model, SynthError> {
        Model::new(self)
    }

    /// The whole file.
    ///
    /// # Errors
    /// As [`Spec::build`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, SynthError> {
        let model = self.build()?;
        let mut bytes = Vec::with_capacity(usize::try_from(model.file_bytes()).unwrap_or(0));
        model.write(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn check(&self) -> Result<(), SynthError> {
        let require = |good: bool, what: &'static str, got: u32, expected: &str| match good {
            true => Ok(()),
            false => Err(SynthError::Shape { what, got: got.into(), expected: expected.to_owned() }),
        };
        require(self.layers > 0, "the number of layers", self.layers, "at least 1")?;
        for (what, got) in [("the hidden size", self.hidden), ("the width of an expert", self.ff)] {
            require(got > 0 && got.is_multiple_of(32), what, got, "a multiple of 32")?;
        }
        require(self.kv_heads > 0, "the number of KV heads", self.kv_heads, "at least 1")?;
        require(
            self.query_heads > 0 && self.query_heads.is_multiple_of(self.kv_heads.max(1)),
            "the number of query heads",
            self.query_heads,
            &format!("a multiple of the {} KV heads", self.kv_heads),
        )?;
        require(self.experts > 0, "the number of experts", self.experts, "at least 1")?;
        require(
            (1..=self.experts).contains(&self.experts_per_token),
            "the number of experts per token",
            self.experts_per_token,
            &format!("1 to {}", self.experts),
        )?;
        require(self.window_tokens > 0, "the window", self.window_tokens, "at least 1")?;
        require(self.context_tokens > 0, "the context", self.context_tokens, "at least 1")
    }
}
