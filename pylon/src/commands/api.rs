//! `pylon api`: the model behind OpenAI's APIs.

mod server_args;

use std::path::Path;
use std::process::ExitCode;

use gptoss_api::{ApiOptions, Engine, EngineCard, ModelCard, serve};
use gptoss_protocol::options::Settings;
use gptoss_protocol::{Command, Event, LoadSettings, ModelInfo, ModelLocation, OptionId};
use serve_kit::Signals;
use serve_kit::server::{BindFault, Stopped, address_of, listen};

use crate::backend::{self, LoadRequest};
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::model_args::ModelArgs;
use crate::native_node::NativePlatform;
use crate::option_args::{Group, OptionArgs};
use crate::output::note;
use crate::shortage::shortages;

use server_args::ServerArgs;

/// Serve the model over OpenAI's APIs: /v1/chat/completions, /v1/completions, /v1/responses
///
/// It listens on this machine only, unless --bind says otherwise. Each request is a line on standard output. Ctrl-C or SIGTERM
/// ends it: answers that are under way have --grace-seconds, a second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    options: OptionArgs<ApiGroup>,
    /// Another name of the model, beside its id; may be repeated
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Answers at the same time; further requests wait for their turn
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    sequences: u32,
    /// Requests that are answered or wait; further ones are told to come again
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_requests: u32,
    #[command(flatten)]
    server: ServerArgs,
}

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

/// Runs `pylon api`.
///
/// # Errors
/// Arguments that cannot be used, a model that cannot be run, an address that is taken.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let environment = Environment::read()?;
    let mut settings = environment.settings();
    args.options.apply(&mut settings)?;
    let Settings { load, .. } = settings;
    let request = LoadRequest {
        gpu: load.gpu,
        sequences: args.sequences,
        ..args.model.request_or_demo(&environment, load.engine)?
    };
    backend::open_source(&request.path)?;
    let rules = args.server.rules()?;
    let encrypt = args.server.encrypt()?;
    let limits = args.server.limits();
    let bind = args.server.bind;
    let failed = |source| CliError::Server { address: bind.to_string(), source };
    let bind_failed = |fault: BindFault| CliError::Server { address: fault.address.to_string(), source: fault.source };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(failed)?;
        // The address first: whoever has it taken is told before minutes of loading.
        let listeners = listen(Some(bind.ip()), bind.port()).await.map_err(bind_failed)?;
        let address = address_of(&listeners[0]).map_err(bind_failed)?;
        let engine = Engine::start(|| NativePlatform::new(|| false).with_grammars(), |_| {}).map_err(failed)?;
        let loaded = tokio::select! {
            loaded = load_model(&engine, &request) => loaded?,
            () = signals.next() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        };
        let model = card(&args, &environment, &request.path, &loaded.info, loaded.context_tokens);
        let scheme = if encrypt.is_some() { "https" } else { "http" };
        note(format_args!("pylon: {} at {scheme}://{address}/v1 (Ctrl-C ends it)", model.id));
        let lines = args.server.request_log();
        let options = ApiOptions {
            model,
            engine: loaded.engine,
            rules,
            most_requests: args.max_requests as usize,
            log: Some(lines.log()),
        };
        let running = serve(listeners, encrypt, limits, engine, options);
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
    })
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

/// The model as clients know it.
fn card(args: &Args, environment: &Environment, path: &Path, info: &ModelInfo, context_tokens: u32) -> ModelCard {
    let id = id_of(args, environment, path);
    let usual = match (info.architecture.as_str(), info.layers, info.experts) {
        ("gpt-oss", 24, 32) => Some("gpt-oss-20b"),
        ("gpt-oss", 36, 128) => Some("gpt-oss-120b"),
        _ => None,
    };
    let aliases = args.alias.iter().cloned().chain(usual.map(str::to_owned)).collect();
    ModelCard { id, aliases, context_tokens }
}

/// What the model is called: as the environment or `--model` does, or the file's name without its ending.
fn id_of(args: &Args, environment: &Environment, path: &Path) -> String {
    let named = args.model.model.clone().or_else(|| environment.model_id.clone().filter(|_| args.model.gguf.is_none()));
    named.unwrap_or_else(|| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Examples:
  pylon api
  pylon api --gguf gpt-oss-20b-mxfp4.gguf --alias default --sequences 8
  pylon api --tls --bind 0.0.0.0:9899 --allow-host models.lan --api-key SECRET
  curl http://127.0.0.1:9899/v1/models";
