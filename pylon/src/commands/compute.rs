//! `pylon compute`: the ways to compute here, and the models there are for them.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use crate::catalogue::FoundModel;
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::output::Output;
use crate::survey::{BackendState, Survey};
use crate::upstream::{ProviderState, UpstreamArgs};

/// List the ways to compute here, and the models for them
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON object instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    upstreams: UpstreamArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The same: the list is what there is
    #[command(after_help = after_help())]
    List,
}

/// The output as JSON.
#[derive(Serialize)]
struct List<'a> {
    backends: &'a [BackendState],
    providers: &'a [ProviderState],
    models: &'a [FoundModel],
    model_ids: &'a [String],
}

/// Runs `pylon compute`.
///
/// # Errors
/// The environment cannot be used, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let Args { action: None | Some(Action::List), json, upstreams } = args;
    let upstreams = ProviderState::of_upstreams(&upstreams, false)?;
    let elsewhere = upstreams.clone();
    let survey = Survey::take(&Environment::read()?, upstreams);
    let mut output = Output::new();
    if json {
        let Survey { backends, providers, models, model_ids, .. } = &survey;
        output.json(&List { backends, providers, models, model_ids })?;
    } else {
        write(&survey, &elsewhere, &mut output)?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

fn write(survey: &Survey, elsewhere: &[ProviderState], output: &mut Output) -> Result<(), CliError> {
    for BackendState { backend, device, ready, automatic, remark } in &survey.backends {
        let state = match (ready, automatic) {
            (true, true) => "ready, taken by --backend auto",
            (true, false) => "ready",
            (false, _) => "not ready",
        };
        let remark = remark.as_ref().map_or_else(String::new, |remark| format!(" ({remark})"));
        output.line(format_args!("{backend}  {device}: {state}{remark}"))?;
    }
    for ProviderState { id, is_ready, models, remark } in elsewhere {
        let state = if *is_ready { format!("ready: {}", models.join(", ")) } else { "not ready".to_owned() };
        let remark = remark.as_ref().map_or_else(String::new, |remark| format!(" ({remark})"));
        output.line(format_args!("upstream  {id}: {state}{remark}"))?;
    }
    for model in &survey.models {
        let state = model.short_reason().map_or_else(|| "ready".to_owned(), |reason| format!("not ready ({reason})"));
        output.line(format_args!("model  {}: {state}", model.id))?;
    }
    if survey.models.is_empty() {
        output.line("no model was found; `pylon doctor` says where it looked")?;
    }
    Ok(())
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Exit status: 0 listed, 2 the environment holds a value that cannot be used

Examples:
  pylon compute
  pylon compute list --json
  pylon compute list --upstream http://127.0.0.1:8000";
