//! Gate B: determinism. The same bytes, and the same weights from them, however and how often they are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use gptoss_gates::Report;
use gptoss_gguf::WeightType;
use serde_json::json;

use super::Common;
use crate::commands::gguf::Sha256Hex;
use crate::error::CliError;
use crate::gguf_file::GgufFile;

pub const TITLE: &str = "determinism: the same bytes and weights at every reading";

/// Length of each range that is read at the beginning, the middle and the end of a tensor, in bytes.
const RANGE_BYTES: u64 = 64 << 10;
/// How many tensors are looked at, evenly over the table.
const TENSORS: usize = 32;

/// Determinism: the same bytes and weights at every reading
///
/// Reads ranges of up to 32 tensors through a new handle each time, positioned and by seeking, and compares hashes;
/// decodes the weights in them twice and compares bits.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate b models/nano/gpt-oss-nano.gguf --repeat 5")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// How many times to open the file and read
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..))]
    repeat: u32,
}

/// A range of a tensor that is read.
struct Range {
    tensor: String,
    format: Option<WeightType>,
    offset_bytes: u64,
    len_bytes: u64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = GgufFile::open_model(&args.common.path)?;
    let ranges = ranges(&file);
    report.fact("openings", args.repeat);
    report.fact("ranges", ranges.len());
    report.fact("bytes in each reading", ranges.iter().map(|range| range.len_bytes).sum::<u64>());

    let first: Vec<String> = positioned(&file, &ranges)?;
    let mut equal_headers = true;
    let mut differing = Vec::new();
    for _ in 1..args.repeat {
        let again = GgufFile::open_model(&args.common.path)?;
        equal_headers &= again.gguf == file.gguf;
        note_differences(&ranges, &first, &positioned(&again, &ranges)?, &mut differing);
    }
    report.check("header read again", equal_headers, if equal_headers { "equal" } else { "it differs" });
    report.check("ranges read again at their positions", differing.is_empty(), described(&differing));

    let mut differing = Vec::new();
    note_differences(&ranges, &first, &by_seeking(&file, &ranges)?, &mut differing);
    report.check("ranges read by seeking", differing.is_empty(), described(&differing));

    let (mut decoded, mut differing) = (0, Vec::new());
    for range in &ranges {
        let Some(format) = range.format else { continue };
        let bytes = file.read(range.offset_bytes, range.len_bytes)?;
        let bits = |weights: Vec<f32>| weights.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let again = file.read(range.offset_bytes, range.len_bytes)?;
        if bits(format.decode(&bytes)) != bits(format.decode(&again)) {
            differing.push(range.tensor.clone());
        }
        decoded += range.len_bytes / format.block_bytes() * format.block_weights();
    }
    report.fact("sha256 of the first range", json!(first.first()));
    report.check("weights decoded twice", decoded > 0 && differing.is_empty(), {
        format!("{decoded} weights, {}", described(&differing))
    });
    Ok(())
}

fn described(differing: &[String]) -> String {
    if differing.is_empty() { "bit for bit equal".into() } else { format!("different: {}", differing.join(", ")) }
}

/// Begin, middle and end of tensors evenly over the table, in whole blocks.
fn ranges(file: &GgufFile) -> Vec<Range> {
    let tensors = &file.gguf.tensors;
    let step = tensors.len().div_ceil(TENSORS).max(1);
    let mut ranges = Vec::new();
    for tensor in tensors.iter().step_by(step) {
        let format = WeightType::of(tensor.kind);
        let block = format.map_or(1, WeightType::block_bytes);
        let whole_blocks = |bytes: u64| bytes / block * block;
        let len_bytes = whole_blocks(RANGE_BYTES.min(tensor.size_bytes));
        let last = tensor.size_bytes - len_bytes;
        let mut places = vec![0, whole_blocks(last / 2), last];
        places.dedup();
        ranges.extend(places.into_iter().filter(|_| len_bytes > 0).map(|place| Range {
            tensor: tensor.name.clone(),
            // The last range of a tensor that is no whole number of blocks is not decoded.
            format: format.filter(|_| place % block == 0),
            offset_bytes: tensor.offset + place,
            len_bytes,
        }));
    }
    ranges
}

fn positioned(file: &GgufFile, ranges: &[Range]) -> Result<Vec<String>, CliError> {
    ranges.iter().map(|range| Ok(Sha256Hex::of(&file.read(range.offset_bytes, range.len_bytes)?))).collect()
}

/// Reads the same ranges through the standard library's cursor, which shares no code with [`GgufFile::read`].
fn by_seeking(model: &GgufFile, ranges: &[Range]) -> Result<Vec<String>, CliError> {
    let read = |range: &Range| {
        let part = model.parts.iter().rfind(|part| part.first_byte <= range.offset_bytes).unwrap_or(&model.parts[0]);
        let failed = |action| move |source| CliError::File { path: part.path.clone(), action, source };
        let mut file = File::open(&part.path).map_err(failed("open"))?;
        let mut bytes = vec![0; range.len_bytes as usize];
        file.seek(SeekFrom::Start(range.offset_bytes - part.first_byte)).map_err(failed("seek in"))?;
        file.read_exact(&mut bytes).map_err(failed("read"))?;
        Ok(Sha256Hex::of(&bytes))
    };
    ranges.iter().map(read).collect()
}

fn note_differences(ranges: &[Range], first: &[String], again: &[String], differing: &mut Vec<String>) {
    for ((range, first), again) in ranges.iter().zip(first).zip(again) {
        if first != again && !differing.contains(&range.tensor) {
            differing.push(range.tensor.clone());
        }
    }
}
