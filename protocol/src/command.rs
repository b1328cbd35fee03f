//! What a user can ask of a running engine.

use serde::{Deserialize, Serialize};

use crate::RequestId;
use crate::conversation::{ChatMessage, Function};
use crate::gate::{GateSlice, GateWhole};
use crate::inside::Watch;
use crate::shape::{AnswerShape, LogitChanges, ResponseFormat};
use crate::tier::Tier;

/// What a page or a terminal asks of an engine host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Open a model and put it on the GPU in place of the one that is loaded, which is let go of once it is known that the new
    /// one can be loaded and `prompt` be asked; then answer `prompt` if there is one.
    Load {
        /// Where the model is.
        model: ModelLocation,
        /// How it is loaded.
        options: LoadSettings,
        /// Question to answer once the model is ready; `None` only loads it.
        prompt: Option<Prompt>,
        /// Keys of every [`crate::Event::Remember`] of earlier loads.
        #[serde(default)]
        remembered: Vec<String>,
    },
    /// Cache all of a model for later, from a URL or picked; needs no GPU. What is loaded stays loaded.
    Download {
        /// Where the model is: on a host, or picked.
        model: ModelLocation,
        /// How patient the reads are.
        network: NetworkOptions,
        /// What becomes of bytes that are cached already.
        cache: CacheOptions,
    },
    /// Run gates: checks of a file, of the GPU and of the arithmetic on a slice. What is loaded stays loaded.
    Gate {
        /// Where the file is.
        model: ModelLocation,
        /// The slice that is looked at; `None`: none.
        #[serde(default)]
        slice: Option<GateSlice>,
        /// What is run of the whole model; `None`: nothing. Without either only the header is looked at, which needs no GPU.
        #[serde(default)]
        whole: Option<GateWhole>,
    },
    /// Answer a prompt with the model that is loaded.
    Generate {
        /// The question, and what shapes its answer.
        prompt: Prompt,
    },
    /// Tell how many tokens a prompt has, its format's included. Waits for loads that were asked for before, and for nothing else;
    /// ends with [`crate::Event::Counted`].
    Count {
        /// The prompt, which is not answered.
        prompt: Prompt,
    },
    /// Approve a load that waits because the model does not fit whole, see [`crate::Event::Preflight`].
    Approve {
        /// Request that began the load.
        load: RequestId,
    },
    /// Stop a request, whether it is under way or waits for its turn.
    Stop {
        /// The request to stop; `None` stops all of them, and the prefetch.
        request: Option<RequestId>,
    },
    /// Tell what is asked for here from the next batch on, in place of what was asked for before. Takes effect at once and has
    /// no end of its own.
    Watch {
        /// What somebody looks at.
        watch: Watch,
    },
    /// Look after what is cached of earlier loads. Does not wait for a load or an answer to end.
    Cache {
        /// What to do with what is cached.
        action: CacheAction,
    },
}

/// What can be done about cached models. Each action ends with [`crate::Event::Cache`], which lists what is there then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheAction {
    /// Change nothing, only tell what is cached.
    List,
    /// Read everything that is cached of one file, and delete the parts that are not what they were.
    Verify {
        /// Id of the cached file, as in [`crate::CachedModel`].
        id: String,
    },
    /// Delete what is cached of one file; other tabs that have it open prevent this.
    Delete {
        /// Id of the cached file, as in [`crate::CachedModel`].
        id: String,
    },
}

/// Where the bytes of a model are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelLocation {
    /// The model is on a host that honours byte ranges.
    Url {
        /// Absolute http(s) URL of a GGUF file; for a split model, of any part, with the others in the same folder.
        url: String,
    },
    /// The user picked or dropped the file, or all of a split model; the `File` objects travel beside the command.
    PickedFile {
        /// Name of the file; for a split model, of the first that was picked.
        name: String,
    },
    /// The model was picked earlier, and the browser has cached it.
    Cached {
        /// Name of the file; for a split model, of any part.
        name: String,
    },
    /// A node has the model, and answers with it.
    Node {
        /// `pylon://host:port`, or `pylons://host:port` over TLS, without a key.
        address: String,
    },
}

/// What can be chosen at load time, by whose business it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadSettings {
    /// What is loaded, and how much memory it may take.
    pub engine: LoadOptions,
    /// Which abilities of the GPU are used.
    pub gpu: DeviceOptions,
    /// How patient reads are.
    pub network: NetworkOptions,
    /// What the download cache does.
    pub cache: CacheOptions,
}

/// What the engine loads, and how. `None` means: as the model and the device allow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadOptions {
    /// Run only the first N layers (0: embedding and output head only). For experiments; the output is not the model's.
    pub layers: Option<u32>,
    /// Capacity of the KV cache, in tokens.
    pub max_kv_tokens: Option<u32>,
    /// GPU memory for expert weights, in bytes; less than all experts means that they are paged.
    pub expert_memory_bytes: Option<u64>,
    /// GPU memory for everything, in bytes: experts are paged and the default context is shortened until it suffices.
    pub gpu_memory_bytes: Option<u64>,
    /// How far layers look back; anything but the default is for experiments.
    pub attention: Attention,
    /// Whether the KV cache is stored as F32 instead of F16, for comparing with a reference.
    pub kv_f32: bool,
    /// Whether YaRN's correction range is rounded as llama.cpp does, for comparing with it.
    pub yarn_truncate: bool,
    /// When experts are read, if all of them fit.
    pub experts: ExpertLoading,
}

/// How the GPU is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceOptions {
    /// Whether no more is taken from the GPU than every WebGPU device has: bindings of 128 MiB, buffers of 256 MiB.
    pub default_limits: bool,
    /// The tier of kernels that runs; `None`: the highest that the GPU has.
    pub tier: Option<Tier>,
}

/// How patient reads over the network are. `None` means: as patient as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkOptions {
    /// Attempts without a byte after which a read gives up.
    pub attempts: Option<u32>,
    /// Milliseconds without a byte after which a request is made again.
    pub stall_ms: Option<u64>,
}

/// What the download cache does with bytes that came over the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheOptions {
    /// Whether files are cached for the next time. Only a browser has a download cache.
    pub mode: CacheMode,
}

/// When experts are read, if the GPU has room for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertLoading {
    /// All experts are read with the load: every answer is as fast as the next.
    #[default]
    Ahead,
    /// An expert is read when a token needs it, or prefetched when there is nothing else to do: the first answer begins
    /// earlier.
    AsNeeded,
}

/// Whether a load or download reads from the download cache, and adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// Cached bytes are used, and fetched bytes are cached.
    #[default]
    On,
    /// The download cache stays as it is and is not looked at.
    Off,
    /// Cached bytes of this model are deleted and fetched again: for bytes that turned out to be no good.
    Refetch,
}

/// Which tokens each layer can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Even layers have a sliding window and odd ones full attention, as the model was made.
    #[default]
    Model,
    /// Every layer has full attention. For experiments; the output is not the model's.
    Dense,
}

/// One question, with everything that shapes its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// What was said before. With a history the KV cache is used for as much of the prompt as some sequence holds.
    #[serde(default)]
    pub history: Vec<ChatMessage>,
    /// Functions that the model may call.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// The question; empty where the history ends with what a function gave, and the model goes on from there.
    pub user: String,
    /// What becomes of `user`. Other formats than Harmony have no use for instructions, effort and date.
    #[serde(default)]
    pub format: PromptFormat,
    /// Developer instructions; empty means none.
    pub instructions: String,
    /// How much the model is told to reason before it answers.
    pub effort: Effort,
    /// `Current date:` in the system message, as `YYYY-MM-DD` ([`is_date`](crate::is_date)); `None` leaves the line out.
    pub date: Option<String>,
    /// The answer ends once it has so many tokens, those of reasoning included.
    pub max_new_tokens: u32,
    /// How each token of the answer is chosen.
    pub sampling: Sampling,
    /// Texts that end the answer when they appear on the final channel; they are not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
    /// What is said of it in token ids.
    #[serde(default, skip_serializing_if = "PromptIds::is_none")]
    pub ids: Box<PromptIds>,
    /// As many of the most likely tokens are told with each token of the answer; `None`: five. There are 64 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_tokens: Option<u32>,
    /// What is added to logits before a token is drawn.
    #[serde(default)]
    pub logits: Box<LogitChanges>,
    /// A format of the answer that the model is told of. It is enforced only if `shape` says so, too.
    #[serde(default)]
    pub response_format: Option<Box<ResponseFormat>>,
    /// What the answer has to look like; `None`: as the model likes. Only Harmony has shapes, and only hosts with grammars.
    #[serde(default)]
    pub shape: Option<Box<AnswerShape>>,
}

/// What a prompt says in token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptIds {
    /// All of the prompt where its format is [`PromptFormat::Tokens`], which has no use for texts.
    pub prompt: Vec<u32>,
    /// Tokens that end the answer, beside those that end every answer.
    pub stop: Vec<u32>,
}

impl PromptIds {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.prompt.is_empty() && self.stop.is_empty()
    }
}

/// What becomes of the user's text before the model sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptFormat {
    /// The text is a message in a conversation, which the model answers.
    #[default]
    Harmony,
    /// The text is all there is, and the model continues it.
    Text,
    /// The text is Harmony with special tokens by name, and the model continues it. For experiments: the text can say
    /// anything that the model's own messages could.
    Raw,
    /// [`PromptIds::prompt`] is all there is, and the model continues it. What it writes is read as text.
    Tokens,
}

/// How much the model reasons before it answers: the `Reasoning:` line of the system message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// The model hardly reasons: the answer begins soonest.
    Low,
    /// The model reasons as much as it does unasked.
    #[default]
    Medium,
    /// The model reasons at length, often for thousands of tokens.
    High,
}

/// How the next token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits before a token is drawn; 0 is greedy: always the most likely token.
    pub temperature: f32,
    /// Keep only the k most likely; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set whose probabilities reach p; 1 keeps all.
    pub top_p: f32,
    /// Keep only tokens at least this many times as probable as the most likely one (at the sampling temperature); 0 keeps
    /// all.
    #[serde(default)]
    pub min_p: f32,
    /// Where the random numbers begin: the same seed and the same probabilities give the same tokens.
    pub seed: u64,
}

/// Values that a number may have, and how that is said: one row for page and engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// Least value that is allowed, or the value that all must be above.
    pub from: f32,
    /// Whether `from` itself is allowed.
    pub is_from_included: bool,
    /// Greatest value that is allowed.
    pub to: f32,
    /// The range in words, to go after "expected".
    pub words: &'static str,
}

impl Allowed {
    /// Whether `value` is in the range; NaN never is.
    pub fn holds(&self, value: f32) -> bool {
        let above = if self.is_from_included { value >= self.from } else { value > self.from };
        above && value <= self.to
    }
}

impl Sampling {
    /// Range of [`Sampling::temperature`].
    pub const TEMPERATURES: Allowed =
        Allowed { from: 0.0, is_from_included: true, to: 2.0, words: "a number from 0 (greedy) to 2" };
    /// Range of [`Sampling::top_p`]: at 0 no token would be left.
    pub const TOP_PS: Allowed =
        Allowed { from: 0.0, is_from_included: false, to: 1.0, words: "a number above 0 and at most 1" };
    /// Range of [`Sampling::min_p`]: at 1 only the most likely tokens are left.
    pub const MIN_PS: Allowed = Allowed { from: 0.0, is_from_included: true, to: 1.0, words: "a number from 0 to 1" };
}

impl LoadOptions {
    /// A context of fewer tokens has no room for one of the prompt and one of an answer.
    pub const LEAST_KV_TOKENS: u32 = 2;
}

impl PromptFormat {
    /// Prompts of this format take at least so many tokens of the context, an answer's first one included, whatever the user's
    /// text and the model's vocabulary. A conversation has the system message with its valid channels before the user's.
    pub fn least_context_tokens(self) -> u32 {
        match self {
            Self::Harmony => 32,
            Self::Text | Self::Raw | Self::Tokens => LoadOptions::LEAST_KV_TOKENS,
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_what_is_said() {
        for (allowed, good, bad) in [
            (Sampling::TEMPERATURES, &[0.0, 0.7, 2.0][..], &[-0.1, 2.1, f32::NAN, f32::INFINITY][..]),
            (Sampling::TOP_PS, &[0.01, 1.0], &[0.0, -1.0, 1.01, f32::NAN]),
            (Sampling::MIN_PS, &[0.0, 1.0], &[-0.1, 1.5, f32::NAN]),
        ] {
            assert!(good.iter().all(|&value| allowed.holds(value)), "{allowed:?}");
            assert!(!bad.iter().any(|&value| allowed.holds(value)), "{allowed:?}");
            let says = |number: f32| allowed.words.split([' ', ',']).any(|word| word == number.to_string());
            assert!(says(allowed.from) && says(allowed.to), "{allowed:?}");
        }
    }
}
