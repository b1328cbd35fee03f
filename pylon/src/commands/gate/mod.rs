//! `pylon gate`: checks of a file and of the arithmetic, from the header to logits. A gate passes only when it looked
//! at something and all of it held.

mod determinism;
mod gpu_matmul;
mod index;
mod limits;
mod logits;
mod model;
mod mxfp4;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Subcommand;
use gptoss_gates::whole::{self, Size};
use gptoss_gates::{GatedFile, Part, Report};
use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::Quiet;
use gptoss_protocol::FailureKind;

use crate::error::CliError;
use crate::exit;
use crate::gguf_file::GgufFile;
use crate::output::note;

/// Check a file and the arithmetic on it, gate by gate, from a (the index) to g (logits)
///
/// Every gate prints what was compared with what. Exit status 0: passed; 1: failed; 2: could not run (no GPU, no file).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate c models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(subcommand)]
    gate: Gate,
}

#[derive(Debug, Subcommand)]
enum Gate {
    A(index::Args),
    B(determinism::Args),
    C(gpu_matmul::Args),
    D(model::Args),
    E(limits::Args),
    F(mxfp4::Args),
    G(logits::Args),
}

/// Arguments of every gate.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// GGUF file
    path: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// How much of a whole model is run.
#[derive(Debug, clap::Args)]
struct SizeArgs {
    /// Run the first N layers; 0 is embedding and output matrix only. All layers if not given, 2 of models whose
    /// weights take more than 1 GiB in F32
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Text whose tokens are run, as plain text
    #[arg(long, value_name = "TEXT", default_value = whole::USUAL_PROMPT)]
    prompt: String,
    /// Run N tokens: the prompt cut short, or repeated. 8 if not given; in gate d as many as reach beyond the sliding
    /// window of models whose weights take at most 1 GiB in F32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    tokens: Option<u32>,
}

impl SizeArgs {
    fn size(&self) -> Size {
        Size { layers: self.layers, prompt: self.prompt.clone(), tokens: self.tokens }
    }
}

/// The device that the engine would use.
fn open_device(report: &mut Report) -> Result<Rc<Gpu>, CliError> {
    Ok(pollster::block_on(gptoss_gates::limits::open_device(&GpuOptions::default(), report, &Quiet))?)
}

/// A file, opened for gates that run elsewhere, too.
struct Opened {
    file: GgufFile,
    /// Names of the parts.
    names: Vec<String>,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, CliError> {
        let file = GgufFile::open_model(path)?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = file.parts.iter().map(|part| name(&part.path)).collect();
        Ok(Self { file, names })
    }

    /// What `look` makes of it.
    fn with<E>(&self, look: impl FnOnce(&GatedFile<'_>) -> Result<(), E>) -> Result<(), CliError>
    where
        CliError: From<E>,
    {
        let parts: Vec<Part<'_>> =
            self.names.iter().zip(&self.file.parts).map(|(name, part)| Part { name, gguf: &part.gguf }).collect();
        Ok(look(&GatedFile { source: &self.file.source, gguf: &self.file.gguf, parts: &parts })?)
    }
}

/// # Errors
/// The arguments do not fit the file, or nothing can be written. Everything else is the gate's verdict.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    match args.gate {
        Gate::A(args) => run_gate('a', index::TITLE, &args.common, |report| index::check(&args, report)),
        Gate::B(args) => run_gate('b', determinism::TITLE, &args.common, |report| determinism::check(&args, report)),
        Gate::C(args) => run_gate('c', gpu_matmul::TITLE, &args.common, |report| gpu_matmul::check(&args, report)),
        Gate::D(args) => run_gate('d', model::TITLE, &args.common, |report| model::check(&args, report)),
        Gate::E(args) => run_gate('e', limits::TITLE, &args.common, |report| limits::check(&args, report)),
        Gate::F(args) => run_gate('f', mxfp4::TITLE, &args.common, |report| mxfp4::check(&args, report)),
        Gate::G(args) => run_gate('g', logits::TITLE, &args.common, |report| logits::check(&args, report)),
    }
}

/// Runs a gate. An error before its end is a verdict as well: something was missing or damaged.
fn run_gate(
    gate: char,
    title: &'static str,
    common: &Common,
    check: impl FnOnce(&mut Report) -> Result<(), CliError>,
) -> Result<ExitCode, CliError> {
    let mut report = Report::new(gate, title, common.path.display().to_string());
    match check(&mut report) {
        Ok(()) => {}
        Err(error @ (CliError::Argument { .. } | CliError::ReaderGone | CliError::Output(_))) => return Err(error),
        Err(error) => {
            note(format_args!("pylon: {error}"));
            note(format_args!("  {}", error.advice()));
            let does_not_fit = matches!(&error, CliError::Engine(error) if error.kind() == FailureKind::Memory);
            if error.exit_status() == exit::COULD_NOT_RUN || does_not_fit {
                report.could_not_run(error.to_string());
            } else {
                report.check("runs to its end", false, error.to_string());
            }
        }
    }
    report::print(&report.finish(), common.json)
}
