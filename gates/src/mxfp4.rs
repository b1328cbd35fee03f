//! Gate F: MXFP4. Type 39 is found for what it is, and its blocks mean what the specification says.

use gptoss_gguf::{TensorInfo, TensorType, WeightType};

use crate::file::GatedFile;
use crate::report::Report;

/// What the gate is about.
pub const TITLE: &str = "MXFP4: type 39 is identified and decoded as the specification says";

/// Whether a tensor is of type 39.
pub fn is_of(tensor: &TensorInfo) -> bool {
    tensor.kind == TensorType::Mxfp4
}

/// Length of a block in the file.
pub const BLOCK_BYTES: u64 = 17;
/// Weights in a block.
pub const BLOCK_WEIGHTS: u64 = 32;

/// The tensors of type 39, after checking that each has blocks of the right size. Without any the gate could not run.
pub fn tensors<'a>(file: &GatedFile<'a>, report: &mut Report) -> Vec<&'a TensorInfo> {
    let tensors: Vec<&TensorInfo> = file.gguf.tensors.iter().filter(|tensor| is_of(tensor)).collect();
    let bytes: u64 = tensors.iter().map(|tensor| tensor.size_bytes).sum();
    report.fact("tensors of type 39", tensors.len());
    report.fact("bytes in them", bytes);
    if tensors.is_empty() {
        report.could_not_run("the file has no tensor of type 39 (MXFP4)");
        return tensors;
    }
    let misfits: Vec<String> = tensors
        .iter()
        .filter(|tensor| tensor.elements() / BLOCK_WEIGHTS * BLOCK_BYTES != tensor.size_bytes)
        .map(|tensor| tensor.name.clone())
        .collect();
    let found = if misfits.is_empty() { "all of them".to_owned() } else { format!("not {}", misfits.join(", ")) };
    report.check("17 bytes for 32 weights", misfits.is_empty(), found);
    tensors
}

/// Blocks that were decoded, and whether all of them gave what they must.
#[derive(Default)]
pub struct Decoded {
    blocks: u64,
    codes: [bool; 16],
    least_exponent: u8,
    greatest_exponent: u8,
    differences: u64,
    first_difference: Option<String>,
}

impl Decoded {
    /// Decodes whole blocks of a tensor, the first of which is number `first`, and compares them bit for bit with
    /// arithmetic of the gate's own.
    pub fn add(&mut self, tensor: &TensorInfo, first: u64, bytes: &[u8]) {
        for (at, block) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES as usize)) {
            self.look_at(tensor, at, block);
        }
    }

    fn look_at(&mut self, tensor: &TensorInfo, index: u64, block: &[u8]) {
        let exponent = block[0];
        if self.blocks == 0 {
            self.least_exponent = exponent;
        }
        self.least_exponent = self.least_exponent.min(exponent);
        self.greatest_exponent = self.greatest_exponent.max(exponent);
        self.blocks += 1;
        let decoded = WeightType::Mxfp4.decode(block);
        for (weight, &got) in decoded.iter().enumerate() {
            // Weight j lies in the low nibble of byte j, weight j + 16 in its high one.
            let byte = block[1 + weight % 16];
            let code = if weight < 16 { byte & 15 } else { byte >> 4 };
            self.codes[usize::from(code)] = true;
            // The value is exact in F64, and also in F32 unless it is too large, which makes it infinite.
            let expected = value(exponent, code) as f32;
            if got.to_bits() != expected.to_bits() {
                self.differences += 1;
                let place = format!("{}, block {index}, weight {weight}: {got:e}, expected {expected:e}", tensor.name);
                self.first_difference.get_or_insert(place);
            }
        }
    }

    /// Notes what came of it.
    pub fn note(self, report: &mut Report) {
        report.fact("blocks decoded", self.blocks);
        report.fact("exponents", format!("{} to {}", self.least_exponent, self.greatest_exponent));
        report.fact("codes seen", format!("{} of 16", self.codes.iter().filter(|&&seen| seen).count()));
        let found = match &self.first_difference {
            None => format!("{} weights, bit for bit", self.blocks * BLOCK_WEIGHTS),
            Some(first) => format!("{} weights differ, first {first}", self.differences),
        };
        report.check("decoded as E8M0 times E2M1", self.first_difference.is_none(), found);
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
