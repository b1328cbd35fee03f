//! `pylon infer`: an answer to a prompt, or a conversation.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Arg;
use gptoss_model::Sampler;
use gptoss_protocol::options::Settings;
use gptoss_protocol::{FinishReason, OptionId, Prompt, PromptFormat, Sampling};

use crate::backend::{BackendChoice, LoadRequest};
use crate::commands::chat;
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::host::{ConsoleHost, Form};
use crate::interrupt::Interrupts;
use crate::model_args::{ActivationsArg, ModelArgs};
use crate::native_node::NativeNode;
use crate::option_args::{Group, OptionArgs};
use crate::output::note;
use crate::routes::TraceFile;
use crate::text_input::read_text;
use crate::transcript::Transcript;

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
    options: OptionArgs<InferGroup>,
    /// Precision of activations in products with quantised weights [default: f32 on the GPU, int8 on the CPU, which is faster]
    #[arg(long, value_enum)]
    activations: Option<ActivationsArg>,
    /// The prompt is Harmony text with special tokens by name; everything generated is printed as it is, special tokens
    /// included
    #[arg(long, conflicts_with_all = ["system", "reasoning", "date", "show_analysis", "no-harmony"])]
    raw: bool,
    /// Not possible here: an expert that cannot be loaded stops the answer, and is never replaced by another
    #[arg(long)]
    moe_fallback: bool,
    /// Print the model's reasoning too, and name the channels
    #[arg(long)]
    show_analysis: bool,
    /// Say on standard error what the answer took
    #[arg(long)]
    stats: bool,
    /// Append the experts that every token chose to this file, for `pylon bench --replay-trace`; on the CPU
    #[arg(long, value_name = "FILE")]
    record_routes: Option<PathBuf>,
    /// Print events as lines of JSON instead of text: loading, every token, the end
    #[arg(long)]
    json: bool,
}

/// What of the model runs, what it is asked and how it answers.
#[derive(Clone, Debug)]
struct InferGroup;

impl Group for InferGroup {
    const OPTIONS: &'static [OptionId] = &[
        OptionId::Layers,
        OptionId::MaxKvTokens,
        OptionId::ExpertMemory,
        OptionId::GpuMemory,
        OptionId::KvFormat,
        OptionId::Tier,
        OptionId::Prompt,
        OptionId::PromptFormat,
        OptionId::Instructions,
        OptionId::Effort,
        OptionId::Date,
        OptionId::Temperature,
        OptionId::TopP,
        OptionId::TopK,
        OptionId::MinP,
        OptionId::Seed,
        OptionId::MaxNewTokens,
        OptionId::Stop,
    ];

    fn default_words(option: OptionId) -> &'static str {
        match option {
            OptionId::KvFormat => "f16",
            other => other.row().default.pylon,
        }
    }

    fn refine(option: OptionId, arg: Arg) -> Arg {
        match option {
            OptionId::Prompt => arg.short('p').allow_hyphen_values(true),
            OptionId::Stop => arg.allow_hyphen_values(true),
            // Only a conversation has these.
            OptionId::PromptFormat => arg.conflicts_with_all(["system", "reasoning", "date", "show_analysis"]),
            _ => arg,
        }
    }
}

/// What shapes answers, in a conversation and for one prompt.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    /// With everything but the user's text.
    pub prompt: Prompt,
    pub show_analysis: bool,
    pub stats: bool,
}

/// Runs `pylon infer`.
///
/// # Errors
/// Arguments that cannot be used, a model that cannot be run, output that cannot be written.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let environment = Environment::read()?;
    refuse_fallback(&args, &environment)?;
    let mut settings = environment.settings();
    args.options.apply(&mut settings)?;
    let Settings { load, mut prompt, .. } = settings;
    sampler(prompt.sampling)?;
    let is_conversation = prompt.format == PromptFormat::Harmony && !args.raw;
    let given = std::mem::take(&mut prompt.user);
    let answering = Answering { prompt, show_analysis: args.show_analysis, stats: args.stats };
    let load = LoadRequest { gpu: load.gpu, ..args.model.request_or_demo(&environment, load.engine)? };
    let load = match args.activations {
        Some(activations) => activations.apply(load)?,
        None => load,
    };
    let load = match args.record_routes {
        Some(_) => on_cpu(load)?,
        None => load,
    };
    let format = if args.raw { PromptFormat::Raw } else { answering.prompt.format };
    match prompt_text(given, args.raw)? {
        Some(user) => answer(&args, &load, &answering, Prompt { user, format, ..answering.prompt.clone() }),
        None if args.record_routes.is_some() => Err(missing_prompt("a text: routes are recorded of one answer")),
        None if args.json || !is_conversation => {
            Err(missing_prompt("a text: only a Harmony conversation does without"))
        }
        None if std::io::stdin().is_terminal() => chat::run(&load, &answering),
        None => Err(missing_prompt("a text, or - for standard input; without it a terminal to converse on is needed")),
    }
}

/// Where routes can be recorded.
fn on_cpu(load: LoadRequest) -> Result<LoadRequest, CliError> {
    if load.backend == BackendChoice::Gpu {
        return Err(CliError::Argument {
            what: "--backend".into(),
            got: "gpu".into(),
            expected: "cpu with --record-routes: the same experts are chosen there".into(),
        });
    }
    Ok(LoadRequest { backend: BackendChoice::Cpu, ..load })
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
    Ok(Sampler::new(sampling)?)
}

/// The text of `--prompt`, or standard input for `-`; `None` where there was no such flag.
fn prompt_text(given: String, raw: bool) -> Result<Option<String>, CliError> {
    let refuse = |got: String| {
        let expected = "some text in UTF-8".to_owned();
        Err(CliError::Argument { what: "the prompt".into(), got, expected })
    };
    if given != "-" {
        // An empty one is refused with the arguments.
        return Ok(Some(given).filter(|text| !text.is_empty()));
    }
    let text = match read_text(std::io::stdin()) {
        // `echo` and editors end a text with a line break that nobody means.
        Ok(text) if !raw => text.trim_end_matches(['\r', '\n']).to_owned(),
        Ok(text) => text,
        Err(error) => return refuse(format!("unreadable on standard input ({error})")),
    };
    if text.is_empty() { refuse("empty".into()) } else { Ok(Some(text)) }
}

/// Loads the model and answers once.
fn answer(args: &Args, load: &LoadRequest, answering: &Answering, prompt: Prompt) -> Result<ExitCode, CliError> {
    let interrupts = Interrupts::catch();
    let form = if args.json { Form::Json } else { Form::Text };
    let transcript = if args.raw { Transcript::raw() } else { Transcript::new(answering.show_analysis) };
    let console = ConsoleHost::new(form, Some(transcript), &interrupts);
    let node = NativeNode::new(console);
    let result = load_and_ask(&node, args, load, prompt);
    let console = node.watch_with(ConsoleHost::text(None, &interrupts));
    let account = console.account();
    // First of all: an output that nobody reads any more is what stopped the engine.
    console.finish()?;
    if let Some(mut trace) = result? {
        trace.append(&node.with_engine(|engine| engine.model.take_routes()).unwrap_or_default())?;
    }
    if let Some(note_text) = ended_early(account.finish_reason(), answering.prompt.max_new_tokens) {
        note(format_args!("pylon: {note_text}"));
    }
    if answering.stats {
        note(&account);
    }
    if let Some(note_text) = no_answer(account.junk_tokens()) {
        note(format_args!("pylon: {note_text}"));
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(exit::SUCCESS)
}

/// Gives the file that routes go to, if they are recorded.
fn load_and_ask(
    node: &NativeNode,
    args: &Args,
    load: &LoadRequest,
    prompt: Prompt,
) -> Result<Option<TraceFile>, CliError> {
    node.load(load)?;
    let header = args.record_routes.as_ref().and_then(|path| {
        let header = node.with_engine(|engine| engine.model.record_routes()).flatten()?;
        Some((path, header))
    });
    // A file that cannot be used is said before an answer is waited for.
    let trace = header.map(|(path, header)| TraceFile::open(path, &header)).transpose()?;
    node.ask(prompt)?;
    Ok(trace)
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

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Exit status: 0 answered, 1 failed, 2 could not run (arguments, file, GPU), 130 stopped by Ctrl-C

Examples:
  pylon infer --gguf models/nano/gpt-oss-nano.gguf --prompt \"Add 12 and 30.\"
  pylon infer --gguf gpt-oss-20b-mxfp4.gguf --reasoning high --temperature 1 --prompt - < question.txt
  pylon infer --gguf gpt-oss-20b-mxfp4.gguf";
