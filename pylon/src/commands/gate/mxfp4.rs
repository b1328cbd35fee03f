//! Gate F: MXFP4. Type 39 is found for what it is, and its blocks mean what the specification says.

use gptoss_gguf::{TensorInfo, TensorType, WeightType};

use super::Common;
use super::report::Report;
use crate::error::CliError;
use crate::gguf_file::GgufFile;

pub const TITLE: &str = "MXFP4: type 39 is identified and decoded as the specification says";

const BLOCK_BYTES: u64 = 17;
const BLOCK_WEIGHTS: u64 = 32;

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
    let file = GgufFile::open_model(&args.common.path)?;
    let tensors: Vec<&TensorInfo> =
        file.gguf.tensors.iter().filter(|tensor| tensor.kind == TensorType::Mxfp4).collect();
    let bytes: u64 = tensors.iter().map(|tensor| tensor.size_bytes).sum();
    report.fact("tensors of type 39", tensors.len());
    report.fact("bytes in them", bytes);
    if tensors.is_empty() {
        report.could_not_run("the file has no tensor of type 39 (MXFP4)");
        return Ok(());
    }
    let misfits: Vec<String> = tensors
        .iter()
        .filter(|tensor| tensor.elements() / BLOCK_WEIGHTS * BLOCK_BYTES != tensor.size_bytes)
        .map(|tensor| tensor.name.clone())
        .collect();
    let found = if misfits.is_empty() { "all of them".to_owned() } else { format!("not {}", misfits.join(", ")) };
    report.check("17 bytes for 32 weights", misfits.is_empty(), found);

    let mut seen = Seen::default();
    for tensor in &tensors {
        decode(&file, tensor, args.blocks, &mut seen)?;
    }
    report.fact("blocks decoded", seen.blocks);
    report.fact("exponents", format!("{} to {}", seen.least_exponent, seen.greatest_exponent));
    report.fact("codes seen", format!("{} of 16", seen.codes.iter().filter(|&&seen| seen).count()));
    let found = match &seen.first_difference {
        None => format!("{} weights, bit for bit", seen.blocks * BLOCK_WEIGHTS),
        Some(first) => format!("{} weights differ, first {first}", seen.differences),
    };
    report.check("decoded as E8M0 times E2M1", seen.first_difference.is_none(), found);
    Ok(())
}

/// Statistics of what was decoded.
#[derive(Default)]
struct Seen {
    blocks: u64,
    codes: [bool; 16],
    least_exponent: u8,
    greatest_exponent: u8,
    differences: u64,
    first_difference: Option<String>,
}

/// Decodes `wanted` blocks of a tensor (0: all), evenly spread, including the first and the last.
fn decode(file: &GgufFile, tensor: &TensorInfo, wanted: u64, seen: &mut Seen) -> Result<(), CliError> {
    /// Number of adjacent blocks that one read brings.
    const RUN_BLOCKS: u64 = 64;
    let blocks = tensor.size_bytes / BLOCK_BYTES;
    let runs = blocks.div_ceil(RUN_BLOCKS);
    let taken = if wanted == 0 { runs } else { wanted.div_ceil(RUN_BLOCKS).min(runs) };
    for index in 0..taken {
        let run = if taken == 1 { 0 } else { index * (runs - 1) / (taken - 1) };
        let first = run * RUN_BLOCKS;
        let count = RUN_BLOCKS.min(blocks - first);
        let bytes = file.read(tensor.offset + first * BLOCK_BYTES, count * BLOCK_BYTES)?;
        for (at, block) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES as usize)) {
            look_at(tensor, at, block, seen);
        }
    }
    Ok(())
}

fn look_at(tensor: &TensorInfo, index: u64, block: &[u8], seen: &mut Seen) {
    let exponent = block[0];
    if seen.blocks == 0 {
        seen.least_exponent = exponent;
    }
    seen.least_exponent = seen.least_exponent.min(exponent);
    seen.greatest_exponent = seen.greatest_exponent.max(exponent);
    seen.blocks += 1;
    let decoded = WeightType::Mxfp4.decode(block);
    for (weight, &got) in decoded.iter().enumerate() {
        // Weight j lies in the low nibble of byte j, weight j + 16 in its high one.
        let byte = block[1 + weight % 16];
        let code = if weight < 16 { byte & 15 } else { byte >> 4 };
        seen.codes[usize::from(code)] = true;
        // The value is exact in F64, and also in F32 unless it is too large, which makes it infinite.
        let expected = value(exponent, code) as f32;
        if got.to_bits() != expected.to_bits() {
            seen.differences += 1;
            let place = format!("{}, block {index}, weight {weight}: {got:e}, expected {expected:e}", tensor.name);
            seen.first_difference.get_or_insert(place);
        }
    }
}

/// Value of an E2M1 code times an E8M0 scale, from the specification: S EE M, exponent bias 1, subnormal where E is 0;
/// scale 2^(X − 127).
fn value(exponent: u8, code: u8) -> f64 {
    let sign = if code & 8 != 0 { -1.0 } else { 1.0 };
    let (e, m) = (i32::from(code >> 1 & 3), f64::from(code & 1));
    let magnitude = if e == 0 { m * 0.5 } else { (1.0 + m * 0.5) * 2f64.powi(e - 1) };
    sign * magnitude * 2f64.powi(i32::from(exponent) - 127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_the_specification() {
        let values: Vec<f64> = (0..16).map(|code| value(127, code)).collect();
        assert_eq!(values[..8], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        assert!((0..8).all(|code| values[code + 8] == -values[code] && values[code + 8].is_sign_negative()));
        assert_eq!(value(130, 7), 48.0);
    }
}
