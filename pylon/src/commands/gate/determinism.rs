//! Gate B: determinism. The same bytes, and the same weights from them, however and how often they are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use gptoss_gates::Report;
use gptoss_gates::determinism::{self, Range};
use gptoss_model::Quiet;

use super::{Common, Opened};
use crate::error::CliError;
use crate::gguf_file::{Again, GgufFile};

pub use gptoss_gates::determinism::TITLE;

/// Determinism: the same bytes and weights at every reading
///
/// Reads ranges of up to 32 tensors through a new handle each time, positioned and by seeking, and compares hashes of the
/// bytes and of the weights decoded from them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate b models/nano/gpt-oss-nano.gguf --repeat 5")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// How many times to open the file and read
    #[arg(long, value_name = "N", default_value_t = determinism::USUAL_READINGS, value_parser = clap::value_parser!(u32).range(2..))]
    repeat: u32,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let path = &args.common.path;
    let file = Opened::open(path)?;
    file.with(|gated| {
        let again = Again(path);
        let readings = pollster::block_on(determinism::check(gated, &again, args.repeat, report, &Quiet));
        let readings = readings.map_err(|error| CliError::of_gate(error, path))?;
        let read =
            readings.ranges().iter().map(|range| by_seeking(&file.file, range)).collect::<Result<Vec<_>, _>>()?;
        readings.check_other_way("ranges read by seeking", &read, report);
        Ok::<_, CliError>(())
    })
}

/// Reads a range through the standard library's cursor, which shares no code with sources.
fn by_seeking(model: &GgufFile, range: &Range) -> Result<Vec<u8>, CliError> {
    let part = model.parts.iter().rfind(|part| part.first_byte <= range.offset_bytes).unwrap_or(&model.parts[0]);
    let failed = |action| move |source| CliError::File { path: part.path.clone(), action, source };
    let mut file = File::open(&part.path).map_err(failed("open"))?;
    let mut bytes = vec![0; range.len_bytes as usize];
    file.seek(SeekFrom::Start(range.offset_bytes - part.first_byte)).map_err(failed("seek in"))?;
    file.read_exact(&mut bytes).map_err(failed("read"))?;
    Ok(bytes)
}
