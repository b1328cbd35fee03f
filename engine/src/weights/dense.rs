//! The dense weights of a layer, listed once: what every token reads, and the biases of experts.
//!
//! [`DenseLayer`] says which there are; what is known of each is up to its types. From the file's tensors
//! ([`DenseLayer::of`]) come the buffers of the recipe ([`DenseLayer::try_map`]), those on the GPU
//! ([`DenseLayer::map`]) and the pieces that fill them ([`DenseLayer::weights`] of both, side by side).

use std::convert::Infallible;

use gptoss_gguf::WeightType;
use gptoss_model::{LayerTensors, MatrixTensor, PlainTensor};

/// A matrix with its bias, whose results go to the columns of the output row from `y_first` on.
pub struct Projection<M, V> {
    pub matrix: M,
    pub bias: V,
    pub y_first: u32,
}

/// The dense weights of one layer: an `M` for each matrix, a `V` for each tensor that is used in F32.
pub struct DenseLayer<M, V> {
    pub attn_norm: V,
    /// One projection when query, key and value share a format, else three.
    pub qkv: Vec<Projection<M, V>>,
    pub attn_output: M,
    /// Bias of `attn_output`, followed by the weight of the norm after it.
    pub attn_output_vectors: V,
    pub sinks: V,
    pub router: V,
    pub router_bias: V,
    /// Gate, up and down biases of all experts, one after the other.
    pub expert_biases: V,
}

/// One of the weights.
pub enum Weight<M, V> {
    Matrix(M),
    Values(V),
}

/// A matrix on the GPU that consists of the rows of these tensors of the file, in order.
pub struct MatrixParts<'a> {
    pub what: &'static str,
    /// At least one tensor; all agree in format and columns.
    pub tensors: Vec<&'a MatrixTensor>,
}

/// A buffer on the GPU that consists of the values of these tensors of the file in F32, in order.
pub struct ValueParts<'a> {
    pub what: &'static str,
    /// At least one tensor.
    pub tensors: Vec<&'a PlainTensor>,
}

impl MatrixParts<'_> {
    pub fn rows(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.rows).sum()
    }

    pub fn columns(&self) -> u64 {
        self.tensors[0].columns
    }

    pub fn format(&self) -> WeightType {
        self.tensors[0].format
    }
}

impl ValueParts<'_> {
    pub fn f32_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.f32_bytes()).sum()
    }
}

impl<'a> DenseLayer<MatrixParts<'a>, ValueParts<'a>> {
    /// The tensors of the file that each of the weights consists of.
    pub fn of(layer: &'a LayerTensors) -> Self {
        let one = |what, tensor| ValueParts { what, tensors: vec![tensor] };
        Self {
            attn_norm: one("attention norm", &layer.attn_norm),
            qkv: projections(layer),
            attn_output: MatrixParts { what: "attention output", tensors: vec![&layer.attn_output] },
            attn_output_vectors: ValueParts {
                what: "attention output bias, second norm",
                tensors: vec![&layer.attn_output_bias, &layer.post_attention_norm],
            },
            sinks: one("sinks", &layer.attn_sinks),
            router: one("router", &layer.router),
            router_bias: one("router bias", &layer.router_bias),
            expert_biases: ValueParts { what: "expert biases", tensors: layer.exps_bias.iter().collect() },
        }
    }
}

/// Query, key and value as one product if their formats agree, otherwise as three.
fn projections(layer: &LayerTensors) -> Vec<Projection<MatrixParts<'_>, ValueParts<'_>>> {
    let [query, key, value] = &layer.qkv;
    let share_a_format = query.format == key.format && query.format == value.format;
    let at_once = if share_a_format { layer.qkv.len() } else { 1 };
    let mut y_first = 0;
    let groups = layer.qkv.chunks(at_once).zip(layer.qkv_bias.chunks(at_once));
    groups
        .map(|(matrices, biases)| {
            let matrix = MatrixParts { what: "query, key, value", tensors: matrices.iter().collect() };
            let bias = ValueParts { what: "bias", tensors: biases.iter().collect() };
            let rows = matrix.rows() as u32;
            let projection = Projection { matrix, bias, y_first };
            y_first += rows;
            projection
        })
        .collect()
}

impl<M, V> DenseLayer<M, V> {
    /// Converts each of the weights.
    ///
    /// # Errors
    /// The first one.
    pub fn try_map<N, W, E>(
        &self,
        matrix: impl Fn(&M) -> Result<N, E>,
        values: impl Fn(&V) -> Result<W, E>,
    ) -> Result<DenseLayer<N, W>, E> {
        let projection = |from: &Projection<M, V>| {
            let Projection { matrix: of, bias, y_first } = from;
            Ok(Projection { matrix: matrix(of)?, bias: values(bias)?, y_first: *y_first })
        };
        Ok(DenseLayer {
            attn_norm: values(&self.attn_norm)?,
            qkv: self.qkv.iter().map(projection).collect::<Result<_, E>>()?,
            attn_output: matrix(&self.attn_output)?,
            attn_output_vectors: values(&self.attn_output_vectors)?,
            sinks: values(&self.sinks)?,
            router: values(&self.router)?,
            router_bias: values(&self.router_bias)?,
            expert_biases: values(&self.expert_biases)?,
        })
    }

    /// Like [`DenseLayer::try_map`], for conversions that cannot fail.
    pub fn map<N, W>(&self, matrix: impl Fn(&M) -> N, values: impl Fn(&V) -> W) -> DenseLayer<N, W> {
        let Ok(mapped) = self.try_map(|it| Ok::<_, Infallible>(matrix(it)), |it| Ok(values(it)));
        mapped
    }

    /// Iterates over the weights, always in this order.
    pub fn weights(&self) -> impl Iterator<Item = Weight<&M, &V>> {
        let projections = self.qkv.iter().flat_map(|of| [Weight::Matrix(&of.matrix), Weight::Values(&of.bias)]);
        let projections = projections.chain([Weight::Matrix(&self.attn_output)]);
        let values = [
            &self.attn_norm,
            &self.attn_output_vectors,
            &self.sinks,
            &self.router,
            &self.router_bias,
            &self.expert_biases,
        ];
        projections.chain(values.map(Weight::Values))
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use gptoss_source::MemorySource;

    use super::*;
    use gptoss_model::{Quiet, read_header};

    /// This list and the inventory's agree: nothing is missing, and nothing is there twice.
    #[test]
    fn every_tensor_of_a_layer_but_the_experts_is_listed_once() {
        let file = include_bytes!("../../../models/nano/gpt-oss-nano.gguf").to_vec();
        let header = pollster::block_on(read_header(&MemorySource::new("nano", file), &Quiet)).expect("a model");
        for layer in &header.inventory.layers {
            let mut listed: Vec<&str> = DenseLayer::of(layer)
                .weights()
                .flat_map(|weight| match weight {
                    Weight::Matrix(parts) => {
                        parts.tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>()
                    }
                    Weight::Values(parts) => parts.tensors.iter().map(|tensor| tensor.name.as_str()).collect(),
                })
                .collect();
            let plain = layer.dense_plain().chain(&layer.exps_bias).map(|tensor| tensor.name.as_str());
            let mut known: Vec<&str> = layer.dense_matrices().map(|tensor| tensor.name.as_str()).chain(plain).collect();
            listed.sort_unstable();
            known.sort_unstable();
            assert_eq!(listed, known);
        }
    }
}
