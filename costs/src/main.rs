//! What the kernels cost, told without a GPU: machine code by a driver without hardware, and the calls of a forward
//! pass.
//!
//! ```text
//! WGSL ─ naga ─ SPIR-V ─ RADV's null device ─ statistics, assembly ─┐
//! header of gpt-oss-20b ─ plan ─ recipe ─ calls, grids, buffers ────┴─ Costs ─ table, costs.json, comparison
//! ```

mod barriers;
mod compare;
mod costs;
mod isa;
mod kernel_cost;
mod kernels;
mod pass;
mod radv;
mod report;
mod steps;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::compare::Comparison;
use crate::costs::Costs;

#[derive(Debug, Parser)]
#[command(
    name = "gptoss-costs",
    version,
    about = "What the kernels cost, told without a GPU",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Write all figures as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the recorded figures instead of printing a table: whatever is worse is listed, and fails.
    #[arg(long)]
    compare: bool,
    /// Record the figures of now, after the table or the comparison.
    #[arg(long)]
    update: bool,
    /// File with the recorded figures.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/costs.json"))]
    kept: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile for the family of RADV_FORCE_FAMILY and print figures for the process that asked.
    #[command(hide = true)]
    Compile,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    if let Some(Command::Compile) = arguments.command {
        serde_json::to_writer(&mut out, &kernel_cost::compile_all()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kept = arguments.compare.then(|| Costs::read(&arguments.kept)).transpose()?;
    let costs = Costs::gather()?;
    if let Some(path) = &arguments.json {
        write(path, &costs)?;
    }
    let mut code = ExitCode::SUCCESS;
    if let Some(kept) = kept {
        let Comparison { notes, worse } = compare::compare(&kept, &costs);
        notes.iter().try_for_each(|note| writeln!(out, "{note}"))?;
        worse.iter().try_for_each(|worse| writeln!(out, "WORSE: {worse}"))?;
        writeln!(out, "Worse than {} has it: {}", arguments.kept.display(), worse.len())?;
        if !worse.is_empty() {
            code = ExitCode::FAILURE;
        }
    } else {
        write!(out, "{}", report::markdown(&costs))?;
    }
    if arguments.update {
        write(&arguments.kept, &costs)?;
    }
    Ok(code)
}

fn write(path: &PathBuf, costs: &Costs) -> Result<()> {
    std::fs::write(path, costs.to_json()?).with_context(|| format!("cannot write {}", path.display()))
}
