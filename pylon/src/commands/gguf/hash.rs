//! `pylon gguf hash`: the file's hash, and those of its chunks.

use std::path::PathBuf;
use std::process::ExitCode;

use gptoss_source::{FileSource, Source};
use serde_json::json;

use super::Sha256Hex;
use crate::error::CliError;
use crate::exit;
use crate::gguf_file::{CHUNK_BYTES, read_chunks};
use crate::output::Output;
use crate::progress;

/// Print the SHA-256 of every 4 MiB chunk, and last of the whole file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gguf hash models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    /// GGUF file
    path: PathBuf,
    /// Print the hash of the whole file only
    #[arg(long)]
    whole: bool,
    /// JSON lines: {"offset","len","sha256"} for each chunk, {"path","file_bytes","sha256"} last
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    // The header is not looked at: a damaged file has a hash too.
    let source = FileSource::open(&args.path)?;
    let file_bytes = source.len_bytes();
    let mut output = Output::new();
    let mut whole = Sha256Hex::default();
    let bar = progress::bytes("hashing", file_bytes);
    read_chunks(&source, 0, file_bytes, CHUNK_BYTES, |offset, bytes| {
        whole.update(bytes);
        bar.inc(bytes.len() as u64);
        if args.whole {
            return Ok(());
        }
        let (len, sha256) = (bytes.len(), Sha256Hex::of(bytes));
        if args.json {
            output.json(&json!({"offset": offset, "len": len, "sha256": sha256}))
        } else {
            output.line(format_args!("{sha256}  {len} bytes from byte {offset}"))
        }
    })?;
    bar.finish_and_clear();
    let (path, sha256) = (args.path.display(), whole.finish());
    if args.json {
        output.json(&json!({"path": path.to_string(), "file_bytes": file_bytes, "sha256": sha256}))?;
    } else {
        output.line(format_args!("{sha256}  {path}"))?;
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}
