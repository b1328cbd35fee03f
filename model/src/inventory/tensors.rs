//! What the engine knows of a tensor that it uses.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::ops::experts::{ExpertFormats, ExpertRows};
use gptoss_gguf::{CodeOrder, WeightType};

/// A matrix in the file: `rows` rows of `columns` weights each, `experts` times.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixTensor {
    /// ggml name, as in the file.
    pub name: String,
    /// Format of the weights.
    pub format: WeightType,
    /// Position of the first byte in the file.
    pub offset_bytes: u64,
    /// Length in the file, in bytes.
    pub size_bytes: u64,
    /// Weights in a row (ne0).
    pub columns: u64,
    /// Rows of one expert, or of the whole matrix.
    pub rows: u64,
    /// Number of experts; 1 for dense matrices.
    pub experts: u64,
    /// Order of the codes in its MXFP4 blocks.
    pub codes: CodeOrder,
}

impl MatrixTensor {
    /// Length of a row in the file, in bytes.
    pub fn row_bytes(&self) -> u64 {
        self.size_bytes / (self.rows * self.experts)
    }

    /// Some rows of a dense matrix as a matrix of its own.
    pub(super) fn slice(&self, first_row: u64, rows: u64) -> Self {
        let offset_bytes = self.offset_bytes + first_row * self.row_bytes();
        Self { offset_bytes, size_bytes: rows * self.row_bytes(), rows, ..self.clone() }
    }

    /// First byte of an expert's rows in the file.
    pub fn expert_offset_bytes(&self, expert: u32) -> u64 {
        self.offset_bytes + u64::from(expert) * self.rows * self.row_bytes()
    }

    /// Decodes whole blocks of the file.
    pub fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        match self.codes {
            CodeOrder::Halves => self.format.decode(bytes),
            CodeOrder::Neighbours => {
                let mut blocks = bytes.to_vec();
                self.codes.to_halves(&mut blocks);
                self.format.decode(&blocks)
            }
        }
    }
}

/// The order of gate's and up's rows in a tensor that joins them, for each expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// Gate 0, gate 1, …, up 0, up 1, …: llama.cpp's converter (`--fuse-gate-up-exps`), architecture `gpt-oss`.
    GateFirst,
    /// Gate 0, up 0, gate 1, …: OpenAI's own files, and Ollama's converter, architecture `gptoss`.
    Alternating,
}

impl RowOrder {
    /// Gate's and up's rows of one expert, from all of its rows of `columns` values.
    pub fn split(self, both: &[f32], columns: usize) -> [Vec<f32>; 2] {
        let rows: Vec<&[f32]> = both.chunks_exact(columns).collect();
        let half = rows.len() / 2;
        [0, 1].map(|which| {
            let at = |row: usize| match self {
                Self::GateFirst => which * half + row,
                Self::Alternating => 2 * row + which,
            };
            (0..half).flat_map(|row| rows[at(row)].iter().copied()).collect()
        })
    }
}

/// A tensor with the biases of gate and up of all experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FusedBias {
    pub order: RowOrder,
    pub experts: u64,
}

/// A tensor that is used in F32: a norm, a bias, sinks, the router. Other formats are widened when it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainTensor {
    /// ggml name, as in the file.
    pub name: String,
    /// Format of the values in the file.
    pub format: WeightType,
    /// Position of the first byte in the file.
    pub offset_bytes: u64,
    /// Length in the file, in bytes.
    pub size_bytes: u64,
    /// Number of its values.
    pub values: u64,
    pub(super) fused: Option<FusedBias>,
}

impl PlainTensor {
    /// Bytes of its values in F32.
    pub fn f32_bytes(&self) -> u64 {
        self.values * 4
    }

    /// Whether the file's bytes are used without conversion.
    pub fn is_used_as_it_is(&self) -> bool {
        self.format == WeightType::F32 && self.fused.is_none()
    }

    /// Decodes the values; if the tensor joins the biases of gate and up, those of gate come first, [experts, ff] each.
    pub fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        let values = self.format.decode(bytes);
        let Some(FusedBias { order, experts }) = self.fused else { return values };
        let (mut all, mut up) = (Vec::with_capacity(values.len()), Vec::new());
        for expert in values.chunks_exact(values.len() / experts as usize) {
            let [of_gate, of_up] = order.split(expert, 1);
            all.extend(of_gate);
            up.extend(of_up);
        }
        all.extend(up);
        all
    }

    /// Some values of a tensor without blocks as a tensor of its own.
    pub(super) fn slice(&self, first: u64, values: u64) -> Self {
        let value_bytes = self.size_bytes / self.values.max(1);
        Self {
            offset_bytes: self.offset_bytes + first * value_bytes,
            size_bytes: values * value_bytes,
            values,
            ..self.clone()
        }
    }
}

/// Gate and up of all experts of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum GateUp {
    /// Each is a tensor of its own, and their formats may differ.
    Apart {
        /// Gate matrices, ff rows for each expert.
        gate: MatrixTensor,
        /// Up matrices, ff rows for each expert.
        up: MatrixTensor,
    },
    /// One tensor has both: 2 · ff rows for each expert.
    Fused {
        /// The joint tensor.
        both: MatrixTensor,
        /// Order of its rows.
        order: RowOrder,
    },
}

/// A tensor of all experts, and which rows of an expert are what.
pub struct ExpertTensor<'a> {
    /// The tensor.
    pub tensor: &'a MatrixTensor,
    /// What the tensor has for each expert, with the range of rows.
    pub parts: Vec<(ExpertRows, Range<u64>)>,
}

/// The tensors of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTensors {
    /// Weight of the norm before attention: `attn_norm`.
    pub attn_norm: PlainTensor,
    /// Query, key, value.
    pub qkv: [MatrixTensor; 3],
    /// Biases of query, key and value.
    pub qkv_bias: [PlainTensor; 3],
    /// Projection of the heads back to the residual stream: `attn_output`.
    pub attn_output: MatrixTensor,
    /// Bias of that projection.
    pub attn_output_bias: PlainTensor,
    /// One logit for each query head, which takes part in its softmax: `attn_sinks`.
    pub attn_sinks: PlainTensor,
    /// Weight of the norm before the experts: `post_attention_norm` or `ffn_norm`.
    pub post_attention_norm: PlainTensor,
    /// Weights of the router, [experts, hidden]: `ffn_gate_inp`.
    pub router: PlainTensor,
    /// Biases of the router, `[experts]`.
    pub router_bias: PlainTensor,
    /// Gate and up matrices of the experts.
    pub gate_up: GateUp,
    /// Down matrices of the experts: `ffn_down_exps`.
    pub down_exps: MatrixTensor,
    /// Biases of gate, up and down in three tensors, or of gate and up in one and down in another. Joined in this
    /// order, their values are those of gate, up and down.
    pub exps_bias: Vec<PlainTensor>,
}

impl LayerTensors {
    /// The tensors that hold experts, in the order gate, up, down.
    pub fn expert_tensors(&self) -> Vec<ExpertTensor<'_>> {
        let whole = |tensor, rows| ExpertTensor { tensor, parts: vec![(rows, 0..tensor.rows)] };
        let mut tensors = match &self.gate_up {
            GateUp::Apart { gate, up } => vec![whole(gate, ExpertRows::Gate), whole(up, ExpertRows::Up)],
            GateUp::Fused { both, order: RowOrder::Alternating } => vec![whole(both, ExpertRows::GateAndUp)],
            GateUp::Fused { both, order: RowOrder::GateFirst } => {
                let ff = both.rows / 2;
                let parts = vec![(ExpertRows::Gate, 0..ff), (ExpertRows::Up, ff..2 * ff)];
                vec![ExpertTensor { tensor: both, parts }]
            }
        };
        tensors.push(whole(&self.down_exps, ExpertRows::Down));
        tensors
    }

    /// Formats of the experts' matrices.
    pub fn expert_formats(&self) -> ExpertFormats {
        let (gate, up) = match &self.gate_up {
            GateUp::Apart { gate, up } => (gate.format, up.format),
            GateUp::Fused { both, .. } => (both.format, both.format),
        };
        ExpertFormats { gate, up, down: self.down_exps.format }
    }

    /// Bytes of all experts together.
    pub fn expert_file_bytes(&self) -> u64 {
        self.expert_tensors().iter().map(|expert| expert.tensor.size_bytes).sum()
    }

    /// Length of the biases of all experts in the file, in bytes.
    pub fn expert_bias_file_bytes(&self) -> u64 {
        self.exps_bias.iter().map(|tensor| tensor.size_bytes).sum()
    }

    /// Length in the file of the tensors that every token reads, in bytes.
    pub fn dense_file_bytes(&self) -> u64 {
        let matrices = self.dense_matrices().map(|matrix| matrix.size_bytes);
        matrices.chain(self.dense_plain().map(|tensor| tensor.size_bytes)).sum()
    }

    /// The biases of gate, up and down, [experts, rows] each, given the joined values of [`LayerTensors::exps_bias`].
    pub fn split_expert_biases(&self, mut values: Vec<f32>) -> [Vec<f32>; 3] {
        let down = values.split_off(values.len() - (self.down_exps.experts * self.down_exps.rows) as usize);
        let up = values.split_off(values.len() / 2);
        [values, up, down]
    }

    /// Query, key, value and attention output.
    pub fn dense_matrices(&self) -> impl Iterator<Item = &MatrixTensor> {
        self.qkv.iter().chain([&self.attn_output])
    }

    /// Every matrix of the layer.
    pub fn matrices(&self) -> impl Iterator<Item = &MatrixTensor> {
        let experts = self.expert_tensors().into_iter().map(|expert| expert.tensor);
        self.dense_matrices().chain(experts)
    }

    /// Norms, sinks, the router and the biases of dense matrices, which every token reads in F32.
    pub fn dense_plain(&self) -> impl Iterator<Item = &PlainTensor> {
        self.qkv_bias.iter().chain([
            &self.attn_norm,
            &self.attn_output_bias,
            &self.attn_sinks,
            &self.post_attention_norm,
            &self.router,
            &self.router_bias,
        ])
    }
}

/// Every tensor of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// Embedding of each token, [vocabulary, hidden].
    pub token_embd: MatrixTensor,
    /// The tensors of each layer.
    pub layers: Vec<LayerTensors>,
    /// Weight of the norm before the output matrix.
    pub output_norm: PlainTensor,
    /// Matrix that gives the logits, [vocabulary, hidden].
    pub output: MatrixTensor,
}

impl Inventory {
    /// Every matrix that goes to the GPU: all but the embedding.
    pub fn gpu_matrices(&self) -> impl Iterator<Item = &MatrixTensor> {
        std::iter::once(&self.output).chain(self.layers.iter().flat_map(LayerTensors::matrices))
    }

    /// Names of all tensors in the file that the model is made of. A tensor that joins several (query, key and value; gate
    /// and up) counts once.
    pub fn names(&self) -> BTreeSet<&str> {
        let mut names =
            BTreeSet::from([self.token_embd.name.as_str(), self.output_norm.name.as_str(), self.output.name.as_str()]);
        for layer in &self.layers {
            names.extend(layer.matrices().map(|matrix| matrix.name.as_str()));
            names.extend(layer.dense_plain().chain(&layer.exps_bias).map(|tensor| tensor.name.as_str()));
        }
        names
    }

    /// The formats of [`Inventory::gpu_matrices`].
    pub fn gpu_formats(&self) -> Vec<WeightType> {
        WeightType::ALL
            .into_iter()
            .filter(|&format| self.gpu_matrices().any(|matrix| matrix.format == format))
            .collect()
    }
}
