//! `pylon gguf quantize`: a model's matrices in the types of published gpt-oss files, or in others.

mod convert;
mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use gptoss_gguf::{TensorType, WeightType, part_paths};
use gptoss_model::EngineError;
use gptoss_protocol::units;
use indicatif::ProgressBar;
use serde_json::json;

pub use self::plan::QuantizeError;
use self::plan::{Plan, Step, Types};
use crate::error::CliError;
use crate::exit;
use crate::gguf_file::{CHUNK_BYTES, GgufFile, read_chunks};
use crate::interrupt::Interrupts;
use crate::output::Output;
use crate::part_file::PartFile;
use crate::progress;

/// Round the matrices of a gpt-oss model: experts to MXFP4, the others to Q8_0, as in published files
///
/// Takes F32, F16 and BF16 and rounds as gguf-py does. Norms, biases, sinks and the router stay as they are, and so do
/// the metadata but general.file_type and general.quantization_version. A matrix that has its type already is copied;
/// one of another quantised type is rounded a second time only to F32, F16 or BF16. The file is written a few megabytes
/// at a time, as OUT.part, which takes its place when it is complete; a run that fails or is stopped leaves nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 written, 1 the file cannot be quantised, 2 could not run (arguments, files), 130 stopped by Ctrl-C

Example:
  pylon gguf quantize models/nano/gpt-oss-nano.gguf nano-f32.gguf --experts f32 --dense f32
  pylon gguf quantize nano-f32.gguf nano.gguf")]
pub struct Args {
    /// GGUF file; any part of a split model stands for all of them
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write, in one part
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Type of the experts' matrices
    #[arg(long, value_name = "TYPE", default_value = "MXFP4", ignore_case = true, value_parser = written_type())]
    experts: WeightType,
    /// Type of the other matrices: embedding, attention, output
    #[arg(long, value_name = "TYPE", default_value = "Q8_0", ignore_case = true, value_parser = written_type())]
    dense: WeightType,
    /// Replace OUT if it is there
    #[arg(long)]
    force: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Reads the name of a type that weights can be rounded to.
fn written_type() -> impl TypedValueParser<Value = WeightType> {
    PossibleValuesParser::new(WeightType::WRITTEN.map(WeightType::name)).try_map(|name| {
        let found = WeightType::WRITTEN.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(&name));
        found.ok_or_else(|| format!("weights are not written as {name}"))
    })
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    // From the first byte that is written on, Ctrl-C must not end the process before it is removed again.
    let interrupts = Interrupts::catch();
    let file = GgufFile::open_model(&args.input)?;
    check_output(args, &file)?;
    let types = Types { experts: args.experts, dense: args.dense };
    let plan = Plan::of(&file, types)?;
    let mut part = PartFile::create(&args.output)?;
    part.write(&plan.header)?;
    let mut written = Written {
        file: &file,
        part: &mut part,
        interrupts,
        bar: progress::bytes("quantising", plan.steps.iter().map(|step| step.tensor.size_bytes).sum()),
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
    };
    plan.steps.iter().try_for_each(|step| written.tensor(step))?;
    written.bar.finish_and_clear();
    part.place()?;
    report(args, &file, &plan)?;
    Ok(exit::SUCCESS)
}

/// Refuses a place where something is that should stay.
fn check_output(args: &Args, file: &GgufFile) -> Result<(), CliError> {
    let refused = |got: &str, expected: &str| {
        let (what, got, expected) = (args.output.display().to_string(), got.into(), expected.into());
        Err(CliError::Argument { what, got, expected })
    };
    if part_paths(&args.output).len() > 1 {
        return refused("the name of a part of a split model", "another name, since the model is written in one file");
    }
    let Ok(metadata) = fs::metadata(&args.output) else { return Ok(()) };
    let same = |path: &Path| fs::canonicalize(path).ok().zip(fs::canonicalize(&args.output).ok());
    if file.parts.iter().filter_map(|part| same(&part.path)).any(|(input, output)| input == output) {
        return refused("the file that is read", "another file");
    }
    match metadata.is_file() {
        false => refused("there already and no file", "the path of a file"),
        true if !args.force => refused("there already", "a path where no file is, or --force, which replaces it"),
        true => Ok(()),
    }
}

/// A file that is being written.
struct Written<'a> {
    file: &'a GgufFile,
    part: &'a mut PartFile,
    interrupts: Interrupts,
    bar: ProgressBar,
    threads: usize,
}

impl Written<'_> {
    /// Writes the data of a tensor, with the padding behind them.
    fn tensor(&mut self, step: &Step<'_>) -> Result<(), CliError> {
        let (tensor, unit_bytes) = (step.tensor, step.unit_bytes());
        let chunk_bytes = CHUNK_BYTES / unit_bytes * unit_bytes;
        let mut done_bytes = 0;
        read_chunks(self.file.source.as_ref(), tensor.offset, tensor.size_bytes, chunk_bytes, |_, bytes| {
            if self.interrupts.is_pending() {
                return Err(EngineError::Cancelled.into());
            }
            let before = done_bytes / unit_bytes * step.unit_weights();
            let converted = convert::convert(step, bytes, self.threads);
            self.part.write(&converted.map_err(|fault| step.fault(fault, before))?)?;
            done_bytes += bytes.len() as u64;
            self.bar.inc(bytes.len() as u64);
            Ok(())
        })?;
        let padding = step.size_bytes.next_multiple_of(self.file.gguf.alignment) - step.size_bytes;
        self.part.write(&vec![0; padding as usize])
    }
}

fn report(args: &Args, file: &GgufFile, plan: &Plan<'_>) -> Result<(), CliError> {
    let name = |kind: TensorType| kind.to_string();
    let mut changes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for step in plan.steps.iter().filter(|step| step.kind != step.tensor.kind) {
        *changes.entry((name(step.tensor.kind), name(step.kind))).or_default() += 1;
    }
    let copied = plan.steps.len() - changes.values().sum::<usize>();
    let mut output = Output::new();
    if args.json {
        let changes = changes.iter().map(|((from, to), tensors)| json!({"from": from, "to": to, "tensors": tensors}));
        output.json(&json!({
            "path": args.output.display().to_string(),
            "bytes_read": file.gguf.file_len,
            "bytes_written": plan.file_bytes,
            "file_type": plan.file_type,
            "changed": changes.collect::<Vec<_>>(),
            "copied": copied,
        }))?;
    } else {
        let changes = changes.iter().map(|((from, to), tensors)| format!("{tensors} tensors from {from} to {to}, "));
        output.line(format_args!(
            "{}: {} of {}; {}{copied} as they were",
            args.output.display(),
            units::bytes(plan.file_bytes),
            units::bytes(file.gguf.file_len),
            changes.collect::<String>()
        ))?;
    }
    output.finish()
}
