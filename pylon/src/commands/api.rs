//! `pylon api`: models behind OpenAI's APIs, computed here or elsewhere.

mod models;
mod server_args;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gptoss_api::{ApiOptions, Engaged, Engine, EngineCard, ServedModel, Upstreams, serve};
use gptoss_gguf::part_paths;
use gptoss_protocol::options::Settings;
use gptoss_protocol::{Command, DeviceOptions, Event, LoadOptions, LoadSettings, ModelInfo, ModelLocation, OptionId};
use serve_kit::Signals;
use serve_kit::config::{ConfigArgument, Rules};
use serve_kit::limits::Limits;
use serve_kit::server::{BindFault, Stopped, address_of, listen};
use serve_kit::tls::TlsAcceptor;
use tokio::net::TcpListener;

use crate::backend::{self, BackendChoice, LoadRequest};
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::gguf_file::GgufFile;
use crate::native_node::NativePlatform;
use crate::option_args::{Group, OptionArgs};
use crate::output::note;
use crate::shortage::shortages;
use crate::upstream::{self, Known, UpstreamArgs};

use models::{Chosen, ModelsArgs, Shape, cards};
use server_args::ServerArgs;

/// Serve models over OpenAI's APIs and Anthropic's: /v1/chat/completions, /v1/responses, /v1/messages
///
/// It listens on this machine only, unless --bind says otherwise. Each request is a line on standard output. Ctrl-C or SIGTERM
/// ends it: answers that are under way have --grace-seconds, a second one ends it at once.
///
/// With several models the field `model` of a request chooses one, and the first is meant where it says none. They are loaded one
/// after the other, and compute side by side.
///
/// With --engine upstream other servers compute: prompts go to them as token ids, and what comes back is read as a local answer
/// is. Of the GGUF file only the header is read, for its vocabulary, which has to be that of the model there.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(flatten)]
    models: ModelsArgs,
    /// What computes: this machine's GPU or CPU, as --backend has it, or the servers that --upstream names
    #[arg(long, value_enum, value_name = "ENGINE", conflicts_with = "backend")]
    engine: Option<EngineChoice>,
    #[command(flatten)]
    upstreams: UpstreamArgs,
    /// Time without a byte from an upstream, before its first token and between tokens, after which it has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86400))]
    upstream_stall_seconds: u64,
    #[command(flatten)]
    options: OptionArgs<ApiGroup>,
    /// Answers of a model at the same time; further requests wait for their turn
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    sequences: u32,
    /// Requests that are answered or wait, of all models together; further ones are told to come again
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_requests: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    config: ConfigArgument,
    /// Stay in the foreground, as it always does: for `pylon start -f`
    #[arg(short = 'f', long)]
    foreground: bool,
}

/// How its options stand in a file.
pub const CONFIG: Rules<'static> =
    Rules { subcommand: Some("api"), not_in_file: &["foreground"], is_set_elsewhere: environment::is_set };

/// What of the model runs.
#[derive(Clone, Debug)]
struct ApiGroup;

impl Group for ApiGroup {
    const OPTIONS: &'static [OptionId] = &[
        OptionId::Layers,
        OptionId::MaxKvTokens,
        OptionId::ExpertMemory,
        OptionId::GpuMemory,
        OptionId::KvFormat,
        OptionId::Tier,
    ];

    fn default_words(option: OptionId) -> &'static str {
        match option {
            OptionId::KvFormat => "f16",
            other => other.row().default.pylon,
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EngineChoice {
    /// The GPU, also a software one
    Gpu,
    /// The CPU: threads and vector instructions, no GPU needed
    Cpu,
    /// Servers elsewhere
    Upstream,
}

/// What serves, once its address is taken and before anything is loaded.
struct Host {
    listeners: Vec<TcpListener>,
    encrypt: Option<TlsAcceptor>,
    limits: Limits,
    signals: Signals,
}

/// Runs `pylon api`.
///
/// # Errors
/// Arguments that cannot be used, a model that cannot be run, an address that is taken.
pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    let environment = Environment::read()?;
    for variable in environment::without_effect(&VARIABLES) {
        note(format_args!("pylon: {variable} has no effect on pylon api"));
    }
    let is_elsewhere = args.is_elsewhere()?;
    let mut settings = environment.settings();
    args.options.apply(&mut settings)?;
    let Settings { load, .. } = settings;
    let mut chosen = args.models.choose(&environment, &load.engine)?;
    for Chosen { request, .. } in &mut chosen {
        match args.engine {
            Some(EngineChoice::Gpu) => request.backend = BackendChoice::Gpu,
            Some(EngineChoice::Cpu) => request.backend = BackendChoice::Cpu,
            Some(EngineChoice::Upstream) | None => {}
        }
        (request.gpu, request.sequences) = (load.gpu.clone(), args.sequences);
        backend::open_source(&part_paths(&request.path)[0])?;
    }
    args.server.rules()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(CliError::Runtime)?;
    runtime
        .block_on(async { if is_elsewhere { run_elsewhere(args, chosen).await } else { run_here(args, chosen).await } })
}

impl Args {
    /// Whether other servers compute.
    ///
    /// # Errors
    /// There are none, one twice, or some that nobody is to ask.
    fn is_elsewhere(&self) -> Result<bool, CliError> {
        let refused = |what: &str, got: &str, expected: &str| CliError::Argument {
            what: what.into(),
            got: got.into(),
            expected: expected.into(),
        };
        if let Some(twice) = self.upstreams.twice() {
            return Err(refused("--upstream", &format!("{twice}, twice"), "each server once"));
        }
        match (self.engine, self.upstreams.upstream.is_empty()) {
            (Some(EngineChoice::Upstream), true) => Err(refused(
                "--upstream",
                "missing",
                "the address of a server for --engine upstream, as http://127.0.0.1:8000",
            )),
            (Some(EngineChoice::Upstream), false) => Ok(true),
            (_, false) => Err(refused("--upstream", "given", "beside it --engine upstream")),
            (_, true) => Ok(false),
        }
    }

    /// Takes the address first: whoever has it taken is told before minutes of loading.
    async fn host(&self) -> Result<Host, CliError> {
        let bind = self.server.bind;
        let encrypt = self.server.encrypt()?;
        let signals = Signals::new().map_err(CliError::Runtime)?;
        let listeners = listen(Some(bind.ip()), bind.port()).await.map_err(bind_failed)?;
        Ok(Host { listeners, encrypt, limits: self.server.limits(), signals })
    }
}

fn bind_failed(fault: BindFault) -> CliError {
    CliError::Server { address: fault.address.to_string(), source: fault.source }
}

/// Serves models that this machine computes.
async fn run_here(args: &Args, chosen: Vec<Chosen>) -> Result<ExitCode, CliError> {
    for Chosen { request, .. } in &chosen {
        // All parts of a split model are needed.
        backend::open_source(&request.path)?;
    }
    let mut host = args.host().await?;
    let is_one = chosen.len() == 1;
    let (mut engines, mut all) = (Vec::new(), Vec::new());
    for Chosen { id, request, .. } in &chosen {
        if !is_one {
            note(format_args!("pylon: loading {id} from {}", request.path.display()));
        }
        let engine = Engine::start(|| NativePlatform::new(|| false).with_grammars().with_kv_blocks(), |_| {});
        let engine = engine.map_err(CliError::Runtime)?;
        let loaded = tokio::select! {
            loaded = load_model(&engine, request) => loaded,
            () = host.signals.next() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        };
        all.push(if is_one { loaded? } else { loaded.map_err(|error| error.with_file(&request.path))? });
        engines.push(engine);
    }
    let known: Vec<_> =
        all.iter().map(|Loaded { info, context_tokens, .. }| (shape_of(info), *context_tokens)).collect();
    let cards = cards(chosen, &known);
    let served = cards.into_iter().zip(engines).zip(&all).map(|((card, engine), loaded)| ServedModel {
        card,
        engine_card: loaded.engine.clone(),
        vocabulary: loaded.info.vocabulary,
        engine,
    });
    serve_until_told(args, host, served.collect(), None).await
}

fn shape_of(info: &ModelInfo) -> Shape<'_> {
    Shape { architecture: &info.architecture, layers: info.layers, experts: info.experts }
}

/// Serves a model that other servers compute. Of its file the header is read.
async fn run_elsewhere(args: &Args, chosen: Vec<Chosen>) -> Result<ExitCode, CliError> {
    let [Chosen { request, .. }] = &chosen[..] else {
        return Err(CliError::Argument {
            what: "--gguf".into(),
            got: format!("given for {} models", chosen.len()),
            expected: "one model with --engine upstream: start another pylon for another one".into(),
        });
    };
    let mut host = args.host().await?;
    let path = &part_paths(&request.path)[0];
    // The first part of a split model has all of this; the others need not be there.
    let known = Known::of(&GgufFile::open(path)?)?;
    note(format_args!("pylon: the vocabulary is that of {}, whose weights are not read", path.display()));
    let unused = LoadOptions { max_kv_tokens: request.load.max_kv_tokens, ..Settings::pylon().load.engine };
    if request.load != unused || request.gpu != DeviceOptions::default() {
        note("pylon: of the options of a model only --max-kv has an effect with --engine upstream");
    }
    let context_tokens = request.load.max_kv_tokens.unwrap_or(u32::MAX).min(known.context_tokens);
    let silence = Duration::from_secs(args.upstream_stall_seconds);
    let Known { tokenizer, architecture, layers, experts, .. } = known;
    let vocabulary = tokenizer.vocab_size() as u32;
    let opened = tokio::select! {
        opened = upstream::open(&args.upstreams, silence, (tokenizer, context_tokens)) => opened?,
        () = host.signals.next() => return Ok(ExitCode::from(exit::INTERRUPTED)),
    };
    let (elsewhere, upstreams) = opened;
    let shape = Shape { architecture: &architecture, layers, experts };
    let device = format!("upstream: {}", args.upstreams);
    let engine_card = EngineCard { device, kv_bytes: 0, gpu_bytes: None };
    let served = cards(chosen, &[(shape, context_tokens)]).into_iter().map(|card| ServedModel {
        card,
        engine_card: engine_card.clone(),
        vocabulary,
        engine: Engine::<()>::remote(Arc::clone(&elsewhere)),
    });
    serve_until_told(args, host, served.collect(), Some(upstreams)).await
}

async fn serve_until_told<A: Engaged>(
    args: &Args,
    host: Host,
    models: Vec<ServedModel<A>>,
    upstreams: Option<Upstreams>,
) -> Result<ExitCode, CliError> {
    let Host { listeners, encrypt, limits, mut signals } = host;
    let address = address_of(&listeners[0]).map_err(bind_failed)?;
    let scheme = if encrypt.is_some() { "https" } else { "http" };
    let ids: Vec<&str> = models.iter().map(|model| model.card.id.as_str()).collect();
    note(format_args!("pylon: {} at {scheme}://{address}/v1 (Ctrl-C ends it)", ids.join(", ")));
    let lines = args.server.request_log();
    let options = ApiOptions {
        upstreams,
        rules: args.server.rules()?,
        most_requests: args.max_requests as usize,
        log: Some(lines.log()),
    };
    let running = serve(listeners, encrypt, limits, models, options);
    signals.next().await;
    let seconds = limits.drain.as_secs();
    note(format_args!("pylon: ending; answers that are under way have {seconds} s (once more ends it at once)"));
    let code = tokio::select! {
        stopped = running.shutdown() => {
            if stopped != Stopped::Drained {
                note("pylon: some answers took longer and were stopped");
            }
            exit::SUCCESS
        }
        () = signals.next() => ExitCode::from(exit::INTERRUPTED),
    };
    lines.flush();
    Ok(code)
}

/// What is known of a model that is loaded.
struct Loaded {
    info: ModelInfo,
    /// Tokens that a sequence has room for.
    context_tokens: u32,
    engine: EngineCard,
}

/// Loads the model.
async fn load_model(engine: &Engine<Option<LoadRequest>>, request: &LoadRequest) -> Result<Loaded, CliError> {
    let options = LoadSettings { engine: request.load.clone(), gpu: request.gpu.clone(), ..LoadSettings::default() };
    let model = ModelLocation::PickedFile { name: request.path.display().to_string() };
    let command = Command::Load { model, options, prompt: None, remembered: Vec::new() };
    let mut loading = engine.begin(command, Some(request.clone()));
    let (mut info, mut context_tokens) = (None, 0);
    let mut card = EngineCard { device: "CPU".into(), kv_bytes: 0, gpu_bytes: None };
    while let Some(event) = loading.next().await {
        match event {
            Event::Model(model) => info = Some(model),
            Event::Adapter(adapter) => {
                card.device = format!("GPU: {} ({})", adapter.name_or_backend(), adapter.backend)
            }
            Event::Plan(plan) => {
                shortages(&plan).iter().for_each(|line| note(format_args!("pylon: {line}")));
                card.gpu_bytes = Some(plan.gpu_total_bytes);
            }
            Event::Kv { capacity_tokens, bytes, .. } => (context_tokens, card.kv_bytes) = (capacity_tokens, bytes),
            Event::Failed { failure, .. } => return Err(failure.into()),
            _ => {}
        }
    }
    info.map(|info| Loaded { info, context_tokens, engine: card }).ok_or_else(|| CliError::Argument {
        what: "the model".into(),
        got: "no word from the engine".into(),
        expected: "a model that is loaded".into(),
    })
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::help_of(&VARIABLES))
}

/// Flags that variables stand for, too.
const VARIABLES: [&str; 5] = ["gguf", "model", "max-kv", "layers", "threads"];

const EXAMPLES: &str = "\
Examples:
  pylon api
  pylon api --gguf gpt-oss-20b-mxfp4.gguf --alias default --sequences 8
  pylon api --gguf gpt-oss-20b-mxfp4.gguf --gguf other.gguf --alias fast=gpt-oss-20b-mxfp4 --alias slow=other
  pylon api --config /etc/pylon/api.toml
  pylon api --engine upstream --upstream http://10.0.0.2:8000 --upstream http://10.0.0.3:8000 --gguf gpt-oss-120b.gguf
  pylon api --tls --bind 0.0.0.0:9899 --allow-host models.lan --api-key SECRET
  curl http://127.0.0.1:9899/v1/models";
