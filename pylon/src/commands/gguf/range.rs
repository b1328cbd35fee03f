//! `pylon gguf range`: hash a range of bytes, several times.

use std::path::PathBuf;
use std::process::ExitCode;

use gptoss_source::FileSource;
use serde_json::json;

use super::Sha256Hex;
use crate::error::CliError;
use crate::exit;
use crate::gguf_file::{CHUNK_BYTES, GgufFile, read_chunks};
use crate::output::{Output, unless_reader_gone};

/// Read a range of the file, or of a tensor, and print its SHA-256
///
/// With --repeat the range is read that many times, through a handle of its own each time; all hashes must agree, or
/// the exit status is 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gguf range models/nano/gpt-oss-nano.gguf --tensor output.weight --len 65536 --repeat 3")]
pub struct Args {
    /// GGUF file
    path: PathBuf,
    /// Count the offset from the begin of this tensor, and stay inside it
    #[arg(long, value_name = "NAME", conflicts_with = "tensor_index")]
    tensor: Option<String>,
    /// The same for the tensor at this place in the table, counted from 0
    #[arg(long, value_name = "INDEX")]
    tensor_index: Option<usize>,
    /// First byte
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// How many bytes; up to the end of the tensor, or of the file, if not given
    #[arg(long, value_name = "BYTES")]
    len: Option<u64>,
    /// How many times to read
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    let file = GgufFile::open(&args.path)?;
    let (what, offset, len) = place(args, &file)?;
    drop(file);
    let mut hashes = Vec::new();
    for _ in 0..args.repeat {
        let source = FileSource::open(&args.path)?;
        let mut hash = Sha256Hex::default();
        read_chunks(&source, offset, len, CHUNK_BYTES, |_, bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        hashes.push(hash.finish());
    }
    let consistent = hashes.iter().all(|hash| *hash == hashes[0]);
    let json = json!({
        "path": args.path.display().to_string(),
        "range": what,
        "offset": offset,
        "len": len,
        "sha256": hashes[0],
        "repeat": args.repeat,
        "consistent": consistent,
    });
    let text = if consistent {
        format!("{}  {what}: {len} bytes from byte {offset} of the file", hashes[0])
    } else {
        let differ = format!("{what}: {len} bytes from byte {offset} of the file differ from read to read:\n");
        differ + &hashes.join("\n")
    };
    let mut output = Output::new();
    let written = if args.json { output.json(&json) } else { output.line(text) };
    unless_reader_gone(written.and_then(|()| output.finish()))?;
    Ok(if consistent { exit::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// The range to read: its name, its first byte in the file, and its length.
fn place(args: &Args, file: &GgufFile) -> Result<(String, u64, u64), CliError> {
    let tensors = &file.gguf.tensors;
    let tensor = match (&args.tensor, args.tensor_index) {
        (Some(name), _) => Some(file.tensor(name)?),
        (None, Some(index)) => Some(tensors.get(index).ok_or_else(|| CliError::Argument {
            what: "--tensor-index".into(),
            got: index.to_string(),
            expected: format!("less than {}, the number of tensors", tensors.len()),
        })?),
        (None, None) => None,
    };
    let (what, begin, size) = match tensor {
        Some(tensor) => (tensor.name.clone(), tensor.offset, tensor.size_bytes),
        None => ("the file".to_owned(), 0, file.gguf.file_len),
    };
    let outside = |flag: &str, got: u64, most: u64| CliError::Argument {
        what: flag.into(),
        got: got.to_string(),
        expected: format!("at most {most}: {what} has {size} bytes"),
    };
    let room = size.checked_sub(args.offset).ok_or_else(|| outside("--offset", args.offset, size))?;
    let len = args.len.unwrap_or(room);
    if len > room {
        return Err(outside("--len", len, room));
    }
    Ok((what, begin + args.offset, len))
}
