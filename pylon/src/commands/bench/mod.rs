//! `pylon bench`: how fast a model runs here.

mod bandwidth;
mod gpu;
mod llama_bench;
mod measure;
mod products;
mod report;
mod routes;
mod watched;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gptoss_cpu::{Isa, UnknownIsa};
use gptoss_model::{BLOCK_TOKENS, Backend, EngineError, Host, Quiet, read_header};
use gptoss_protocol::{LoadOptions, OptionId};
use serde::Serialize;

use crate::backend::{self, AnyModel, BackendChoice, LoadRequest};
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::host::ConsoleHost;
use crate::interrupt::Interrupts;
use crate::machine::{self, Machine};
use crate::model_args::ModelArgs;
use crate::option_args::{Group, OptionArgs};
use crate::output::{Output, note};
use bandwidth::Memory;
use measure::{Bench, Sample};
use products::Products;
use report::{Comparison, Pair, Report, SideBySide};
use routes::Replays;

/// Measure how fast a model runs here
///
/// The prompt is made of arbitrary tokens, and generation never ends early. Measured are the first run (cold), those
/// after it (warm), and the same prompt again with its KV cache (prefix hit).
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    new_tokens: u32,
    /// Warm runs, and rounds of a comparison
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    #[command(flatten)]
    options: OptionArgs<BenchGroup>,
    /// Compute on the CPU with this instruction set instead of the best; `pylon doctor` lists those of this processor
    #[arg(long, value_name = "NAME", value_parser = available_isa)]
    isa: Option<Isa>,
    /// Take turns with this program, found on the PATH, on the same file with as many threads on the CPU
    #[arg(long, value_name = "PROGRAM", value_parser = [llama_bench::PROGRAM])]
    compare: Option<String>,
    /// Decode in so many sequences at once, too, as a server with so many users does; several numbers with commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    sequences: Vec<u32>,
    /// Take turns with the same work while somebody looks inside, as the page does: how much slower that is
    #[arg(long)]
    watch: bool,
    /// Run no model, but routes that `pylon infer --record-routes` wrote: how many experts an answer's token would
    /// read, and how often it would wait, by slots of each layer and by who goes where none is free
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "sequences", "watch", "isa", "gguf", "model"])]
    replay_trace: Option<PathBuf>,
    /// Run no model, but one product of a matrix and a vector for each quantised type of the file, on the CPU: from
    /// blocks as they are, and by way of weights that are decoded to memory first
    #[arg(long, conflicts_with_all = ["compare", "sequences", "watch", "replay_trace"])]
    products: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// The options of what is measured.
#[derive(Clone, Debug)]
struct BenchGroup;

impl Group for BenchGroup {
    const OPTIONS: &'static [OptionId] =
        &[OptionId::Layers, OptionId::Tier, OptionId::ExpertMemory, OptionId::GpuMemory, OptionId::ExpertLoading];
}

/// Runs `pylon bench`.
///
/// # Errors
/// The model cannot be run, or what it is to be compared with cannot.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    if let Some(trace) = &args.replay_trace {
        return print(&args, &Replays::of(trace)?);
    }
    let environment = Environment::read()?;
    let request = request(&args, &environment)?;
    if args.products {
        warn_of_development_builds();
        return print(&args, &Products::of(&request, args.repeat)?);
    }
    // A missing program is reported before minutes are spent.
    let rival = args.compare.as_ref().map(|_| llama_bench::locate()).transpose()?;
    let interrupts = Interrupts::catch();
    let host = ConsoleHost::text(None, &interrupts);
    let result = pollster::block_on(measure_all(&args, &request, rival.as_deref(), &host));
    host.finish()?;
    print(&args, &result?)
}

fn print(args: &Args, report: &(impl Serialize + Display)) -> Result<ExitCode, CliError> {
    let mut output = Output::new();
    if args.json {
        output.json(report)?;
    } else {
        output.text(report)?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

fn request(args: &Args, environment: &Environment) -> Result<LoadRequest, CliError> {
    let mut settings = environment.settings();
    args.options.apply(&mut settings)?;
    let sequences = args.sequences.iter().copied().max().unwrap_or(1);
    // Sequences share the cache by whole blocks.
    let in_blocks = args.new_tokens.next_multiple_of(BLOCK_TOKENS).saturating_mul(sequences);
    let max_kv_tokens = Some(args.prompt_tokens.saturating_add(args.new_tokens).max(in_blocks));
    let load = LoadOptions { max_kv_tokens, ..settings.load.engine };
    let mut request =
        LoadRequest { gpu: settings.load.gpu, sequences, ..args.model.request_or_demo(environment, load)? };
    request.isa = args.isa;
    let needs_cpu = match (&args.compare, args.products, args.isa) {
        (Some(_), ..) => Some("cpu with --compare: the comparison is one of CPU engines"),
        (None, true, _) => Some("cpu with --products: no kernel of the GPU writes decoded weights to memory"),
        (None, false, Some(_)) => Some("cpu with --isa: instruction sets are of the CPU backend"),
        (None, false, None) => None,
    };
    request.backend = match (request.backend, needs_cpu) {
        (BackendChoice::Gpu, Some(expected)) => {
            let (what, got) = ("--backend".into(), "gpu".into());
            return Err(CliError::Argument { what, got, expected: expected.into() });
        }
        (_, Some(_)) => BackendChoice::Cpu,
        (backend, None) => backend,
    };
    Ok(request)
}

fn warn_of_development_builds() {
    if cfg!(debug_assertions) {
        note("pylon: this is a development build; measure with `cargo build --release -p pylon`");
    }
}

/// Reads the name of an instruction set that this processor has.
fn available_isa(name: &str) -> Result<Isa, String> {
    let isa: Isa = name.parse().map_err(|error: UnknownIsa| error.to_string())?;
    if isa.is_available() {
        return Ok(isa);
    }
    let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    Err(format!("this processor does not have it: choose one of {}", names.join(", ")))
}

async fn measure_all(
    args: &Args,
    request: &LoadRequest,
    rival: Option<&Path>,
    host: &ConsoleHost,
) -> Result<Report, CliError> {
    let mut opened = backend::open(request, host).await?;
    opened.announce(request);
    warn_of_development_builds();
    let on_cpu = !opened.model.is_on_gpu();
    let threads = request.threads.unwrap_or_else(machine::threads);
    let open_ms = host.account().load_ms().unwrap_or_default();
    let bench = Bench::new(opened.model.config().vocabulary, args.prompt_tokens, args.new_tokens);

    let cold = bench.run(&mut opened.model, host).await?;
    let before = opened.model.cache_counters();
    let mut warm = Vec::new();
    for _ in 0..args.repeat {
        warm.push(bench.run(&mut opened.model, host).await?);
    }
    let experts = gpu::experts(&mut opened.model, before);
    let prefix_hit = bench.prefix_hit(&mut opened.model, host).await?;
    let operations = gpu::operations(&bench, &mut opened.model, host).await?;
    let sequences = side_by_side(args, &bench, &mut opened.model, host).await?;
    let watched = match args.watch {
        true => Some(watched::measure(&bench, args.repeat, &mut opened.model, host).await?),
        false => None,
    };
    let compare = match rival {
        Some(rival) => Some(compare(args, request, rival, threads, &bench, &mut opened.model, host).await?),
        None => None,
    };

    let source = backend::open_source(&request.path)?;
    let header = read_header(source.as_ref(), &Quiet).await?;
    let layers = request.load.layers.unwrap_or(header.config.layers) as usize;
    let weight_bytes = bandwidth::weight_bytes_per_token(&header.config, &header.inventory, layers);
    let warm = Sample::together(&warm);
    let weight_bytes_per_second = weight_bytes as f64 * warm.decode_tokens_per_second;
    let (memory, memory_share) = match opened.model.on_gpu() {
        Some(model) => {
            let memory = gpu::copy_bytes_per_second(model.gpu()).await?;
            (memory, memory.map(|memory| weight_bytes_per_second / memory))
        }
        None => memory_and_share(&bench, threads, weight_bytes, &mut opened.model, host).await?,
    };
    Ok(Report {
        model: header.config.name.clone(),
        file: request.path.display().to_string(),
        file_bytes: source.len_bytes(),
        backend: opened.model.description(),
        threads: on_cpu.then_some(threads),
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        repeat: args.repeat,
        open_ms,
        cold: Sample::together(&[cold]),
        warm,
        prefix_hit,
        weight_bytes_per_token: weight_bytes,
        weight_bytes_per_second,
        memory_bytes_per_second: memory,
        memory_share,
        experts,
        operations,
        sequences,
        watched,
        compare,
    })
}

/// What main memory delivers, and the share of it that decoding gets: medians of their turns.
async fn memory_and_share(
    bench: &Bench,
    threads: usize,
    weight_bytes: u64,
    model: &mut AnyModel,
    host: &ConsoleHost,
) -> Result<(Option<f64>, Option<f64>), CliError> {
    let memory = Machine::look().memory.and_then(|memory| Memory::for_threads(threads, memory.available_bytes));
    let Some(memory) = memory else { return Ok((None, None)) };
    let turns = bench.beside_memory(&memory, model, host).await?;
    let delivered: Vec<f64> = turns.iter().map(|&(_, delivered)| delivered).collect();
    let shares: Vec<f64> = turns.iter().map(|&(rate, delivered)| rate * weight_bytes as f64 / delivered).collect();
    Ok((Some(measure::median_of(&delivered)), Some(measure::median_of(&shares))))
}

/// Decodes in several sequences at once, for every number of them that was asked for.
async fn side_by_side(
    args: &Args,
    bench: &Bench,
    model: &mut AnyModel,
    host: &ConsoleHost,
) -> Result<Vec<SideBySide>, CliError> {
    let mut measured = Vec::new();
    for &sequences in &args.sequences {
        let mut rates = Vec::new();
        for _ in 0..args.repeat {
            rates.push(bench.side_by_side(sequences, model, host).await?);
        }
        measured.push(SideBySide { sequences, tokens_per_second: measure::median_of(&rates) });
    }
    Ok(measured)
}

/// Runs both in turn, so that a machine that gets slower or faster meanwhile does so for both.
async fn compare(
    args: &Args,
    request: &LoadRequest,
    rival: &Path,
    threads: usize,
    bench: &Bench,
    model: &mut AnyModel,
    host: &ConsoleHost,
) -> Result<Comparison, CliError> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=args.repeat {
        note(format_args!("pylon: round {round} of {} against {}", args.repeat, llama_bench::PROGRAM));
        ours.push(bench.rates_from_empty(model, host).await?);
        let measured = llama_bench::run(rival, &request.path, args.prompt_tokens, args.new_tokens, threads);
        // Ctrl-C reaches both programs, so that the other one's death is no failure.
        if host.cancelled() {
            return Err(EngineError::Cancelled.into());
        }
        theirs.push(measured?);
    }
    let build = theirs.first().map_or_else(String::new, |measured| measured.build.clone());
    let pair = |ours: Vec<f64>, theirs: Vec<f64>| Pair::new(measure::median_of(&ours), measure::median_of(&theirs));
    Ok(Comparison {
        program: llama_bench::PROGRAM,
        build,
        rounds: args.repeat,
        threads,
        prefill: pair(
            ours.iter().map(|rates| rates.prefill).collect(),
            theirs.iter().map(|measured| measured.prefill_tokens_per_second).collect(),
        ),
        decode: pair(
            ours.iter().map(|rates| rates.decode).collect(),
            theirs.iter().map(|measured| measured.decode_tokens_per_second).collect(),
        ),
    })
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Exit status: 0 measured, 1 failed, 2 could not run (arguments, file, GPU, llama-bench), 130 stopped

Examples:
  pylon bench --gguf models/nano/gpt-oss-nano.gguf --backend cpu --prompt-tokens 128
  pylon bench --gguf gpt-oss-20b-mxfp4.gguf --compare llama-bench --json > bench.json
  pylon bench --isa avx2-fma --threads 1
  pylon bench --gguf gpt-oss-20b-mxfp4.gguf --products
  pylon bench --replay-trace models/nano/routes.jsonl";
