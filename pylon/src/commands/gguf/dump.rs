//! `pylon gguf dump`: the tensor table.

use std::path::PathBuf;
use std::process::ExitCode;

use gptoss_gguf::TensorInfo;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit;
use crate::gguf_file::GgufFile;
use crate::output::Output;

/// List the tensors of a file: type, shape (contiguous dimension first), offset and size in bytes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gguf dump models/nano/gpt-oss-nano.gguf --limit 5")]
pub struct Args {
    /// GGUF file
    path: PathBuf,
    /// List only the first N tensors; 0 lists all
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: usize,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    let file = GgufFile::open(&args.path)?;
    let shown = match args.limit {
        0 => &file.gguf.tensors[..],
        limit => &file.gguf.tensors[..limit.min(file.gguf.tensors.len())],
    };
    let mut output = Output::new();
    if args.json {
        output.json(&as_json(&file, shown))?;
    } else {
        print_table(&mut output, &file, shown)?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

fn as_json(file: &GgufFile, shown: &[TensorInfo]) -> Value {
    let gguf = &file.gguf;
    let tensors = shown.iter().enumerate().map(|(index, tensor)| {
        json!({
            "index": index,
            "name": tensor.name,
            "type": tensor.kind.to_string(),
            "shape": tensor.shape,
            "offset": tensor.offset,
            "bytes": tensor.size_bytes,
        })
    });
    json!({
        "path": file.path.display().to_string(),
        "version": gguf.version,
        "alignment": gguf.alignment,
        "data_offset": gguf.data_offset,
        "file_bytes": gguf.file_len,
        "tensor_count": gguf.tensors.len(),
        "tensors": tensors.collect::<Value>(),
    })
}

fn print_table(output: &mut Output, file: &GgufFile, shown: &[TensorInfo]) -> Result<(), CliError> {
    let gguf = &file.gguf;
    output.line(format_args!(
        "{}: GGUF version {}, {} tensors, data from byte {}, {} bytes in all",
        file.path.display(),
        gguf.version,
        gguf.tensors.len(),
        gguf.data_offset,
        gguf.file_len
    ))?;
    let name_width = shown.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0).max("name".len());
    let header = ("index", "type", "shape", "offset", "bytes");
    output.line(format_args!(
        "{:>5}  {:name_width$}  {:7}  {:22}  {:>14}  {:>14}",
        header.0, "name", header.1, header.2, header.3, header.4
    ))?;
    for (index, tensor) in shown.iter().enumerate() {
        output.line(format_args!(
            "{index:>5}  {:name_width$}  {:7}  {:22}  {:>14}  {:>14}",
            tensor.name,
            tensor.kind.to_string(),
            format!("{:?}", tensor.shape),
            tensor.offset,
            tensor.size_bytes
        ))?;
    }
    match gguf.tensors.len() - shown.len() {
        0 => Ok(()),
        more => output.line(format_args!("and {more} more")),
    }
}
