//! The tensors of a model: names, shapes, types and what their values look like, in the order of the public files.

use gptoss_gguf::DEFAULT_ALIGNMENT;
use gptoss_gguf::write::Entry;

use crate::spec::{HEAD_DIM, Publisher, Spec};
use crate::types::matches;
use crate::weights::{Distribution, Rows, row_bytes};
use crate::{SynthError, TensorType};

/// Where tensors and their data begin: at multiples of the format's default alignment, in bytes.
pub(crate) const ALIGNMENT: u64 = DEFAULT_ALIGNMENT;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// ggml name.
    pub name: String,
    /// Dimensions in GGUF order, contiguous first.
    pub shape: Vec<u64>,
    /// Storage type.
    pub kind: TensorType,
    /// Bytes, without the padding that follows in a file.
    pub size_bytes: u64,
    pub(crate) distribution: Distribution,
}

impl Tensor {
    /// Number of rows: runs of `shape[0]` weights.
    pub(crate) fn rows(&self) -> u64 {
        self.shape[1..].iter().product()
    }

    /// What makes the rows of this tensor in a model of that seed.
    pub(crate) fn generator(&self, seed: u64) -> Result<Rows, SynthError> {
        Rows::new(seed, &self.name, self.kind, self.shape[0], self.distribution)
    }
}

/// What a header says of these tensors.
pub(crate) fn entries<'a>(tensors: &'a [Tensor]) -> Vec<Entry<'a>> {
    let entry = |tensor: &'a Tensor| Entry {
        name: &tensor.name,
        shape: &tensor.shape,
        kind: tensor.kind,
        size_bytes: tensor.size_bytes,
    };
    tensors.iter().map(entry).collect()
}

/// The purpose of a tensor, which decides its type and its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    Output,
    Query,
    Key,
    Value,
    AttentionOutput,
    GateOrUp,
    Down,
    Router,
    Norm,
    Sinks,
    /// Bias of queries, keys, gate, up or the router.
    InnerBias,
    /// Bias of values, or of what is added to the residual.
    OuterBias,
}

impl Role {
    pub(crate) fn is_matrix(self) -> bool {
        use Role::*;
        matches!(self, Embedding | Output | Query | Key | Value | AttentionOutput | GateOrUp | Down)
    }

    pub(crate) fn is_expert(self) -> bool {
        matches!(self, Self::GateOrUp | Self::Down)
    }

    /// Values that keep a random model sane: with inputs of root mean square 1 (after a norm), attention scores have a
    /// deviation of about 2 and router logits of 1.5, a few gates reach the clamp at 7, every block adds about half of
    /// the embedding's size to the residual, and logits have a deviation of about 2.
    fn distribution(self, columns: u64) -> Distribution {
        let per_input = |gain: f64| (gain / (columns as f64).sqrt()) as f32;
        let (mean, deviation) = match self {
            Self::Embedding => (0.0, 1.0),
            Self::Output => (0.0, per_input(2.0)),
            Self::Query | Self::Key | Self::Value | Self::AttentionOutput => (0.0, per_input(1.0)),
            Self::GateOrUp => (0.0, per_input(2.0)),
            Self::Down => (0.0, per_input(0.3)),
            Self::Router => (0.0, per_input(1.5)),
            Self::Norm => (1.0, 0.1),
            Self::Sinks => (0.5, 1.0),
            Self::InnerBias => (0.0, 0.3),
            Self::OuterBias => (0.0, 0.1),
        };
        Distribution { mean, deviation }
    }
}

/// All tensors, in file order.
pub(crate) fn tensors(spec: &Spec, vocabulary_tokens: u64) -> Result<Vec<Tensor>, SynthError> {
    let mut list = List { spec, layer: 0, tensors: Vec::new() };
    let hidden = u64::from(spec.hidden);
    list.add("token_embd.weight", Role::Embedding, &[hidden, vocabulary_tokens])?;
    list.add("output_norm.weight", Role::Norm, &[hidden])?;
    list.add("output.weight", Role::Output, &[hidden, vocabulary_tokens])?;
    for layer in 0..spec.layers {
        list.layer = layer;
        list.add_layer()?;
    }
    for (pattern, _) in &spec.overrides {
        if !list.tensors.iter().any(|(_, tensor)| matches(pattern, &tensor.name)) {
            return Err(SynthError::PatternWithoutTensor { pattern: pattern.clone() });
        }
    }
    // The public files went through llama.cpp's quantiser, which sorts by layer, then by name; what is in no layer
    // comes first.
    list.tensors.sort_by(|(a_layer, a), (b_layer, b)| (a_layer, &a.name).cmp(&(b_layer, &b.name)));
    Ok(list.tensors.into_iter().map(|(_, tensor)| tensor).collect())
}

struct List<'a> {
    spec: &'a Spec,
    layer: u32,
    /// Each tensor with the layer that it is in, if any.
    tensors: Vec<(Option<u32>, Tensor)>,
}

impl List<'_> {
    fn add_layer(&mut self) -> Result<(), SynthError> {
        let [hidden, ff, experts, query_heads, kv_heads] =
            [self.spec.hidden, self.spec.ff, self.spec.experts, self.spec.query_heads, self.spec.kv_heads]
                .map(u64::from);
        let (query, kv) = (query_heads * HEAD_DIM, kv_heads * HEAD_DIM);
        let (sinks, second_norm) = match self.spec.publisher {
            Publisher::Ollama => ("attn_sinks", "ffn_norm.weight"),
            Publisher::GgmlOrg | Publisher::Unsloth => ("attn_sinks.weight", "post_attention_norm.weight"),
        };
        let parts: [(&str, Role, &[u64]); 15] = [
            ("attn_norm.weight", Role::Norm, &[hidden]),
            ("attn_q.weight", Role::Query, &[hidden, query]),
            ("attn_q.bias", Role::InnerBias, &[query]),
            ("attn_k.weight", Role::Key, &[hidden, kv]),
            ("attn_k.bias", Role::InnerBias, &[kv]),
            ("attn_v.weight", Role::Value, &[hidden, kv]),
            ("attn_v.bias", Role::OuterBias, &[kv]),
            ("attn_output.weight", Role::AttentionOutput, &[query, hidden]),
            ("attn_output.bias", Role::OuterBias, &[hidden]),
            (sinks, Role::Sinks, &[query_heads]),
            (second_norm, Role::Norm, &[hidden]),
            ("ffn_gate_inp.weight", Role::Router, &[hidden, experts]),
            ("ffn_gate_inp.bias", Role::InnerBias, &[experts]),
            ("ffn_down_exps.weight", Role::Down, &[ff, hidden, experts]),
            ("ffn_down_exps.bias", Role::OuterBias, &[hidden, experts]),
        ];
        let gate_up: &[(&str, u64)] =
            if self.spec.fused_gate_up { &[("gate_up", 2 * ff)] } else { &[("gate", ff), ("up", ff)] };
        for (which, rows) in gate_up {
            let name = format!("blk.{}.ffn_{which}_exps", self.layer);
            self.add(&format!("{name}.weight"), Role::GateOrUp, &[hidden, *rows, experts])?;
            self.add(&format!("{name}.bias"), Role::InnerBias, &[*rows, experts])?;
        }
        for (suffix, role, shape) in parts {
            self.add(&format!("blk.{}.{suffix}", self.layer), role, shape)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, role: Role, shape: &[u64]) -> Result<(), SynthError> {
        let columns = shape[0];
        let overrides = self.spec.overrides.iter().rev();
        let overridden = overrides.clone().find(|(pattern, _)| matches(pattern, name)).map(|(_, kind)| *kind);
        let kind = overridden.unwrap_or_else(|| self.spec.types.kind(role, self.layer, self.spec.layers, columns));
        let (Some(block_weights), Some(row_bytes)) = (kind.block_len(), row_bytes(kind, columns)) else {
            return Err(SynthError::UnsupportedType { kind });
        };
        if !columns.is_multiple_of(block_weights) {
            return Err(SynthError::PartialBlock { tensor: name.to_owned(), kind, columns, block_weights });
        }
        let tensor = Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind,
            size_bytes: row_bytes * shape[1..].iter().product::<u64>(),
            distribution: role.distribution(columns),
        };
        self.tensors.push((name.starts_with("blk.").then_some(self.layer), tensor));
        Ok(())
    }
}
