//! The rows, in the order of [`OptionId`].

use super::{DefaultWords, Flag, Key, Kind, OptionId, OptionRow, Owner, RefusedWords, Word};
use crate::{Allowed, Attention, CacheMode, Effort, ExpertLoading, LoadOptions, PromptFormat, Sampling, Tier};

/// A parameter with an input on the page.
const fn input(name: &'static str) -> Option<Key> {
    Some(Key { name, in_form: true })
}

/// A parameter that only stands in addresses.
const fn address_only(name: &'static str) -> Option<Key> {
    Some(Key { name, in_form: false })
}

const fn flag(name: &'static str) -> Option<Flag> {
    Some(Flag { name, means: None, repeats: false, note: "" })
}

/// A flag with a note of its own.
const fn flag_with(name: &'static str, note: &'static str) -> Option<Flag> {
    Some(Flag { name, means: None, repeats: false, note })
}

/// A flag without a value; `note` says what it does.
const fn switch(name: &'static str, means: &'static str, note: &'static str) -> Option<Flag> {
    Some(Flag { name, means: Some(means), repeats: false, note })
}

/// The same default on the page and in pylon.
const fn always(words: &'static str) -> DefaultWords {
    DefaultWords { page: words, pylon: words }
}

/// The part of a `u32` that an option may take.
const U32_MAX: u64 = u32::MAX as u64;

/// The CPU backend reads experts from the mapped file.
const CPU_IGNORES: &str = "the CPU backend has no use for it";

/// Range of the stall time, in seconds.
const STALLS: Allowed = Allowed { from: 0.1, is_from_included: true, to: 3600.0, words: "seconds from 0.1 to 3600" };

/// Every option, by [`OptionId`].
pub static OPTIONS: [OptionRow; 33] = [
    OptionRow {
        id: OptionId::Gguf,
        owner: Owner::Model,
        key: input("gguf"),
        flag: flag_with("gguf", "a path instead of an address"),
        label: "GGUF address",
        kind: Kind::Address { node: true, set: |settings, text| settings.gguf = text.to_owned() },
        default: DefaultWords { page: "what the page's host offers", pylon: "the demo model, for infer and bench" },
        help: "Where the GGUF file of the model is",
        examples: &[
            "https://example.com/models/model.gguf",
            "/models/model.gguf",
            "cached:model.gguf",
            "pylon://127.0.0.1:9899",
        ],
    },
    OptionRow {
        id: OptionId::Prompt,
        owner: Owner::Prompt,
        key: input("prompt"),
        flag: flag_with("prompt", "- reads standard input"),
        label: "Prompt",
        kind: Kind::Text { set: |settings, text| settings.prompt.user = text.to_owned() },
        default: always("none"),
        help: "What to ask",
        examples: &["Add 17 and 25."],
    },
    OptionRow {
        id: OptionId::PromptFormat,
        owner: Owner::Prompt,
        key: input("format"),
        flag: switch("no-harmony", "text", "Continue the prompt as plain text instead of answering it"),
        label: "Prompt format",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "harmony",
                    also: &[],
                    meaning: "a message to be answered",
                    set: |settings| settings.prompt.format = PromptFormat::Harmony,
                },
                Word {
                    text: "text",
                    also: &[],
                    meaning: "text to be continued",
                    set: |settings| settings.prompt.format = PromptFormat::Text,
                },
            ],
            refused: &[],
        },
        default: always("harmony"),
        help: "Whether the prompt is answered, or continued as plain text",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Instructions,
        owner: Owner::Prompt,
        key: input("instructions"),
        flag: flag("system"),
        label: "Developer instructions",
        kind: Kind::Text { set: |settings, text| settings.prompt.instructions = text.to_owned() },
        default: always("none"),
        help: "Instructions of the developer, which stand above those of the user",
        examples: &["Answer in one sentence."],
    },
    OptionRow {
        id: OptionId::Effort,
        owner: Owner::Prompt,
        key: input("effort"),
        flag: flag("reasoning"),
        label: "Effort",
        kind: Kind::Words {
            words: &[
                Word { text: "low", also: &[], meaning: "", set: |settings| settings.prompt.effort = Effort::Low },
                Word {
                    text: "medium",
                    also: &[],
                    meaning: "",
                    set: |settings| settings.prompt.effort = Effort::Medium,
                },
                Word { text: "high", also: &[], meaning: "", set: |settings| settings.prompt.effort = Effort::High },
            ],
            refused: &[],
        },
        default: always("medium"),
        help: "How much the model should reason",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Date,
        owner: Owner::Prompt,
        key: input("date"),
        flag: flag("date"),
        label: "Date in the system message",
        kind: Kind::Date { set: |settings, date| settings.prompt.date = date },
        default: DefaultWords { page: "today", pylon: "none" },
        help: "The current date that the model is told, as YYYY-MM-DD, today or none",
        examples: &["2026-02-28", "today", "none"],
    },
    OptionRow {
        id: OptionId::MaxNewTokens,
        owner: Owner::Prompt,
        key: input("max_new"),
        flag: flag("max-tokens"),
        label: "Max new tokens",
        kind: Kind::Whole {
            from: 1,
            to: U32_MAX,
            unit: "tokens",
            instead: None,
            set: |settings, tokens| settings.prompt.max_new_tokens = tokens as u32,
        },
        default: DefaultWords { page: "512", pylon: "1024" },
        help: "At most this many new tokens",
        examples: &["64"],
    },
    OptionRow {
        id: OptionId::History,
        owner: Owner::Prompt,
        key: input("history"),
        flag: None,
        label: "What was said before",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "yes",
                    also: &[],
                    meaning: "each question goes on from it",
                    set: |settings| settings.alone = false,
                },
                Word {
                    text: "no",
                    also: &[],
                    meaning: "each question stands alone",
                    set: |settings| settings.alone = true,
                },
            ],
            refused: &[],
        },
        default: always("yes"),
        help: "Whether a question goes on from those before it, or stands alone",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Functions,
        owner: Owner::Prompt,
        key: input("functions"),
        flag: None,
        label: "Functions to call, as JSON",
        kind: Kind::Text { set: |settings, text| text.clone_into(&mut settings.functions) },
        default: always("none"),
        help: "Functions that the model may call, as a JSON list with name, description and parameters of each",
        examples: &[r#"[{"name": "get_weather", "description": "Weather of a place."}]"#],
    },
    OptionRow {
        id: OptionId::Stop,
        owner: Owner::Prompt,
        key: input("stop_text"),
        flag: Some(Flag { name: "stop", means: None, repeats: true, note: "may be given more than once" }),
        label: "Stop text",
        kind: Kind::Text { set: |settings, text| settings.prompt.stop.push(text.to_owned()) },
        default: always("none"),
        help: "Text that ends the answer where it appears in it, and is not part of it",
        examples: &["###"],
    },
    OptionRow {
        id: OptionId::Temperature,
        owner: Owner::Sampling,
        key: input("temp"),
        flag: flag("temperature"),
        label: "Temperature",
        kind: Kind::Number {
            allowed: Sampling::TEMPERATURES,
            set: |settings, value| settings.prompt.sampling.temperature = value,
        },
        default: always("0"),
        help: "How freely tokens are drawn: 0 always takes the most likely one",
        examples: &["0.7"],
    },
    OptionRow {
        id: OptionId::TopK,
        owner: Owner::Sampling,
        key: input("top_k"),
        flag: flag("top-k"),
        label: "Top-k",
        kind: Kind::Whole {
            from: 0,
            to: U32_MAX,
            unit: "tokens",
            instead: None,
            set: |settings, tokens| settings.prompt.sampling.top_k = tokens as u32,
        },
        default: always("0"),
        help: "Keep so many of the most likely tokens; 0 keeps all",
        examples: &["40"],
    },
    OptionRow {
        id: OptionId::TopP,
        owner: Owner::Sampling,
        key: input("top_p"),
        flag: flag("top-p"),
        label: "Top-p",
        kind: Kind::Number { allowed: Sampling::TOP_PS, set: |settings, value| settings.prompt.sampling.top_p = value },
        default: always("1"),
        help: "Keep the smallest set of tokens whose probabilities reach this; 1 keeps all",
        examples: &["0.9"],
    },
    OptionRow {
        id: OptionId::MinP,
        owner: Owner::Sampling,
        key: input("min_p"),
        flag: flag("min-p"),
        label: "Min-p",
        kind: Kind::Number { allowed: Sampling::MIN_PS, set: |settings, value| settings.prompt.sampling.min_p = value },
        default: always("0"),
        help: "Keep tokens at least this many times as likely as the most likely one; 0 keeps all",
        examples: &["0.05"],
    },
    OptionRow {
        id: OptionId::Seed,
        owner: Owner::Sampling,
        key: input("seed"),
        flag: flag("seed"),
        label: "Seed",
        kind: Kind::Whole {
            from: 0,
            to: u64::MAX,
            unit: "",
            instead: None,
            set: |settings, seed| settings.prompt.sampling.seed = seed,
        },
        default: always("0"),
        help: "The same seed draws the same tokens",
        examples: &["7"],
    },
    OptionRow {
        id: OptionId::MaxKvTokens,
        owner: Owner::Engine,
        key: input("max_kv"),
        flag: flag("max-kv"),
        label: "KV capacity",
        kind: Kind::Whole {
            from: LoadOptions::LEAST_KV_TOKENS as u64,
            to: U32_MAX,
            unit: "tokens",
            instead: None,
            set: |settings, tokens| settings.load.engine.max_kv_tokens = Some(tokens as u32),
        },
        default: DefaultWords { page: "as it fits", pylon: "8192, or the model's context where that is less" },
        help: "Tokens that the KV cache holds: the longest prompt and answer together",
        examples: &["4096"],
    },
    OptionRow {
        id: OptionId::KvFormat,
        owner: Owner::Engine,
        key: input("kv"),
        flag: flag("kv"),
        label: "KV format",
        kind: Kind::Words {
            words: &[
                Word { text: "f16", also: &[], meaning: "", set: |settings| settings.load.engine.kv_f32 = false },
                Word { text: "f32", also: &[], meaning: "", set: |settings| settings.load.engine.kv_f32 = true },
            ],
            refused: &[],
        },
        default: DefaultWords { page: "f16", pylon: "f16, for logits f32" },
        help: "Precision of the KV cache",
        examples: &[],
    },
    OptionRow {
        id: OptionId::ExpertMemory,
        owner: Owner::Engine,
        key: input("expert_memory"),
        flag: flag_with("expert-memory", CPU_IGNORES),
        label: "Expert memory",
        kind: Kind::Bytes { set: |settings, bytes| settings.load.engine.expert_memory_bytes = Some(bytes) },
        default: always("as it fits"),
        help: "GPU memory for experts; less than all of them means that they are paged",
        examples: &["4GiB", "1.5G"],
    },
    OptionRow {
        id: OptionId::GpuMemory,
        owner: Owner::Engine,
        key: input("gpu_memory"),
        flag: flag_with("gpu-memory", CPU_IGNORES),
        label: "GPU memory in all",
        kind: Kind::Bytes { set: |settings, bytes| settings.load.engine.gpu_memory_bytes = Some(bytes) },
        default: always("all"),
        help: "GPU memory for everything: experts are paged and the default context is shortened until it suffices",
        examples: &["8G", "8GiB"],
    },
    OptionRow {
        id: OptionId::ExpertLoading,
        owner: Owner::Engine,
        key: input("experts"),
        flag: flag_with("experts", CPU_IGNORES),
        label: "Experts",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "needed",
                    also: &[],
                    meaning: "when needed, others prefetched",
                    set: |settings| settings.load.engine.experts = ExpertLoading::AsNeeded,
                },
                Word {
                    text: "ahead",
                    also: &[],
                    meaning: "all before the first answer",
                    set: |settings| settings.load.engine.experts = ExpertLoading::Ahead,
                },
            ],
            refused: &[],
        },
        default: DefaultWords { page: "needed", pylon: "ahead" },
        help: "When experts are read, where all of them fit",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Layers,
        owner: Owner::Engine,
        key: input("layers"),
        flag: flag("layers"),
        label: "Layers",
        kind: Kind::Whole {
            from: 0,
            to: U32_MAX,
            unit: "layers",
            instead: Some(Word {
                text: "all",
                also: &[],
                meaning: "",
                set: |settings| settings.load.engine.layers = None,
            }),
            set: |settings, layers| settings.load.engine.layers = Some(layers as u32),
        },
        default: always("all"),
        help: "Run only the first N layers (0: none), for experiments: the output is not the model's",
        examples: &["2", "all"],
    },
    OptionRow {
        id: OptionId::Attention,
        owner: Owner::Engine,
        key: input("attn"),
        flag: None,
        label: "Attention",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "full",
                    also: &["model"],
                    meaning: "the model's own",
                    set: |settings| settings.load.engine.attention = Attention::Model,
                },
                Word {
                    text: "dense",
                    also: &[],
                    meaning: "no sliding window",
                    set: |settings| settings.load.engine.attention = Attention::Dense,
                },
            ],
            refused: &[RefusedWords {
                words: &["0", "off"],
                expected: "full or dense: running without attention is not supported",
            }],
        },
        default: always("full"),
        help: "Which attention runs, for experiments: without the sliding window the output is not the model's",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Yarn,
        owner: Owner::Engine,
        key: input("yarn"),
        flag: switch("yarn-truncate", "truncate", "Round YaRN's correction range, as llama.cpp does"),
        label: "YaRN range",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "exact",
                    also: &[],
                    meaning: "the model's own",
                    set: |settings| settings.load.engine.yarn_truncate = false,
                },
                Word {
                    text: "truncate",
                    also: &[],
                    meaning: "rounded, as llama.cpp does",
                    set: |settings| settings.load.engine.yarn_truncate = true,
                },
            ],
            refused: &[],
        },
        default: always("exact"),
        help: "Whether YaRN's correction range is rounded as llama.cpp does, for comparing with it",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Moe,
        owner: Owner::Engine,
        key: address_only("moe"),
        flag: switch("moe-fallback", "fallback", "Not possible here"),
        label: "moe",
        kind: Kind::Words {
            words: &[Word { text: "full", also: &["on", "1", "model"], meaning: "the model's own", set: |_| {} }],
            refused: &[RefusedWords {
                words: &["fallback", "off", "0"],
                expected: "full: running without the model's own expert routing is not supported",
            }],
        },
        default: always("full"),
        help: "Which experts run: never others than the model's own, so that every other value is refused",
        examples: &[],
    },
    OptionRow {
        id: OptionId::GpuLimits,
        owner: Owner::Gpu,
        key: input("limits"),
        flag: None,
        label: "GPU limits",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "granted",
                    also: &[],
                    meaning: "all that is granted",
                    set: |settings| settings.load.gpu.default_limits = false,
                },
                Word {
                    text: "default",
                    also: &[],
                    meaning: "WebGPU's defaults",
                    set: |settings| settings.load.gpu.default_limits = true,
                },
            ],
            refused: &[],
        },
        default: always("granted"),
        help: "Whether more is taken from the GPU than every WebGPU device has",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Tier,
        owner: Owner::Gpu,
        key: input("tier"),
        flag: flag_with("tier", CPU_IGNORES),
        label: "Kernel tier",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "auto",
                    also: &[],
                    meaning: "the highest that the GPU has",
                    set: |settings| settings.load.gpu.tier = None,
                },
                Word {
                    text: "baseline",
                    also: &[],
                    meaning: "core WebGPU",
                    set: |settings| settings.load.gpu.tier = Some(Tier::Baseline),
                },
                Word {
                    text: "f16",
                    also: &[],
                    meaning: "with shader-f16",
                    set: |settings| settings.load.gpu.tier = Some(Tier::F16),
                },
                Word {
                    text: "f16+subgroups",
                    // A plus in an address means a space.
                    also: &["f16 subgroups"],
                    meaning: "with shader-f16, and subgroups of at least 8 lanes",
                    set: |settings| settings.load.gpu.tier = Some(Tier::F16Subgroups),
                },
            ],
            refused: &[],
        },
        default: always("auto"),
        help: "Which features of the GPU the kernels use",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Threads,
        owner: Owner::Cpu,
        key: None,
        flag: flag("threads"),
        label: "Threads",
        kind: Kind::Whole {
            from: 1,
            to: 1024,
            unit: "threads",
            instead: None,
            set: |settings, threads| settings.threads = Some(threads as u32),
        },
        default: always("as many as the machine has"),
        help: "Threads of the CPU backend",
        examples: &["4"],
    },
    OptionRow {
        id: OptionId::FetchAttempts,
        owner: Owner::Network,
        key: input("attempts"),
        flag: None,
        label: "Fetch attempts",
        kind: Kind::Whole {
            from: 1,
            to: U32_MAX,
            unit: "attempts",
            instead: None,
            set: |settings, attempts| settings.load.network.attempts = Some(attempts as u32),
        },
        default: always("12"),
        help: "Attempts without a byte after which a read gives up",
        examples: &["3"],
    },
    OptionRow {
        id: OptionId::FetchStall,
        owner: Owner::Network,
        key: input("stall"),
        flag: None,
        label: "Silence per attempt, seconds",
        kind: Kind::Seconds {
            allowed: STALLS,
            set: |settings, milliseconds| settings.load.network.stall_ms = Some(milliseconds),
        },
        default: always("20"),
        help: "Seconds without a byte after which a request is made again",
        examples: &["2.5"],
    },
    OptionRow {
        id: OptionId::Cache,
        owner: Owner::Cache,
        key: input("cache"),
        flag: None,
        label: "Cache what is fetched",
        kind: Kind::Words {
            words: &[
                Word { text: "yes", also: &[], meaning: "", set: |settings| settings.load.cache.mode = CacheMode::On },
                Word { text: "no", also: &[], meaning: "", set: |settings| settings.load.cache.mode = CacheMode::Off },
            ],
            refused: &[],
        },
        default: always("yes"),
        help: "Whether files from the network are cached in the browser for the next load",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Autostart,
        owner: Owner::Page,
        key: address_only("autostart"),
        flag: None,
        label: "autostart",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "yes",
                    also: &["true", "on", "1"],
                    meaning: "",
                    set: |settings| settings.autostart = true,
                },
                Word {
                    text: "no",
                    also: &["false", "off", "0"],
                    meaning: "",
                    set: |settings| settings.autostart = false,
                },
            ],
            refused: &[],
        },
        default: always("no"),
        help: "Whether the page loads the model without waiting for a click",
        examples: &[],
    },
    OptionRow {
        id: OptionId::Recording,
        owner: Owner::Page,
        key: address_only("data"),
        flag: None,
        label: "data",
        kind: Kind::Address { node: false, set: |settings, text| text.clone_into(&mut settings.recording) },
        default: always("none"),
        help: "Recording to show, as the page saved it; needs no GPU",
        examples: &["/recordings/nano.jsonl"],
    },
    OptionRow {
        id: OptionId::Sample,
        owner: Owner::Sampling,
        key: address_only("sample"),
        flag: None,
        label: "sample",
        kind: Kind::Words {
            words: &[
                Word {
                    text: "yes",
                    also: &["true", "on", "1"],
                    meaning: "",
                    set: |settings| settings.sample = Some(true),
                },
                Word {
                    text: "no",
                    also: &["false", "off", "0"],
                    meaning: "",
                    set: |settings| settings.sample = Some(false),
                },
            ],
            refused: &[],
        },
        default: always("as the temperature says"),
        help: "Without a temperature: yes is a temperature of 1, no is 0; beside one it must agree with it",
        examples: &[],
    },
];
