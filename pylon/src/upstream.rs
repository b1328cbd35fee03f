//! Engines elsewhere: which, how they are, and the way from the API to them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gptoss_api::{Remote, UpstreamState, Upstreams};
use gptoss_gguf::GPT_OSS_ARCHITECTURES;
use gptoss_model::EngineError;
use gptoss_protocol::{Command, Event, Failure, FailureKind, Stage};
use gptoss_text::Tokenizer;
use gptoss_upstream::{
    Address, Answerer, Completion, HttpProvider, Limits, MemberState, Pool, ProvidedModel, Provider, Said, Trust,
    UpstreamError,
};
use serde::Serialize;
use tokio::time::timeout;

use crate::error::CliError;
use crate::gguf_file::GgufFile;
use crate::output::note;

/// Upstreams are asked how they are so often.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The start waits so long for upstreams to say how they are.
const FIRST_CHECK: Duration = Duration::from_secs(3);

/// Which servers.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct UpstreamArgs {
    /// A server that speaks /v1/completions with token ids (vLLM, SGLang, pylon api), as http://127.0.0.1:8000 or https://…; may be repeated
    #[arg(long, value_name = "URL", global = true)]
    pub upstream: Vec<Address>,
    /// Key that the upstreams want as "Authorization: Bearer KEY"; also from PYLON_UPSTREAM_KEY
    #[arg(long, value_name = "KEY", env = "PYLON_UPSTREAM_KEY", hide_env_values = true, global = true)]
    upstream_key: Option<String>,
    /// PEM file of certificates to trust beside those of this machine, for upstreams with https
    #[arg(long, value_name = "FILE", global = true)]
    upstream_ca: Option<PathBuf>,
}

impl UpstreamArgs {
    /// An address that was given twice: its server would be taken for two.
    pub fn twice(&self) -> Option<&Address> {
        let all = &self.upstream;
        all.iter().enumerate().find(|(at, address)| all[..*at].contains(address)).map(|(_, address)| address)
    }

    /// # Errors
    /// There are no certificates to check the servers against, or nothing to check against those that are given.
    fn providers(&self, limits: Limits) -> Result<Vec<HttpProvider>, CliError> {
        let is_encrypted = self.upstream.iter().any(Address::is_encrypted);
        if let (false, Some(file)) = (is_encrypted, &self.upstream_ca) {
            return Err(CliError::Argument {
                what: "--upstream-ca".into(),
                got: file.display().to_string(),
                expected: "an --upstream with https:// beside it".into(),
            });
        }
        let trust = match is_encrypted {
            true => Some(Trust::new(self.upstream_ca.as_deref())?),
            false => None,
        };
        let provider =
            |address: &Address| HttpProvider::new(address.clone(), trust.clone(), self.upstream_key.clone(), limits);
        Ok(self.upstream.iter().map(provider).collect())
    }
}

impl fmt::Display for UpstreamArgs {
    /// The addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.upstream.iter().map(Address::to_string).collect();
        f.write_str(&addresses.join(", "))
    }
}

/// What computes elsewhere, as the API asks it.
pub struct Elsewhere(Answerer<Pool<HttpProvider>>);

impl Remote for Elsewhere {
    async fn run(&self, command: Command, tell: &(dyn Fn(Event) + Send + Sync)) -> Result<(), (Stage, Failure)> {
        match command {
            Command::Generate { prompt } => self.0.answer(&prompt, tell).await,
            Command::Count { prompt } => {
                tell(Event::Counted { tokens: self.0.count(&prompt).await? });
                Ok(())
            }
            _ => {
                let message = "an engine elsewhere answers prompts and counts their tokens, and nothing else".into();
                let failure = Failure { kind: FailureKind::Internal, message, advice: String::new(), parameter: None };
                Err((Stage::PromptEncode, failure))
            }
        }
    }
}

/// What a header says of the model that is computed elsewhere.
pub struct Known {
    pub tokenizer: Tokenizer,
    pub architecture: String,
    pub layers: u32,
    pub experts: u32,
    pub context_tokens: u32,
}

impl Known {
    /// Reads a header, also of a file that has a vocabulary and no weights.
    ///
    /// # Errors
    /// It is not of a gpt-oss model, or has no vocabulary.
    pub fn of(file: &GgufFile) -> Result<Self, CliError> {
        let metadata = &file.gguf.metadata;
        let architecture = metadata.str("general.architecture").map_err(EngineError::from)?.to_owned();
        if !GPT_OSS_ARCHITECTURES.contains(&architecture.as_str()) {
            return Err(EngineError::Architecture { got: architecture }.into());
        }
        let number = |key: &str| metadata.u32(&format!("{architecture}.{key}")).map_err(EngineError::from);
        Ok(Self {
            tokenizer: file.tokenizer()?,
            layers: number("block_count")?,
            experts: number("expert_count")?,
            context_tokens: number("context_length")?,
            architecture,
        })
    }
}

/// Begins to look after the servers, and says on standard error how they are.
pub async fn open(
    args: &UpstreamArgs,
    silence: Duration,
    (tokenizer, context_tokens): (Tokenizer, u32),
) -> Result<(Arc<Elsewhere>, Upstreams), CliError> {
    let pool = Arc::new(Pool::new(args.providers(Limits { silence, ..Limits::default() })?));
    // Those that have not answered by then are asked again while others serve.
    let _ = timeout(FIRST_CHECK, pool.check()).await;
    for MemberState { id, reason, models, .. } in pool.states() {
        match reason {
            None => note(format_args!("pylon: upstream {id} is ready: {}", ids(&models).join(", "))),
            Some(reason) => note(format_args!("pylon: upstream {id} is not ready, and is asked again: {reason}")),
        }
    }
    if let Some(remark) = remark_on_models(&pool.states()) {
        note(format_args!("pylon: {remark}"));
    }
    let watched = Arc::clone(&pool);
    tokio::spawn(async move { watched.watch(CHECK_EVERY).await });
    let shown = Arc::clone(&pool);
    let upstreams = Upstreams::new(move || shown.states().into_iter().map(shown_state).collect());
    Ok((Arc::new(Elsewhere(Answerer::new(tokenizer, pool, context_tokens))), upstreams))
}

/// What to say of servers that are ready and have models of different names: whether these are the same, only people know.
fn remark_on_models(states: &[MemberState]) -> Option<String> {
    let first = |state: &MemberState| Some((state.models.first()?.id.clone(), state.id.clone()));
    let ready = states.iter().filter(|state| state.reason.is_none());
    let models: Vec<(String, String)> = ready.filter_map(first).collect();
    if models.iter().all(|(model, _)| *model == models[0].0) {
        return None;
    }
    let each: Vec<String> = models.iter().map(|(model, server)| format!("{model} at {server}")).collect();
    Some(format!(
        "upstreams name their models differently ({}): answers come from any of them, so make sure that it is one model",
        each.join(", ")
    ))
}

fn ids(models: &[ProvidedModel]) -> Vec<String> {
    models.iter().map(|model| model.id.clone()).collect()
}

fn shown_state(state: MemberState) -> UpstreamState {
    let MemberState { id, reason, models, requests, in_flight, errors } = state;
    // The first of its models is the one that is asked.
    let context_tokens = models.first().and_then(|model| model.context_tokens);
    let (is_ready, models) = (reason.is_none(), ids(&models));
    UpstreamState { id, is_ready, reason, models, context_tokens, requests, in_flight, errors }
}

/// What answers, here or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderState {
    /// `cpu`, `gpu`, or the address of a server.
    pub id: String,
    /// Whether it could answer now.
    pub is_ready: bool,
    /// Ids of the models that it could answer with.
    pub models: Vec<String>,
    /// Why it is not ready, or what to expect of it.
    pub remark: Option<String>,
}

impl ProviderState {
    /// How the servers are. With `asks_for_a_token` each is asked for one, which tells whether it gives ids.
    pub fn of_upstreams(args: &UpstreamArgs, asks_for_a_token: bool) -> Result<Vec<Self>, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
        let limits = Limits { silence: Duration::from_secs(20), ..Limits::default() };
        let mut states = Vec::new();
        for provider in args.providers(limits)? {
            states.push(runtime.block_on(Self::of(&provider, asks_for_a_token)));
        }
        Ok(states)
    }

    async fn of(provider: &impl Provider, asks_for_a_token: bool) -> Self {
        let looked = async {
            provider.is_ready().await?;
            let models = provider.list_models().await?;
            let remark = if asks_for_a_token { Some(remark_on(provider).await?) } else { None };
            Ok((models, remark))
        };
        let id = provider.id().to_owned();
        match looked.await {
            Ok((models, remark)) => Self { id, is_ready: true, models: ids(&models), remark },
            Err(error) => {
                let error: UpstreamError = error;
                Self { id, is_ready: false, models: Vec::new(), remark: Some(error.to_string()) }
            }
        }
    }
}

/// What a token of it tells: every vocabulary has the first id.
async fn remark_on(provider: &impl Provider) -> Result<String, UpstreamError> {
    let wanted = Completion { prompt: vec![0], max_tokens: 1, ..Completion::default() };
    let completed = provider.complete(&wanted).await?;
    let gives_ids = completed.said.iter().any(|said| matches!(said, Said::Tokens(tokens) if !tokens.is_empty()));
    Ok(match gives_ids {
        true => "it gives token ids".to_owned(),
        false => {
            "it gives text without token ids: what it says is encoded again, by the names of special tokens".to_owned()
        }
    })
}
