//! `pylon api`: the model behind OpenAI's APIs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use gptoss_api::{ApiOptions, Engine, ModelCard, serve};
use gptoss_protocol::options::Settings;
use gptoss_protocol::{Command, Event, LoadSettings, ModelInfo, ModelLocation, OptionId};
use tokio::net::TcpListener;

use crate::backend::{self, LoadRequest};
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::model_args::ModelArgs;
use crate::native_node::NativePlatform;
use crate::option_args::{Group, OptionArgs};
use crate::output::note;

/// How long answers that are under way have when the server is told to end.
const GRACE: Duration = Duration::from_secs(10);

/// Serve the model over OpenAI's APIs: /v1/chat/completions, /v1/completions, /v1/responses
///
/// It listens on this machine only, unless --bind says otherwise. Ctrl-C ends it: answers that are under way have ten seconds, a
/// second Ctrl-C ends those, too.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    options: OptionArgs<ApiGroup>,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9899")]
    bind: SocketAddr,
    /// Key that requests have to bring as "Authorization: Bearer KEY"; also from PYLON_API_KEY
    #[arg(long, value_name = "KEY", env = "PYLON_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Another name of the model, beside its id; may be repeated
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// A name in Host and Origin that is allowed beside those of this machine; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Answers at the same time; further requests wait for their turn
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    sequences: u32,
    /// Requests that are answered or wait; further ones are told to come again
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_requests: u32,
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
    let failed = |source| CliError::Server { address: args.bind.to_string(), source };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        // The address first: whoever has it taken is told before minutes of loading.
        let listener = TcpListener::bind(args.bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let engine = Engine::start(|| NativePlatform::new(|| false).with_grammars(), |_| {}).map_err(failed)?;
        let (info, context_tokens) = load_model(&engine, &request).await?;
        let model = card(&args, &environment, &request.path, &info, context_tokens);
        note(format_args!("pylon: {} at http://{address}/v1 (Ctrl-C ends it)", model.id));
        let options = ApiOptions {
            model,
            api_key: args.api_key.clone(),
            hosts: args.allow_host.clone(),
            most_requests: args.max_requests as usize,
        };
        serve(listener, engine, options, until_ended()).await.map_err(failed)
    })?;
    Ok(exit::SUCCESS)
}

/// Loads the model, and gives what its header says and the tokens that a sequence has room for.
async fn load_model(engine: &Engine<Option<LoadRequest>>, request: &LoadRequest) -> Result<(ModelInfo, u32), CliError> {
    let options = LoadSettings { engine: request.load.clone(), gpu: request.gpu.clone(), ..LoadSettings::default() };
    let model = ModelLocation::PickedFile { name: request.path.display().to_string() };
    let command = Command::Load { model, options, prompt: None, remembered: Vec::new() };
    let mut loading = engine.begin(command, Some(request.clone()));
    let (mut info, mut context_tokens) = (None, 0);
    while let Some(event) = loading.next().await {
        match event {
            Event::Model(model) => info = Some(model),
            Event::Kv { capacity_tokens, .. } => context_tokens = capacity_tokens,
            Event::Failed { failure, .. } => return Err(failure.into()),
            _ => {}
        }
    }
    info.map(|info| (info, context_tokens)).ok_or_else(|| CliError::Argument {
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

/// Ends when the process is told to; what is under way has [`GRACE`] from then on.
async fn until_ended() {
    asked_to_end().await;
    note("pylon: ending; answers that are under way have ten seconds");
    tokio::spawn(async {
        tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            () = asked_to_end() => {}
        }
        std::process::exit(i32::from(exit::INTERRUPTED));
    });
}

async fn asked_to_end() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        }
        return;
    }
    // Where signals cannot be heard the process ends at once, as it would without any of this.
    let _ = interrupted.await;
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Examples:
  pylon api
  pylon api --gguf gpt-oss-20b-mxfp4.gguf --alias default --sequences 8
  curl http://127.0.0.1:9899/v1/models";
