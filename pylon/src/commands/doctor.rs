//! `pylon doctor`: what would run here, and why not.

use std::process::ExitCode;

use gptoss_protocol::units::bytes;

use crate::adapters::Adapter;
use crate::catalogue::{FoundModel, SkippedFile};
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::machine::Machine;
use crate::output::Output;
use crate::survey::Survey;
use crate::upstream::{ProviderState, UpstreamArgs};

/// Say what would run here, and why not
///
/// Looks at processor, memory, GPU adapters, and the models in the usual places: GPT_OSS_GGUF_PATH, the current folder
/// and its folder models, the cache of the Hugging Face hub, what LM Studio, Ollama and llama.cpp keep, and ~/models.
/// Of models only headers are read. A server that --upstream names is asked how it is, for its models, and for one token.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// Say more about adapters and models
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object with everything instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    upstreams: UpstreamArgs,
}

/// Runs `pylon doctor`.
///
/// # Errors
/// The environment cannot be used, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let upstreams = ProviderState::of_upstreams(&args.upstreams, true)?;
    let elsewhere = upstreams.clone();
    let survey = Survey::take(&Environment::read()?, upstreams);
    let mut output = Output::new();
    if args.json {
        output.json(&survey)?;
    } else {
        write(&survey, args.verbose, &elsewhere, &mut output)?;
    }
    output.finish()?;
    Ok(if survey.can_run { exit::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn write(survey: &Survey, verbose: bool, elsewhere: &[ProviderState], output: &mut Output) -> Result<(), CliError> {
    output.line(format_args!("pylon {}", survey.version))?;
    write_machine(&survey.machine, output)?;
    output.line("\nGPU adapters")?;
    if survey.adapters.is_empty() {
        output.line("  none")?;
    }
    for adapter in &survey.adapters {
        write_adapter(adapter, verbose, output)?;
    }
    output.line("\nmodels")?;
    if survey.models.is_empty() {
        output.line("  none")?;
    }
    for model in &survey.models {
        write_model(model, verbose, output)?;
    }
    for SkippedFile { path, place, reason } in &survey.skipped {
        output.line(format_args!("  skipped {} ({place}): {reason}", path.display()))?;
    }
    if !elsewhere.is_empty() {
        output.line("\nupstreams")?;
    }
    for ProviderState { id, is_ready, models, remark } in elsewhere {
        let state = if *is_ready { format!("ready, serves {}", models.join(", ")) } else { "not ready".to_owned() };
        let remark = remark.as_ref().map_or_else(String::new, |remark| format!("; {remark}"));
        output.line(format_args!("  {id}: {state}{remark}"))?;
    }
    output.line("")?;
    for finding in &survey.findings {
        output.line(finding)?;
    }
    if !survey.model_ids.is_empty() && survey.can_run {
        output.line(format_args!("Can run and serve: {}", survey.model_ids.join(", ")))
    } else if survey.can_run {
        output.line("Nothing can run here yet, but `pylon api --engine upstream` can serve.")
    } else {
        output.line("Nothing can run here yet.")
    }
}

fn write_machine(machine: &Machine, output: &mut Output) -> Result<(), CliError> {
    output.line(format_args!("system     {}, {}", machine.system, machine.architecture))?;
    output.line(format_args!("processor  {}", machine.processor))?;
    output.line(format_args!("threads    {}", machine.threads))?;
    let simd = machine.simd.join(", ");
    output.line(format_args!("SIMD       {} (found: {simd})", machine.instruction_set))?;
    output.line(format_args!("kernels    {}", machine.instruction_sets.join(", ")))?;
    match machine.memory {
        Some(memory) => {
            let (total, available) = (bytes(memory.total_bytes), bytes(memory.available_bytes));
            output.line(format_args!("memory     {available} available of {total}"))
        }
        None => output.line("memory     unknown"),
    }
}

fn write_adapter(adapter: &Adapter, verbose: bool, output: &mut Output) -> Result<(), CliError> {
    let Adapter { name, api, kind, obstacle, .. } = adapter;
    let state = match obstacle {
        Some(obstacle) => format!("cannot be used: {obstacle}"),
        None if adapter.software => "usable, but slower than the CPU backend".to_owned(),
        None => "usable".to_owned(),
    };
    output.line(format_args!("  {name} ({api}, {kind}): {state}"))?;
    if verbose {
        output.line(format_args!("      driver {}", adapter.driver))?;
        output.line(format_args!(
            "      buffers up to {}, bindings up to {}, workgroup memory {}",
            bytes(adapter.max_buffer_bytes),
            bytes(adapter.max_binding_bytes),
            bytes(u64::from(adapter.max_workgroup_storage_bytes))
        ))?;
        let features = if adapter.features.is_empty() { "none".to_owned() } else { adapter.features.join(", ") };
        output.line(format_args!("      features of interest: {features}"))?;
    }
    Ok(())
}

fn write_model(model: &FoundModel, verbose: bool, output: &mut Output) -> Result<(), CliError> {
    let FoundModel { id, path, place, file_bytes, details, .. } = model;
    let reason = if verbose { model.reason.clone() } else { model.short_reason() };
    let state = reason.map_or_else(|| "supported".to_owned(), |reason| format!("not supported: {reason}"));
    output.line(format_args!("  {id}  {}  {state}", bytes(*file_bytes)))?;
    if let Some(details) = details.as_ref().filter(|_| verbose) {
        output.line(format_args!(
            "      {}: {} layers, {} experts, context {} tokens",
            details.name, details.layers, details.experts, details.context_tokens
        ))?;
        output.line(format_args!(
            "      on a GPU {} with all experts, {} with as few as can work",
            bytes(details.gpu_bytes),
            bytes(details.gpu_bytes_least)
        ))?;
    }
    output.line(format_args!("      {} ({place})", path.display()))
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Exit status: 0 a model can run here or on an upstream, 1 none can, 2 the environment holds a value that cannot be used

Examples:
  pylon doctor --verbose
  pylon doctor --upstream http://127.0.0.1:8000
  pylon doctor --json | jq .findings";
