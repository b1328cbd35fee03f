//! What the user can choose, as text: one parser for what is typed and for what stands in the page's address.

use std::collections::BTreeMap;

use gptoss_source::store::KEPT_SCHEME;
use gptoss_source::{SourceError, check_not_a_page};
use gptoss_telemetry::units::parse_bytes;
use gptoss_telemetry::{
    Allowed, Attention, Effort, ExpertLoading, Keep, LoadOptions, Parameter, Prompt, PromptFormat, Sampling, is_date,
};

/// One choice. Each is an input element and a query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Gguf,
    Prompt,
    Format,
    Instructions,
    Effort,
    Date,
    MaxNew,
    MaxKv,
    Temperature,
    TopK,
    TopP,
    Seed,
    ExpertMemory,
    GpuMemory,
    Layers,
    Attention,
    Kv,
    Yarn,
    FetchAttempts,
    FetchStall,
    Store,
    Limits,
    Experts,
}

impl Field {
    pub const ALL: [Field; 23] = [
        Field::Gguf,
        Field::Prompt,
        Field::Format,
        Field::Instructions,
        Field::Effort,
        Field::Date,
        Field::MaxNew,
        Field::MaxKv,
        Field::Temperature,
        Field::TopK,
        Field::TopP,
        Field::Seed,
        Field::ExpertMemory,
        Field::GpuMemory,
        Field::Layers,
        Field::Attention,
        Field::Kv,
        Field::Yarn,
        Field::FetchAttempts,
        Field::FetchStall,
        Field::Store,
        Field::Limits,
        Field::Experts,
    ];

    /// Name of the query parameter.
    pub fn key(self) -> &'static str {
        match self {
            Field::Gguf => "gguf",
            Field::Prompt => "prompt",
            Field::Format => "format",
            Field::Instructions => "instructions",
            Field::Effort => "effort",
            Field::Date => "date",
            Field::MaxNew => "max_new",
            Field::MaxKv => "max_kv",
            Field::Temperature => "temp",
            Field::TopK => "top_k",
            Field::TopP => "top_p",
            Field::Seed => "seed",
            Field::ExpertMemory => "expert_memory",
            Field::GpuMemory => "gpu_memory",
            Field::Layers => "layers",
            Field::Attention => "attn",
            Field::Kv => "kv",
            Field::Yarn => "yarn",
            Field::FetchAttempts => "attempts",
            Field::FetchStall => "stall",
            Field::Store => "store",
            Field::Limits => "limits",
            Field::Experts => "experts",
        }
    }

    /// Id of the input element.
    pub fn element_id(self) -> &'static str {
        match self {
            Field::Gguf => "gguf-url",
            Field::Prompt => "prompt",
            Field::Format => "prompt-format",
            Field::Instructions => "instructions",
            Field::Effort => "effort",
            Field::Date => "date",
            Field::MaxNew => "max-new",
            Field::MaxKv => "max-kv",
            Field::Temperature => "temperature",
            Field::TopK => "top-k",
            Field::TopP => "top-p",
            Field::Seed => "seed",
            Field::ExpertMemory => "expert-memory",
            Field::GpuMemory => "gpu-memory",
            Field::Layers => "layers",
            Field::Attention => "attention",
            Field::Kv => "kv",
            Field::Yarn => "yarn",
            Field::FetchAttempts => "fetch-attempts",
            Field::FetchStall => "fetch-stall",
            Field::Store => "store",
            Field::Limits => "gpu-limits",
            Field::Experts => "experts",
        }
    }

    /// One of a few: its element is a list.
    pub fn is_list(self) -> bool {
        use Field::{Attention, Effort, Experts, Format, Kv, Limits, Store, Yarn};
        matches!(self, Format | Effort | Attention | Kv | Yarn | Store | Limits | Experts)
    }

    /// What the user sees beside the input.
    pub fn label(self) -> &'static str {
        match self {
            Field::Gguf => "GGUF address",
            Field::Prompt => "Prompt",
            Field::Format => "Prompt format",
            Field::Instructions => "Instructions",
            Field::Effort => "Effort",
            Field::Date => "Date",
            Field::MaxNew => "Max new tokens",
            Field::MaxKv => "KV capacity",
            Field::Temperature => "Temperature",
            Field::TopK => "Top-k",
            Field::TopP => "Top-p",
            Field::Seed => "Seed",
            Field::ExpertMemory => "Expert memory",
            Field::GpuMemory => "GPU memory",
            Field::Layers => "Layers",
            Field::Attention => "Attention",
            Field::Kv => "KV format",
            Field::Yarn => "YaRN range",
            Field::FetchAttempts => "Fetch attempts",
            Field::FetchStall => "Silence, seconds",
            Field::Store => "Keep what is fetched",
            Field::Limits => "GPU limits",
            Field::Experts => "Experts",
        }
    }
}

/// The input that holds a choice of which the engine speaks; `None` for choices that this page does not offer.
pub fn field_of(parameter: Parameter) -> Option<Field> {
    match parameter {
        Parameter::Prompt => Some(Field::Prompt),
        Parameter::Temperature => Some(Field::Temperature),
        Parameter::TopP => Some(Field::TopP),
        Parameter::MinP => None,
        Parameter::MaxKvTokens => Some(Field::MaxKv),
        Parameter::Layers => Some(Field::Layers),
        Parameter::ExpertMemory => Some(Field::ExpertMemory),
        Parameter::GpuMemory => Some(Field::GpuMemory),
    }
}

/// A choice that cannot be used, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// The input it came from; `None` for a query parameter that has none.
    pub field: Option<Field>,
    pub message: String,
}

/// The text of every input. A blank one means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    texts: BTreeMap<Field, String>,
}

/// Used when `max_new` is blank.
pub const DEFAULT_MAX_NEW_TOKENS: u32 = 512;

impl Inputs {
    pub fn set(&mut self, field: Field, text: impl Into<String>) {
        self.texts.insert(field, text.into());
    }

    pub fn get(&self, field: Field) -> &str {
        self.texts.get(&field).map_or("", |text| text.trim())
    }

    /// What the model is to be loaded with, or everything that is wrong with it.
    pub fn load_options(&self) -> Result<LoadOptions, Vec<InputError>> {
        let mut reader = Reader { inputs: self, errors: Vec::new() };
        let options = LoadOptions {
            layers: reader.optional(Field::Layers, parse_layers).flatten(),
            max_kv_tokens: reader.optional(Field::MaxKv, parse_max_kv),
            expert_memory_bytes: reader.optional(Field::ExpertMemory, parse_bytes),
            gpu_memory_bytes: reader.optional(Field::GpuMemory, parse_bytes),
            attention: reader.or_default(Field::Attention, parse_attention),
            kv_f32: reader.or_default(Field::Kv, parse_kv),
            yarn_truncate: reader.or_default(Field::Yarn, parse_yarn),
            fetch_attempts: reader.optional(Field::FetchAttempts, |text| parse_u32(text, 1)),
            fetch_stall_ms: reader.optional(Field::FetchStall, parse_stall),
            default_limits: reader.or_default(Field::Limits, parse_limits),
            experts: reader.optional(Field::Experts, parse_experts).unwrap_or(ExpertLoading::AsNeeded),
            keep: reader.or_default(Field::Store, parse_store),
        };
        reader.finish(options)
    }

    /// What the model is to be loaded with and then asked, if there is a prompt, or everything that is wrong with either.
    pub fn load_and_ask(&self) -> Result<(LoadOptions, Option<Prompt>), Vec<InputError>> {
        let prompt = if self.get(Field::Prompt).is_empty() { Ok(None) } else { self.prompt().map(Some) };
        match (self.load_options(), prompt) {
            (Ok(options), Ok(prompt)) => {
                let least = prompt.as_ref().map_or(0, |prompt| prompt.format.least_context_tokens());
                if options.max_kv_tokens.is_some_and(|tokens| tokens < least) {
                    let expected = format!("at least {least}: what stands before the prompt alone takes as much");
                    return Err(vec![field_error(Field::MaxKv, self.get(Field::MaxKv), &expected)]);
                }
                Ok((options, prompt))
            }
            (options, prompt) => {
                let errors = options.err().into_iter().chain(prompt.err());
                Err(errors.flatten().collect())
            }
        }
    }

    /// What the model is to be asked, or everything that is wrong with it.
    pub fn prompt(&self) -> Result<Prompt, Vec<InputError>> {
        let mut reader = Reader { inputs: self, errors: Vec::new() };
        let user = self.get(Field::Prompt).to_owned();
        if user.is_empty() {
            reader.errors.push(InputError { field: Some(Field::Prompt), message: "The prompt is empty.".to_owned() });
        }
        let greedy = Sampling::default();
        let prompt = Prompt {
            user,
            format: reader.or_default(Field::Format, parse_format),
            instructions: self.get(Field::Instructions).to_owned(),
            effort: reader.or_default(Field::Effort, parse_effort),
            date: reader.optional(Field::Date, parse_date).flatten(),
            max_new_tokens: reader.optional(Field::MaxNew, |text| parse_u32(text, 1)).unwrap_or(DEFAULT_MAX_NEW_TOKENS),
            sampling: Sampling {
                temperature: reader.optional(Field::Temperature, parse_temperature).unwrap_or(greedy.temperature),
                top_k: reader.optional(Field::TopK, |text| parse_u32(text, 0)).unwrap_or(greedy.top_k),
                top_p: reader.optional(Field::TopP, parse_top_p).unwrap_or(greedy.top_p),
                seed: reader.optional(Field::Seed, parse_seed).unwrap_or(greedy.seed),
                ..greedy
            },
            stop: Vec::new(),
        };
        reader.finish(prompt)
    }
}

/// Says whether `text` could be used for `field`, by the parser that will be used.
pub fn check(field: Field, text: &str) -> Result<(), InputError> {
    let text = text.trim();
    let result = match field {
        Field::Prompt | Field::Instructions => Ok(()),
        Field::Gguf => check_gguf(text),
        Field::Format => parse_format(text).map(drop),
        Field::Effort => parse_effort(text).map(drop),
        Field::Date => parse_date(text).map(drop),
        Field::MaxNew | Field::FetchAttempts => parse_u32(text, 1).map(drop),
        Field::MaxKv => parse_max_kv(text).map(drop),
        Field::Temperature => parse_temperature(text).map(drop),
        Field::TopK => parse_u32(text, 0).map(drop),
        Field::TopP => parse_top_p(text).map(drop),
        Field::Seed => parse_seed(text).map(drop),
        Field::ExpertMemory | Field::GpuMemory => parse_bytes(text).map(drop),
        Field::Layers => parse_layers(text).map(drop),
        Field::Attention => parse_attention(text).map(drop),
        Field::Kv => parse_kv(text).map(drop),
        Field::Yarn => parse_yarn(text).map(drop),
        Field::FetchStall => parse_stall(text).map(drop),
        Field::Store => parse_store(text).map(drop),
        Field::Limits => parse_limits(text).map(drop),
        Field::Experts => parse_experts(text).map(drop),
    };
    result.map_err(|expected| field_error(field, text, &expected))
}

/// Reads fields one after another and keeps every error, so that the user sees all of them at once.
struct Reader<'a> {
    inputs: &'a Inputs,
    errors: Vec<InputError>,
}

impl Reader<'_> {
    fn optional<T>(&mut self, field: Field, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.inputs.get(field);
        if text.is_empty() {
            return None;
        }
        parse(text).map_err(|expected| self.errors.push(field_error(field, text, &expected))).ok()
    }

    fn or_default<T: Default>(&mut self, field: Field, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        self.optional(field, parse).unwrap_or_default()
    }

    fn finish<T>(self, value: T) -> Result<T, Vec<InputError>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }
}

fn field_error(field: Field, text: &str, expected: &str) -> InputError {
    let message = format!("{} ({}) is \"{text}\", expected {expected}.", field.label(), field.key());
    InputError { field: Some(field), message }
}

/// An absolute http(s) URL, the name of a file that was picked and kept, or a path that the page resolves against its own address.
fn check_gguf(text: &str) -> Result<(), String> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") if text.contains("://") => match check_not_a_page(text) {
            Err(SourceError::PageAddress { file_url: Some(file_url), .. }) => {
                Err(format!("the address of the file itself: that is a page about it, the file is at {file_url}"))
            }
            Err(error) => Err(format!("the address of a .gguf file: that is one of a page. {}", error.advice())),
            Ok(()) => Ok(()),
        },
        Some("kept") if text.len() > KEPT_SCHEME.len() => Ok(()),
        Some("pylon") => {
            Err("an http(s) address: answering through a pylon node is not supported by this page".to_owned())
        }
        Some("file") => {
            Err("an http(s) address: a page cannot open file: addresses, use Pick file or drop the file here"
                .to_owned())
        }
        _ if text.eq_ignore_ascii_case("pylon") => {
            Err("an http(s) address: answering through a pylon node is not supported by this page".to_owned())
        }
        _ if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") => Ok(()),
        _ => Err("an http(s) address, or a path on this host that begins with \"/\"".to_owned()),
    }
}

fn parse_u32(text: &str, at_least: u32) -> Result<u32, String> {
    let expected = || format!("a whole number from {at_least} to {}", u32::MAX);
    match parse_digits(text) {
        Some(value) => u32::try_from(value).ok().filter(|value| *value >= at_least).ok_or_else(expected),
        None => Err(expected()),
    }
}

fn parse_seed(text: &str) -> Result<u64, String> {
    parse_digits(text).ok_or_else(|| format!("a whole number from 0 to {}", u64::MAX))
}

/// Like `str::parse`, without the leading `+` that it accepts.
fn parse_digits(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_number(text: &str) -> Option<f32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse::<f32>().ok().filter(|value| plain && value.is_finite())
}

fn parse_allowed(text: &str, allowed: Allowed) -> Result<f32, String> {
    parse_number(text).filter(|value| allowed.holds(*value)).ok_or_else(|| allowed.words.to_owned())
}

fn parse_temperature(text: &str) -> Result<f32, String> {
    parse_allowed(text, Sampling::TEMPERATURES)
}

fn parse_top_p(text: &str) -> Result<f32, String> {
    parse_allowed(text, Sampling::TOP_PS)
}

fn parse_max_kv(text: &str) -> Result<u32, String> {
    parse_u32(text, LoadOptions::LEAST_KV_TOKENS)
}

/// `all`, or how many of the first layers run.
fn parse_layers(text: &str) -> Result<Option<u32>, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(None);
    }
    parse_u32(text, 0)
        .map(Some)
        .map_err(|_| "\"all\" or a whole number (0 runs embedding and output head only)".to_owned())
}

fn parse_attention(text: &str) -> Result<Attention, String> {
    match text {
        "full" | "model" => Ok(Attention::Model),
        "dense" => Ok(Attention::Dense),
        "0" | "off" => Err("full or dense: running without attention is not supported".to_owned()),
        _ => Err("full (the model's own) or dense (no sliding window)".to_owned()),
    }
}

fn parse_kv(text: &str) -> Result<bool, String> {
    match text {
        "f16" => Ok(false),
        "f32" => Ok(true),
        _ => Err("f16 or f32".to_owned()),
    }
}

fn parse_yarn(text: &str) -> Result<bool, String> {
    match text {
        "exact" => Ok(false),
        "truncate" => Ok(true),
        _ => Err("exact (the model's own) or truncate (as llama.cpp does)".to_owned()),
    }
}

/// Seconds, as milliseconds.
fn parse_stall(text: &str) -> Result<u64, String> {
    parse_number(text)
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .map(|seconds| (seconds * 1000.0).round() as u64)
        .ok_or_else(|| "seconds from 0.1 to 3600".to_owned())
}

fn parse_store(text: &str) -> Result<Keep, String> {
    match text {
        "yes" => Ok(Keep::Yes),
        "no" => Ok(Keep::No),
        _ => Err("yes (files from the network are kept for the next load) or no".to_owned()),
    }
}

fn parse_limits(text: &str) -> Result<bool, String> {
    match text {
        "granted" => Ok(false),
        "default" => Ok(true),
        _ => Err("granted (all that the GPU gives) or default (what every WebGPU device has)".to_owned()),
    }
}

fn parse_experts(text: &str) -> Result<ExpertLoading, String> {
    match text {
        "needed" => Ok(ExpertLoading::AsNeeded),
        "ahead" => Ok(ExpertLoading::Ahead),
        _ => {
            Err("needed (when a token needs them, the others in the background) or ahead (all before the first answer)"
                .to_owned())
        }
    }
}

fn parse_format(text: &str) -> Result<PromptFormat, String> {
    match text {
        "harmony" => Ok(PromptFormat::Harmony),
        "text" => Ok(PromptFormat::Text),
        _ => Err("harmony (a message that is answered) or text (continued as it is)".to_owned()),
    }
}

fn parse_effort(text: &str) -> Result<Effort, String> {
    match text {
        "low" => Ok(Effort::Low),
        "medium" => Ok(Effort::Medium),
        "high" => Ok(Effort::High),
        _ => Err("low, medium or high".to_owned()),
    }
}

/// `YYYY-MM-DD`, or `none` to leave the date out of the system message.
fn parse_date(text: &str) -> Result<Option<String>, String> {
    if text == "none" {
        return Ok(None);
    }
    if is_date(text) { Ok(Some(text.to_owned())) } else { Err("a date as YYYY-MM-DD, or none".to_owned()) }
}

#[cfg(test)]
mod tests;
