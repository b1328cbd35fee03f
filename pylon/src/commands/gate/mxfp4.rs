//! Gate F: MXFP4. Type 39 is found for what it is, and its blocks mean what the specification says.

use gptoss_gates::Report;
use gptoss_gates::mxfp4::{self, BLOCK_BYTES, Decoded};
use gptoss_gguf::TensorInfo;

use super::{Common, Opened};
use crate::error::CliError;
use crate::gguf_file::GgufFile;

pub use gptoss_gates::mxfp4::TITLE;

/// MXFP4: type 39 is identified and decoded as the specification says
///
/// Decodes blocks from all over every MXFP4 tensor, and compares them bit for bit with arithmetic of the gate's own:
/// sign, exponent and mantissa of E2M1 and the E8M0 exponent taken apart in F64, as the OCP Microscaling specification
/// defines them. Needs no GPU; how the GPU decodes them is what `pylon gate c --tensor blk.0.ffn_gate_exps.weight`
/// checks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate f models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Blocks decoded of each tensor, evenly spread; 0 decodes all
    #[arg(long, value_name = "N", default_value_t = 4096)]
    blocks: u64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = Opened::open(&args.common.path)?;
    file.with(|gated| {
        let tensors = mxfp4::tensors(gated, report);
        if tensors.is_empty() {
            return Ok(());
        }
        let mut decoded = Decoded::default();
        for tensor in tensors {
            decode(&file.file, tensor, args.blocks, &mut decoded)?;
        }
        decoded.note(report);
        Ok::<_, CliError>(())
    })
}

/// Decodes `wanted` blocks of a tensor (0: all), evenly spread, including the first and the last.
fn decode(file: &GgufFile, tensor: &TensorInfo, wanted: u64, decoded: &mut Decoded) -> Result<(), CliError> {
    /// Number of adjacent blocks that one read brings.
    const RUN_BLOCKS: u64 = 64;
    let blocks = tensor.size_bytes / BLOCK_BYTES;
    let runs = blocks.div_ceil(RUN_BLOCKS);
    let taken = if wanted == 0 { runs } else { wanted.div_ceil(RUN_BLOCKS).min(runs) };
    for index in 0..taken {
        let run = if taken == 1 { 0 } else { index * (runs - 1) / (taken - 1) };
        let first = run * RUN_BLOCKS;
        let count = RUN_BLOCKS.min(blocks - first);
        decoded.add(tensor, first, &file.read(tensor.offset + first * BLOCK_BYTES, count * BLOCK_BYTES)?);
    }
    Ok(())
}
