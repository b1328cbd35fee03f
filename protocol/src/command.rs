//! What a user can ask of a running engine.

use serde::{Deserialize, Serialize};

use crate::RequestId;
use crate::conversation::{ChatMessage, Function};
use crate::tier::Tier;

/// Page (or terminal) to engine host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    /// Open a model and put it on the GPU in place of the one that is loaded, which is let go of once it is known that the new
    /// one can be loaded and `prompt` be asked; then answer `prompt` if there is one.
    Load {
        model: ModelLocation,
        options: LoadSettings,
        prompt: Option<Prompt>,
        /// Keys of every [`crate::Event::Remember`] of earlier loads.
        #[serde(default)]
        remembered: Vec<String>,
    },
    /// Keep all of a model for later, from a URL or picked; needs no GPU. What is loaded stays loaded.
    Download { model: ModelLocation, network: NetworkOptions, cache: CacheOptions },
    /// Answer a prompt with the model that is loaded.
    Generate { prompt: Prompt },
    /// Go on with a load that waits because the model does not fit whole, see [`crate::Event::Preflight`].
    Approve {
        /// The load that waits.
        load: RequestId,
    },
    /// Stop a request, whether it is under way or waits for its turn.
    Stop {
        /// The request to stop; `None`: all of them, and the prefetch.
        request: Option<RequestId>,
    },
    /// Look after what is cached of earlier loads. Does not wait for a load or an answer to end.
    Cache { action: CacheAction },
}

/// What can be done about cached models. Each ends with [`crate::Event::Cache`], which lists what is there then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CacheAction {
    List,
    /// Read everything that is cached of one file, and let go of what is not what it was.
    Verify {
        id: String,
    },
    Delete {
        id: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelLocation {
    /// An absolute http(s) URL of a GGUF file on a host that honours byte ranges; of a split model any part, with the others in
    /// the same folder.
    Url { url: String },
    /// A file the user picked or dropped, or all of a split model, named by the first; the `File` objects themselves travel
    /// beside the command.
    PickedFile { name: String },
    /// A file that was picked earlier and kept in the browser; of a split model any part.
    Cached { name: String },
}

/// What can be chosen at load time, by whose business it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadSettings {
    pub engine: LoadOptions,
    pub gpu: DeviceOptions,
    pub network: NetworkOptions,
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
    pub attention: Attention,
    /// Store the KV cache as F32 instead of F16 (parity runs).
    pub kv_f32: bool,
    /// Round YaRN's correction range as llama.cpp does (for comparing with it).
    pub yarn_truncate: bool,
    /// When experts are read, where all of them fit.
    pub experts: ExpertLoading,
}

/// How the GPU is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceOptions {
    /// Take no more from the GPU than every WebGPU device has: bindings of 128 MiB, buffers of 256 MiB.
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertLoading {
    /// All with the load: every answer is as fast as the next.
    #[default]
    Ahead,
    /// When a token needs them, and the others when there is nothing else to do: the first answer begins earlier.
    AsNeeded,
}

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Sliding window on even layers, full attention on odd ones: the model.
    #[default]
    Model,
    /// Full attention everywhere. For experiments; the output is not the model's.
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
    /// Other formats than Harmony have no use for instructions, effort and date.
    #[serde(default)]
    pub format: PromptFormat,
    /// Developer instructions; empty means none.
    pub instructions: String,
    pub effort: Effort,
    /// `Current date:` in the system message, as `YYYY-MM-DD` ([`is_date`](crate::is_date)); `None` leaves the line out.
    pub date: Option<String>,
    /// At most this many new tokens.
    pub max_new_tokens: u32,
    pub sampling: Sampling,
    /// Texts that end the answer when they appear on the final channel; they are not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
}

/// What becomes of the user's text before the model sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptFormat {
    /// It is a message in a conversation, which the model answers.
    #[default]
    Harmony,
    /// It is all there is, and the model continues it.
    Text,
    /// It is Harmony with special tokens by name, and the model continues it. For experiments: the text can say anything that
    /// the model's own messages could.
    Raw,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    Low,
    #[default]
    Medium,
    High,
}

/// How the next token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy: always the most likely token.
    pub temperature: f32,
    /// Keep only the k most likely; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set whose probabilities reach p; 1 keeps all.
    pub top_p: f32,
    /// Keep only tokens at least this many times as probable as the most likely one (at the sampling temperature); 0 keeps
    /// all.
    #[serde(default)]
    pub min_p: f32,
    pub seed: u64,
}

/// Values that a number may have, and how that is said: one row for page and engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// The least, or what all are above.
    pub from: f32,
    pub is_from_included: bool,
    pub to: f32,
    pub words: &'static str,
}

impl Allowed {
    pub fn holds(&self, value: f32) -> bool {
        let above = if self.is_from_included { value >= self.from } else { value > self.from };
        above && value <= self.to
    }
}

impl Sampling {
    pub const TEMPERATURES: Allowed =
        Allowed { from: 0.0, is_from_included: true, to: 2.0, words: "a number from 0 (greedy) to 2" };
    pub const TOP_PS: Allowed =
        Allowed { from: 0.0, is_from_included: false, to: 1.0, words: "a number above 0 and at most 1" };
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
            Self::Text | Self::Raw => LoadOptions::LEAST_KV_TOKENS,
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
