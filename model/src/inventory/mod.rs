//! The tensors of a gpt-oss file: found by name, checked for shape and type, all problems reported at once.

mod tensors;
mod types;

use gptoss_gguf::{CodeOrder, Gguf, TensorInfo, WeightType};

use self::tensors::FusedBias;
pub use self::tensors::{ExpertTensor, GateUp, Inventory, LayerTensors, MatrixTensor, PlainTensor, RowOrder};
use crate::config::ModelConfig;
use crate::error::EngineError;

impl Inventory {
    /// Finds all tensors of a model of this shape. Everything that is missing, misshapen or of an unsupported type is
    /// listed in one error.
    pub fn from_gguf(gguf: &Gguf, config: &ModelConfig) -> Result<Self, EngineError> {
        let mut finder = Finder { gguf, config, problems: Vec::new() };
        let (hidden, vocabulary) = (u64::from(config.hidden), u64::from(config.vocabulary));
        let found = Self {
            token_embd: finder.matrix("token_embd.weight", hidden, vocabulary, None),
            layers: (0..config.layers).map(|layer| finder.layer(layer)).collect(),
            output_norm: finder.plain("output_norm.weight", &[hidden]),
            output: finder.matrix("output.weight", hidden, vocabulary, None),
        };
        if finder.problems.is_empty() {
            return Ok(found);
        }
        finder.problems.extend(types::hint(&gguf.tensors));
        Err(EngineError::Tensors { problems: finder.problems })
    }
}

/// The architecture of llama.cpp's files.
const LLAMA_CPP: &str = "gpt-oss";

/// Names that Ollama's converter gives to tensors of a layer, as alternatives to llama.cpp's.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("attn_output.weight", "attn_out.weight"),
    ("attn_output.bias", "attn_out.bias"),
    ("attn_sinks.weight", "attn_sinks"),
    ("post_attention_norm.weight", "ffn_norm.weight"),
];

struct Finder<'a> {
    gguf: &'a Gguf,
    config: &'a ModelConfig,
    problems: Vec<String>,
}

impl Finder<'_> {
    fn layer(&mut self, layer: u32) -> LayerTensors {
        let gguf = self.gguf;
        let name = |suffix: &str| {
            let named = |suffix: &str| format!("blk.{layer}.{suffix}");
            let other = OTHER_NAMES.iter().find(|(usual, _)| *usual == suffix).map(|(_, other)| named(other));
            match other.filter(|other| gguf.tensor(other).is_some()) {
                Some(other) if gguf.tensor(&named(suffix)).is_none() => other,
                _ => named(suffix),
            }
        };
        let config = self.config;
        let [hidden, ff, experts, query, kv] =
            [config.hidden, config.ff, config.experts, config.query_columns(), config.kv_columns()].map(u64::from);
        let (qkv, qkv_bias) = self.qkv(layer, hidden, [query, kv, kv]);
        LayerTensors {
            attn_norm: self.plain(&name("attn_norm.weight"), &[hidden]),
            qkv,
            qkv_bias,
            attn_output: self.matrix(&name("attn_output.weight"), query, hidden, None),
            attn_output_bias: self.plain(&name("attn_output.bias"), &[hidden]),
            attn_sinks: self.plain(&name("attn_sinks.weight"), &[u64::from(config.query_heads)]),
            post_attention_norm: self.plain(&name("post_attention_norm.weight"), &[hidden]),
            router: self.router(&name("ffn_gate_inp.weight"), hidden, experts),
            router_bias: self.plain(&name("ffn_gate_inp.bias"), &[experts]),
            gate_up: self.gate_up(layer, hidden, ff, experts),
            down_exps: self.matrix(&name("ffn_down_exps.weight"), ff, hidden, Some(experts)),
            exps_bias: self.exps_bias(layer, hidden, ff, experts),
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
            std::array::from_fn(|i| bias.slice(first[i], rows[i])),
        )
    }

    /// Gate and up: a tensor each, or one with the rows of both.
    fn gate_up(&mut self, layer: u32, hidden: u64, ff: u64, experts: u64) -> GateUp {
        let [gate, up] = ["gate", "up"].map(|which| format!("blk.{layer}.ffn_{which}_exps.weight"));
        match self.fused(layer, "weight", &[&gate, &up]) {
            Some((name, order)) => GateUp::Fused { both: self.matrix(&name, hidden, 2 * ff, Some(experts)), order },
            None => GateUp::Apart {
                gate: self.matrix(&gate, hidden, ff, Some(experts)),
                up: self.matrix(&up, hidden, ff, Some(experts)),
            },
        }
    }

    fn exps_bias(&mut self, layer: u32, hidden: u64, ff: u64, experts: u64) -> Vec<PlainTensor> {
        let [gate, up, down] = ["gate", "up", "down"].map(|which| format!("blk.{layer}.ffn_{which}_exps.bias"));
        let mut biases = match self.fused(layer, "bias", &[&gate, &up]) {
            Some((name, order)) => {
                let both = self.plain(&name, &[2 * ff, experts]);
                vec![PlainTensor { fused: Some(FusedBias { order, experts }), ..both }]
            }
            None => vec![self.plain(&gate, &[ff, experts]), self.plain(&up, &[ff, experts])],
        };
        biases.push(self.plain(&down, &[hidden, experts]));
        biases
    }

    /// The tensor that joins gate and up, if the file has it in place of the two, and the order of its rows. Only the
    /// architecture tells the order, because the name is the same.
    fn fused(&mut self, layer: u32, suffix: &str, apart: &[&str; 2]) -> Option<(String, RowOrder)> {
        let name = format!("blk.{layer}.ffn_gate_up_exps.{suffix}");
        let there = |name: &str| self.gguf.tensor(name).is_some();
        if !there(&name) || apart.iter().any(|name| there(name)) {
            return None;
        }
        if self.config.architecture != LLAMA_CPP {
            return Some((name, RowOrder::Alternating));
        }
        let foreign =
            OTHER_NAMES.map(|(_, other)| format!("blk.{layer}.{other}")).into_iter().find(|other| there(other));
        if let Some(foreign) = foreign {
            self.problems.push(format!(
                "{name} holds gate and up rows in an order that cannot be known: architecture {LLAMA_CPP} has gate rows \
                 first, but {foreign} is a name of Ollama's converter, which alternates them; expected gate and up in \
                 tensors of their own, or one writer's names"
            ));
        }
        Some((name, RowOrder::GateFirst))
    }

    /// Looks the tensor up; notes a problem if it is missing or has another shape.
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
        let format = found.as_ref().map_or(Ok(WeightType::F32), types::of_plain);
        self.plain_of(name, shape, found, format)
    }

    /// The router's weights: rows like those of a matrix, and so in any format.
    fn router(&mut self, name: &str, hidden: u64, experts: u64) -> PlainTensor {
        let shape = [hidden, experts];
        let found = self.find(name, &shape).cloned();
        let architecture = &self.config.architecture;
        let format = found.as_ref().map_or(Ok(WeightType::F32), |tensor| {
            types::of_matrix(tensor, architecture, false).map(|(format, _)| format)
        });
        self.plain_of(name, &shape, found, format)
    }

    fn plain_of(
        &mut self,
        name: &str,
        shape: &[u64],
        found: Option<TensorInfo>,
        format: Result<WeightType, String>,
    ) -> PlainTensor {
        let format = format.unwrap_or_else(|problem| {
            self.problems.push(problem);
            WeightType::F32
        });
        // After a problem the value is never used, because `from_gguf` returns the problems instead.
        let (offset_bytes, size_bytes) = found.map_or((0, 4), |tensor| (tensor.offset, tensor.size_bytes));
        let values = shape.iter().product();
        PlainTensor { name: name.to_owned(), format, offset_bytes, size_bytes, values, fused: None }
    }

    fn matrix(&mut self, name: &str, columns: u64, rows: u64, experts: Option<u64>) -> MatrixTensor {
        let shape: Vec<u64> = [columns, rows].into_iter().chain(experts).collect();
        let found = self.find(name, &shape).cloned();
        let architecture = &self.config.architecture;
        let stored = found.as_ref().map(|tensor| types::of_matrix(tensor, architecture, experts.is_some()));
        let (format, codes) = stored.unwrap_or(Ok((WeightType::F32, CodeOrder::Halves))).unwrap_or_else(|problem| {
            self.problems.push(problem);
            (WeightType::F32, CodeOrder::Halves)
        });
        let (offset_bytes, size_bytes) = found.map_or((0, 1), |tensor| (tensor.offset, tensor.size_bytes));
        MatrixTensor {
            name: name.to_owned(),
            format,
            offset_bytes,
            size_bytes,
            columns,
            rows,
            experts: experts.unwrap_or(1),
            codes,
        }
    }
}

fn trimmed(shape: &[u64]) -> &[u64] {
    let significant = shape.iter().rposition(|&dimension| dimension != 1).map_or(1, |last| last + 1);
    &shape[..significant.min(shape.len())]
}
