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
        finder.require_uniform_experts(&found.layers);
        if finder.problems.is_empty() { Ok(found) } else { Err(EngineError::Tensors { problems: finder.problems }) }
    }
}

struct Finder<'a> {
    gguf: &'a Gguf,
    problems: Vec<String>,
}

impl Finder<'_> {
    fn layer(&mut self, layer: u32, config: &ModelConfig) -> LayerTensors {
        let name = |suffix: &str| format!("blk.{layer}.{suffix}");
        let hidden = u64::from(config.hidden);
        let ff = u64::from(config.ff);
        let experts = u64::from(config.experts);
        let query = u64::from(config.query_columns());
        let kv = u64::from(config.kv_columns());
        LayerTensors {
            attn_norm: self.plain(&name("attn_norm.weight"), &[hidden]),
            qkv: [
                self.matrix(&name("attn_q.weight"), hidden, query, None),
                self.matrix(&name("attn_k.weight"), hidden, kv, None),
                self.matrix(&name("attn_v.weight"), hidden, kv, None),
            ],
            qkv_bias: [
                self.plain(&name("attn_q.bias"), &[query]),
                self.plain(&name("attn_k.bias"), &[kv]),
                self.plain(&name("attn_v.bias"), &[kv]),
            ],
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

    /// Expert slots are laid out alike in all layers, with gate and up rows interleaved: their formats must agree.
    fn require_uniform_experts(&mut self, layers: &[LayerTensors]) {
        let Some(first) = layers.first() else { return };
        for layer in layers {
            for (tensor, expected) in [
                (&layer.gate_exps, first.gate_exps.format),
                (&layer.up_exps, first.gate_exps.format),
                (&layer.down_exps, first.down_exps.format),
            ] {
                if tensor.format != expected {
                    self.problems.push(format!(
                        "{} has type {:?}; expected {expected:?} as in the first layer",
                        tensor.name, tensor.format
                    ));
                }
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
            self.problems.push(format!("{name} has type {}; expected F32", tensor.kind.name()));
        }
        // After a problem the value is never used: `from_gguf` returns the problems instead.
        let (offset_bytes, size_bytes) = found.map_or((0, 4), |tensor| (tensor.offset, tensor.size_bytes));
        PlainTensor { name: name.to_owned(), offset_bytes, size_bytes }
    }

    fn matrix(&mut self, name: &str, columns: u64, rows: u64, experts: Option<u64>) -> MatrixTensor {
        let shape: Vec<u64> = [columns, rows].into_iter().chain(experts).collect();
        let found = self.find(name, &shape).cloned();
        let format = found.as_ref().and_then(|tensor| {
            let format = format_of(tensor.kind);
            if format.is_none() {
                self.problems.push(format!(
                    "{name} has type {}; supported are Q8_0, MXFP4, F32, F16 and BF16",
                    tensor.kind.name()
                ));
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

fn format_of(kind: TensorType) -> Option<Format> {
    match kind {
        TensorType::F32 => Some(Format::F32),
        TensorType::F16 => Some(Format::F16),
        TensorType::BF16 => Some(Format::Bf16),
        TensorType::Q8_0 => Some(Format::Q8_0),
        TensorType::Mxfp4 => Some(Format::Mxfp4),
        _ => None,
    }
}
