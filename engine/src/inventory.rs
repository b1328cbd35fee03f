//! The tensors of a gpt-oss file: found by name, checked for shape and type, all problems reported at once.

use gptoss_gguf::{Gguf, TensorInfo, TensorType};
use gptoss_kernels::format::Format;

use crate::config::ModelConfig;
use crate::error::EngineError;

/// A matrix in the file: `rows` rows of `columns` weights each, `experts` times.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixTensor {
    pub name: String,
    pub format: Format,
    pub offset_bytes: u64,
    pub size_bytes: u64,
    pub columns: u64,
    /// Rows of one expert, or of the whole matrix.
    pub rows: u64,
    /// 1 for dense matrices.
    pub experts: u64,
}

impl MatrixTensor {
    pub fn row_bytes(&self) -> u64 {
        self.size_bytes / (self.rows * self.experts)
    }

    /// Some rows of a dense matrix as a matrix of its own.
    fn slice(&self, first_row: u64, rows: u64) -> Self {
        let offset_bytes = self.offset_bytes + first_row * self.row_bytes();
        Self { offset_bytes, size_bytes: rows * self.row_bytes(), rows, ..self.clone() }
    }

    /// First byte of an expert's rows in the file.
    pub fn expert_offset_bytes(&self, expert: u32) -> u64 {
        self.offset_bytes + u64::from(expert) * self.rows * self.row_bytes()
    }
}

/// An F32 tensor that is used as it is: norms, biases, sinks, the router.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainTensor {
    pub name: String,
    pub offset_bytes: u64,
    pub size_bytes: u64,
}

/// The tensors of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTensors {
    pub attn_norm: PlainTensor,
    /// Query, key, value.
    pub qkv: [MatrixTensor; 3],
    pub qkv_bias: [PlainTensor; 3],
    pub attn_output: MatrixTensor,
    pub attn_output_bias: PlainTensor,
    pub attn_sinks: PlainTensor,
    pub post_attention_norm: PlainTensor,
    pub router: PlainTensor,
    pub router_bias: PlainTensor,
    pub gate_exps: MatrixTensor,
    pub up_exps: MatrixTensor,
    pub down_exps: MatrixTensor,
    /// Gate, up, down.
    pub exps_bias: [PlainTensor; 3],
}

impl LayerTensors {
    /// Of all experts together.
    pub fn expert_file_bytes(&self) -> u64 {
        self.gate_exps.size_bytes + self.up_exps.size_bytes + self.down_exps.size_bytes
    }
}

/// Every tensor of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    pub token_embd: MatrixTensor,
    pub layers: Vec<LayerTensors>,
    pub output_norm: PlainTensor,
    pub output: MatrixTensor,
}

impl Inventory {
    /// Finds all tensors of a model of this shape. What is missing, misshapen or of a type that is not supported is
    /// listed in one error.
    pub fn from_gguf(gguf: &Gguf, config: &ModelConfig) -> Result<Self, EngineError> {
        let mut finder = Finder { gguf, problems: Vec::new() };
        let (hidden, vocabulary) = (u64::from(config.hidden), u64::from(config.vocabulary));
        let found = Self {
            token_embd: finder.matrix("token_embd.weight", hidden, vocabulary, None),
            layers: (0..config.layers).map(|layer| finder.layer(layer, config)).collect(),
            output_norm: finder.plain("output_norm.weight", &[hidden]),
            output: finder.matrix("output.weight", hidden, vocabulary, None),
        };
        finder.require_alike_gate_and_up(&found.layers);
        if finder.problems.is_empty() { Ok(found) } else { Err(EngineError::Tensors { problems: finder.problems }) }
    }

    /// Every matrix that goes to the GPU: all but the embedding.
    pub fn gpu_matrices(&self) -> impl Iterator<Item = &MatrixTensor> {
        let of_layers = self.layers.iter().flat_map(|layer| {
            layer.qkv.iter().chain([&layer.attn_output, &layer.gate_exps, &layer.up_exps, &layer.down_exps])
        });
        std::iter::once(&self.output).chain(of_layers)
    }

    /// The formats of [`Inventory::gpu_matrices`].
    pub fn gpu_formats(&self) -> Vec<Format> {
        Format::ALL.into_iter().filter(|&format| self.gpu_matrices().any(|matrix| matrix.format == format)).collect()
    }
}

/// Names that Ollama's converter gives to tensors of a layer, after llama.cpp's.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("attn_output.weight", "attn_out.weight"),
    ("attn_output.bias", "attn_out.bias"),
    ("attn_sinks.weight", "attn_sinks"),
    ("post_attention_norm.weight", "ffn_norm.weight"),
];

struct Finder<'a> {
    gguf: &'a Gguf,
    problems: Vec<String>,
}

impl Finder<'_> {
    fn layer(&mut self, layer: u32, config: &ModelConfig) -> LayerTensors {
        let gguf = self.gguf;
        let name = |suffix: &str| {
            let named = |suffix: &str| format!("blk.{layer}.{suffix}");
            let other = OTHER_NAMES.iter().find(|(usual, _)| *usual == suffix).map(|(_, other)| named(other));
            match other.filter(|other| gguf.tensor(other).is_some()) {
                Some(other) if gguf.tensor(&named(suffix)).is_none() => other,
                _ => named(suffix),
            }
        };
        let hidden = u64::from(config.hidden);
        let ff = u64::from(config.ff);
        let experts = u64::from(config.experts);
        let query = u64::from(config.query_columns());
        let kv = u64::from(config.kv_columns());
        let (qkv, qkv_bias) = self.qkv(layer, hidden, [query, kv, kv]);
        LayerTensors {
            attn_norm: self.plain(&name("attn_norm.weight"), &[hidden]),
            qkv,
            qkv_bias,
            attn_output: self.matrix(&name("attn_output.weight"), query, hidden, None),
            attn_output_bias: self.plain(&name("attn_output.bias"), &[hidden]),
            attn_sinks: self.plain(&name("attn_sinks.weight"), &[u64::from(config.query_heads)]),
            post_attention_norm: self.plain(&name("post_attention_norm.weight"), &[hidden]),
            router: self.plain(&name("ffn_gate_inp.weight"), &[hidden, experts]),
            router_bias: self.plain(&name("ffn_gate_inp.bias"), &[experts]),
            gate_exps: self.matrix(&name("ffn_gate_exps.weight"), hidden, ff, Some(experts)),
            up_exps: self.matrix(&name("ffn_up_exps.weight"), hidden, ff, Some(experts)),
            down_exps: self.matrix(&name("ffn_down_exps.weight"), ff, hidden, Some(experts)),
            exps_bias: [
                self.plain(&name("ffn_gate_exps.bias"), &[ff, experts]),
                self.plain(&name("ffn_up_exps.bias"), &[ff, experts]),
                self.plain(&name("ffn_down_exps.bias"), &[hidden, experts]),
            ],
        }
    }

    /// Query, key and value with their biases: three tensors each, or one with the rows of all three (Ollama).
    fn qkv(&mut self, layer: u32, hidden: u64, rows: [u64; 3]) -> ([MatrixTensor; 3], [PlainTensor; 3]) {
        let fused = format!("blk.{layer}.attn_qkv");
        if self.gguf.tensor(&format!("{fused}.weight")).is_none() {
            let names = ["q", "k", "v"].map(|which| format!("blk.{layer}.attn_{which}"));
            let [matrices, biases] = [".weight", ".bias"].map(|suffix| names.clone().map(|name| name + suffix));
            return (
                std::array::from_fn(|i| self.matrix(&matrices[i], hidden, rows[i], None)),
                std::array::from_fn(|i| self.plain(&biases[i], &[rows[i]])),
            );
        }
        let all_rows = rows.iter().sum();
        let matrix = self.matrix(&format!("{fused}.weight"), hidden, all_rows, None);
        let bias = self.plain(&format!("{fused}.bias"), &[all_rows]);
        let first = [0, rows[0], rows[0] + rows[1]];
        (
            std::array::from_fn(|i| matrix.slice(first[i], rows[i])),
            std::array::from_fn(|i| PlainTensor {
                name: bias.name.clone(),
                offset_bytes: bias.offset_bytes + first[i] * 4,
                size_bytes: rows[i] * 4,
            }),
        )
    }

    /// Gate and up rows of an expert interleave in its slot, and one kernel multiplies both: their formats must agree,
    /// as they do in every file that llama.cpp's quantiser writes. Down may differ, and so may layers.
    fn require_alike_gate_and_up(&mut self, layers: &[LayerTensors]) {
        for LayerTensors { gate_exps: gate, up_exps: up, .. } in layers {
            let kind = |tensor: &MatrixTensor| self.gguf.tensor(&tensor.name).map(|found| found.kind);
            if let (Some(gate_kind), Some(up_kind)) = (kind(gate), kind(up))
                && gate_kind != up_kind
            {
                self.problems
                    .push(format!("{} has type {up_kind}; expected {gate_kind} as {} has", up.name, gate.name));
            }
        }
    }

    /// The tensor, if it is there and has this shape; a problem is noted otherwise.
    fn find(&mut self, name: &str, shape: &[u64]) -> Option<&TensorInfo> {
        match self.gguf.tensor(name) {
            None => {
                self.problems.push(format!("{name} is missing; expected shape {shape:?}"));
                None
            }
            // A trailing dimension of 1 may be written or left out.
            Some(tensor) if trimmed(&tensor.shape) != trimmed(shape) => {
                self.problems.push(format!("{name} has shape {:?}; expected {shape:?}", tensor.shape));
                None
            }
            Some(tensor) => Some(tensor),
        }
    }

    fn plain(&mut self, name: &str, shape: &[u64]) -> PlainTensor {
        let found = self.find(name, shape).cloned();
        if let Some(tensor) = found.as_ref().filter(|tensor| tensor.kind != TensorType::F32) {
            self.problems.push(format!("{name} has type {}; expected F32", tensor.kind));
        }
        // After a problem the value is never used: `from_gguf` returns the problems instead.
        let (offset_bytes, size_bytes) = found.map_or((0, 4), |tensor| (tensor.offset, tensor.size_bytes));
        PlainTensor { name: name.to_owned(), offset_bytes, size_bytes }
    }

    fn matrix(&mut self, name: &str, columns: u64, rows: u64, experts: Option<u64>) -> MatrixTensor {
        let shape: Vec<u64> = [columns, rows].into_iter().chain(experts).collect();
        let found = self.find(name, &shape).cloned();
        let format = found.as_ref().and_then(|tensor| {
            let format = Format::from_name(tensor.kind.name());
            if format.is_none() {
                let supported = Format::supported_names();
                self.problems.push(format!("{name} has type {}; supported are {supported}", tensor.kind));
            }
            format
        });
        let (offset_bytes, size_bytes) = found.map_or((0, 1), |tensor| (tensor.offset, tensor.size_bytes));
        MatrixTensor {
            name: name.to_owned(),
            format: format.unwrap_or(Format::F32),
            offset_bytes,
            size_bytes,
            columns,
            rows,
            experts: experts.unwrap_or(1),
        }
    }
}

fn trimmed(shape: &[u64]) -> &[u64] {
    let significant = shape.iter().rposition(|&dimension| dimension != 1).map_or(1, |last| last + 1);
    &shape[..significant.min(shape.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_that_files_may_have_are_those_that_kernels_exist_for() {
        let formats = gptoss_gguf::GPT_OSS_TYPES.map(|kind| Format::from_name(kind.name()));
        assert_eq!(formats, Format::ALL.map(Some));
    }
}
