//! `pylon infer`: an answer to a prompt, or a conversation.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::NonEmptyStringValueParser;
use gptoss_engine::{AnswerLimits, Backend, Engine, Host, Reading, Sampler, StageError, in_stage};
use gptoss_telemetry::{Effort, Event, FinishReason, LoadOptions, Prompt, PromptFormat, Sampling, Stage};

use crate::backend::{self, AnyModel, LoadRequest};
use crate::commands::chat;
use crate::date;
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::host::ConsoleHost;
use crate::interrupt::Interrupts;
use crate::model_args::{ActivationsArg, Kv, LimitArgs, ModelArgs, in_flags};
use crate::output::note;
use crate::text_input::read_text;
use crate::transcript::Transcript;

/// New tokens when neither flag nor environment says how many.
const DEFAULT_MAX_TOKENS: u32 = 1024;

/// Answer a prompt, or hold a conversation
///
/// The answer streams to standard output; everything else goes to standard error. Without --prompt, and on a terminal,
/// it is a conversation: Ctrl-C stops an answer, a second one leaves; /new begins again, /exit or Ctrl-D leaves.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// What to ask; - reads standard input
    #[arg(short, long, value_name = "T", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Precision of activations in products with quantised weights [default: f32 on the GPU, int8 on the CPU, which is faster]
    #[arg(long, value_enum)]
    activations: Option<ActivationsArg>,
    /// Precision of the KV cache
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    kv: Kv,
    /// Instructions of the developer, which stand above those of the user
    #[arg(long, value_name = "T", value_parser = NonEmptyStringValueParser::new())]
    system: Option<String>,
    /// How much the model should reason
    #[arg(long, value_name = "low|medium|high", value_enum)]
    reasoning: Option<Reasoning>,
    /// The current date that the model is told, as YYYY-MM-DD, or today; none unless given
    #[arg(long, value_name = "DATE", value_parser = date::parse)]
    date: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// At most this many new tokens [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Text that ends the answer where it appears in it, and is not part of it; may be given more than once
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// The prompt is Harmony text with special tokens by name; everything generated is printed as it is, special tokens
    /// included
    #[arg(long, conflicts_with_all = ["system", "reasoning", "date", "show_analysis", "no_harmony"])]
    raw: bool,
    /// Continue the prompt as plain text instead of answering it
    #[arg(long, conflicts_with_all = ["system", "reasoning", "date", "show_analysis"])]
    no_harmony: bool,
    /// Not possible here: an expert that cannot be loaded stops the answer, and is never replaced by another
    #[arg(long)]
    moe_fallback: bool,
    /// Print the model's reasoning too, and name the channels
    #[arg(long)]
    show_analysis: bool,
    /// Say on standard error what the answer took
    #[arg(long)]
    stats: bool,
    /// Print events as lines of JSON instead of text: loading, every token, the end
    #[arg(long)]
    json: bool,
}

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, clap::Args)]
struct SamplingArgs {
    /// 0 always takes the most likely token; up to 2
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Keep the smallest set of tokens whose probabilities reach X
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Keep the N most likely tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: u32,
    /// Keep tokens at least X times as likely as the most likely one
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// The same seed draws the same tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    fn sampling(self) -> Sampling {
        let Self { temperature, top_p, top_k, min_p, seed } = self;
        Sampling { temperature, top_k, top_p, min_p, seed }
    }
}

/// How much the model should reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Reasoning {
    Low,
    Medium,
    High,
}

impl From<Reasoning> for Effort {
    fn from(reasoning: Reasoning) -> Self {
        match reasoning {
            Reasoning::Low => Self::Low,
            Reasoning::Medium => Self::Medium,
            Reasoning::High => Self::High,
        }
    }
}

/// What shapes answers, in a conversation and for one prompt.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub instructions: String,
    pub effort: Effort,
    pub date: Option<String>,
    pub sampling: Sampling,
    pub max_new_tokens: u32,
    pub stop: Vec<String>,
    pub show_analysis: bool,
    pub stats: bool,
}

impl Settings {
    fn prompt(&self, user: String, format: PromptFormat) -> Prompt {
        Prompt {
            user,
            format,
            instructions: self.instructions.clone(),
            effort: self.effort,
            date: self.date.clone(),
            max_new_tokens: self.max_new_tokens,
            sampling: self.sampling,
            stop: self.stop.clone(),
        }
    }
}

/// What is asked for.
enum Request {
    Prompt(Prompt),
    /// Harmony text with special tokens by name.
    Raw(String),
}

/// Runs `pylon infer`.
///
/// # Errors
/// Arguments that cannot be used, a model that cannot be run, output that cannot be written.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let environment = Environment::read()?;
    refuse_fallback(&args, &environment)?;
    sampler(args.sampling.sampling())?;
    let harmony = !args.no_harmony && !args.raw && environment.harmony.unwrap_or(true);
    let settings = Settings {
        instructions: args.system.clone().unwrap_or_default(),
        effort: args.reasoning.map_or_else(Effort::default, Effort::from),
        date: args.date.clone(),
        sampling: args.sampling.sampling(),
        max_new_tokens: args.max_tokens.or(environment.max_tokens).unwrap_or(DEFAULT_MAX_TOKENS),
        stop: args.stop.clone(),
        show_analysis: args.show_analysis,
        stats: args.stats,
    };
    let options = LoadOptions { kv_f32: args.kv == Kv::F32, ..args.limits.load_options(&environment) };
    let load = args.model.request_or_demo(&environment, options)?;
    let load = match args.activations {
        Some(activations) => activations.apply(load)?,
        None => load,
    };
    match prompt_text(&args)? {
        Some(text) => {
            let format = if harmony { PromptFormat::Harmony } else { PromptFormat::Text };
            let request = if args.raw { Request::Raw(text) } else { Request::Prompt(settings.prompt(text, format)) };
            answer(&args, &load, &settings, &request)
        }
        None if args.json || !harmony => Err(missing_prompt("a text: only a Harmony conversation does without")),
        None if std::io::stdin().is_terminal() => converse(&load, &settings),
        None => Err(missing_prompt("a text, or - for standard input; without it a terminal to converse on is needed")),
    }
}

fn missing_prompt(expected: &str) -> CliError {
    CliError::Argument { what: "--prompt".into(), got: "missing".into(), expected: expected.into() }
}

fn refuse_fallback(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let what = match (args.moe_fallback, environment.moe_fallback) {
        (true, _) => "--moe-fallback",
        (false, Some(true)) => "GPT_OSS_GGUF_MOE_FALLBACK",
        (false, _) => return Ok(()),
    };
    Err(CliError::Argument {
        what: what.into(),
        got: "on".into(),
        expected: "off: this engine never puts another expert in the place of one that cannot be loaded, because the \
                   answer would no longer be the model's; it stops and says what is wrong"
            .into(),
    })
}

/// A sampler, or which flag is wrong.
pub(super) fn sampler(sampling: Sampling) -> Result<Sampler, CliError> {
    Sampler::new(sampling).map_err(in_flags)
}

/// `--prompt`, or standard input for `-`.
fn prompt_text(args: &Args) -> Result<Option<String>, CliError> {
    let refuse = |got: String| {
        let expected = "some text in UTF-8".to_owned();
        Err(CliError::Argument { what: "the prompt".into(), got, expected })
    };
    let text = match args.prompt.as_deref() {
        None => return Ok(None),
        Some("-") => {
            match read_text(std::io::stdin()) {
                // `echo` and editors end a text with a line break that nobody means.
                Ok(text) if !args.raw => text.trim_end_matches(['\r', '\n']).to_owned(),
                Ok(text) => text,
                Err(error) => return refuse(format!("unreadable on standard input ({error})")),
            }
        }
        Some(text) => text.to_owned(),
    };
    if text.is_empty() { refuse("empty".into()) } else { Ok(Some(text)) }
}

/// Loads the model and answers once.
fn answer(args: &Args, load: &LoadRequest, settings: &Settings, request: &Request) -> Result<ExitCode, CliError> {
    let interrupts = Interrupts::catch();
    let host = if args.json { ConsoleHost::json(run_id(), &interrupts) } else { ConsoleHost::text(None, &interrupts) };
    let result = pollster::block_on(async {
        let mut engine = backend::open_engine(load, &host).await?;
        respond(&mut engine, settings, request, &host).await
    });
    if let Err(error) = &result
        && !error.is_cancelled()
    {
        host.emit(Event::Failed { stage: error.stage, failure: error.failure() });
    }
    let account = host.account();
    // First of all: an output that nobody reads any more is what stopped the engine.
    host.finish()?;
    result.map_err(|error| in_flags(error.error))?;
    if let Some(note_text) = ended_early(account.finish_reason(), settings.max_new_tokens) {
        note(format_args!("pylon: {note_text}"));
    }
    if settings.stats {
        note(&account);
    }
    if let Some(note_text) = no_answer(account.junk_tokens()) {
        note(format_args!("pylon: {note_text}"));
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(exit::SUCCESS)
}

async fn respond(
    engine: &mut Engine<AnyModel>,
    settings: &Settings,
    request: &Request,
    host: &ConsoleHost,
) -> Result<(), StageError> {
    let text = match request {
        Request::Prompt(prompt) => {
            host.set_transcript(Transcript::new(settings.show_analysis));
            return engine.answer(prompt, host).await.map(drop);
        }
        Request::Raw(text) => text,
    };
    host.set_transcript(Transcript::raw());
    let (tokens, sampler) = in_stage(host, Stage::PromptEncode, async {
        let tokens = engine.tokenizer.encode_with_specials(text);
        let context_tokens = engine.model.kv_capacity();
        host.emit(Event::PromptEncoded { tokens: tokens.len() as u32, context_tokens });
        Ok((tokens, Sampler::new(settings.sampling)?))
    })
    .await?;
    let limits = AnswerLimits {
        max_new_tokens: settings.max_new_tokens,
        stop: settings.stop.clone(),
        reading: Reading::Raw,
        ..AnswerLimits::default()
    };
    engine.answer_tokens(&tokens, sampler, &limits, host).await.map(drop)
}

/// What to say of an answer that the model did not end itself.
pub(super) fn ended_early(reason: Option<FinishReason>, max_new_tokens: u32) -> Option<String> {
    match reason {
        Some(FinishReason::MaxTokens) => {
            Some(format!("the answer was cut after {max_new_tokens} tokens; --max-tokens allows more"))
        }
        Some(FinishReason::ContextFull) => {
            Some("the answer was cut because the KV cache is full; --max-kv makes it larger".to_owned())
        }
        _ => None,
    }
}

/// What to say of an answer that is none: whatever text was made of it is no word of a sound model.
pub(super) fn no_answer(junk_tokens: u32) -> Option<String> {
    (junk_tokens > 0).then(|| {
        format!(
            "this is no answer: {junk_tokens} tokens in a row belong to no message. The file may be damaged; \
             `pylon gguf verify` looks closer"
        )
    })
}

fn converse(load: &LoadRequest, settings: &Settings) -> Result<ExitCode, CliError> {
    let interrupts = Interrupts::catch();
    let host = ConsoleHost::text(None, &interrupts);
    let engine = pollster::block_on(backend::open_engine(load, &host)).map_err(|error| in_flags(error.error))?;
    host.finish()?;
    chat::run(engine, settings, &interrupts)
}

/// Milliseconds since 1970: another one for each run.
fn run_id() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Exit status: 0 answered, 1 failed, 2 could not run (arguments, file, GPU), 130 stopped by Ctrl-C

Examples:
  pylon infer --gguf models/nano/gpt-oss-nano.gguf --prompt \"Add 12 and 30.\"
  pylon infer --gguf gpt-oss-20b-mxfp4.gguf --reasoning high --temperature 1 --prompt - < question.txt
  pylon infer --gguf gpt-oss-20b-mxfp4.gguf";
