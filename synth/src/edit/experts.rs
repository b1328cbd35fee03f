//! Expert tensors as other writers lay them out.

use gptoss_gguf::TensorType;

use super::{Edit, FusedOrder, RawTensor};

/// Ollama's id of MXFP4 in August 2025, which ggml had used for Q4_2 before.
const EARLY_OLLAMA_MXFP4: u32 = 4;
const MXFP4_BYTES: usize = 17;

impl Edit {
    /// Joins gate and up of a layer, weights and biases, to `ffn_gate_up_exps`.
    ///
    /// # Panics
    /// If they are not there, or differ in type or shape.
    pub fn fuse_gate_up(&mut self, layer: u32, order: FusedOrder) -> &mut Self {
        for suffix in ["weight", "bias"] {
            let [gate, up] = ["gate", "up"].map(|which| self.take(&format!("blk.{layer}.ffn_{which}_exps.{suffix}")));
            assert_eq!((&gate.shape, gate.kind), (&up.shape, up.kind), "gate and up of layer {layer} differ");
            let mut fused = fused(&gate, &up, order);
            fused.name = format!("blk.{layer}.ffn_gate_up_exps.{suffix}");
            self.tensors.push(fused);
        }
        self
    }

    /// Turns the file into one of Ollama's first, of August 2025: architecture `gptoss`, gate and up in one tensor with
    /// alternating rows, and MXFP4 under the id 4, with two neighbouring weights in a byte as in OpenAI's own files.
    ///
    /// # Panics
    /// If experts are of another type than MXFP4.
    pub fn early_ollama(&mut self, layers: u32) -> &mut Self {
        self.architecture("gptoss");
        for layer in 0..layers {
            self.fuse_gate_up(layer, FusedOrder::Alternating);
            for which in ["gate_up", "down"] {
                let tensor = self.tensor(&format!("blk.{layer}.ffn_{which}_exps.weight"));
                assert_eq!(tensor.kind, TensorType::Mxfp4.id(), "{} is not of type MXFP4", tensor.name);
                tensor.kind = EARLY_OLLAMA_MXFP4;
                tensor.data.chunks_exact_mut(MXFP4_BYTES).for_each(|block| neighbours_in_a_byte(&mut block[1..]));
            }
        }
        self
    }
}

/// Joins the rows of both for each expert. A bias is a row of single values.
fn fused(gate: &RawTensor, up: &RawTensor, order: FusedOrder) -> RawTensor {
    let experts = *gate.shape.last().expect("a dimension") as usize;
    let row_bytes =
        if gate.shape.len() == 2 { gate.data.len() / (gate.shape[0] as usize * experts) } else { gate.row_bytes() };
    let expert_bytes = gate.data.len() / experts;
    let both = gate.data.chunks_exact(expert_bytes).zip(up.data.chunks_exact(expert_bytes));
    let data = both.flat_map(|(gate, up)| match order {
        FusedOrder::GateFirst => [gate, up].concat(),
        FusedOrder::Alternating => {
            let rows = gate.chunks_exact(row_bytes).zip(up.chunks_exact(row_bytes));
            rows.flat_map(|(gate, up)| [gate, up].concat()).collect()
        }
    });
    let mut shape = gate.shape.clone();
    let rows = shape.len() - 2;
    shape[rows] *= 2;
    RawTensor { name: String::new(), shape, kind: gate.kind, data: data.collect() }
}

/// Reorders codes from llama.cpp's order (weight j in the low nibble of byte j, weight j + 16 in the high one) to
/// OpenAI's (weights 2j and 2j + 1 in byte j).
fn neighbours_in_a_byte(codes: &mut [u8]) {
    let weight = |codes: &[u8], j: usize| if j < 16 { codes[j] & 15 } else { codes[j - 16] >> 4 };
    let before = codes.to_vec();
    for (j, byte) in codes.iter_mut().enumerate() {
        *byte = weight(&before, 2 * j) | weight(&before, 2 * j + 1) << 4;
    }
}
