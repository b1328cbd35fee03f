//! The forward pass: a batch of tokens through all layers.

use gptoss_model::ops::rope::{HALF_DIM, HEAD_DIM};
use gptoss_model::ops::router::Route;
use gptoss_model::sequences::Block;
use gptoss_model::{Inventory, LayerTensors, MatrixTensor, ModelConfig, Place};

use crate::activations::Rows;
use crate::attention::{Query, attend};
use crate::cache::{LayerCache, slot_of};
use crate::experts::{ExpertWeights, GateUp, Mixture, RouterWeights, route};
use crate::isa::Isa;
use crate::mapped::Mapped;
use crate::matmul::{Compute, Matrix, Part};
use crate::recorder::Recorder;
use crate::shared::SharedMut;
use crate::vector::{INFINITE_BITS, largest_bits, rms_norm, rotate};

/// The small tensors of a layer, copied out of the file.
pub(crate) struct LayerVectors {
    attn_norm: Vec<f32>,
    /// Biases of query, key and value.
    qkv_bias: [Vec<f32>; 3],
    attn_output_bias: Vec<f32>,
    attn_sinks: Vec<f32>,
    post_attention_norm: Vec<f32>,
    router: RouterWeights,
    /// Biases of gate, up and down.
    exps_bias: [Vec<f32>; 3],
}

impl LayerVectors {
    pub fn new(mapped: &Mapped, tensors: &LayerTensors) -> Self {
        let exps_bias = tensors.exps_bias.iter().flat_map(|tensor| mapped.plain(tensor)).collect();
        Self {
            attn_norm: mapped.plain(&tensors.attn_norm),
            qkv_bias: tensors.qkv_bias.each_ref().map(|tensor| mapped.plain(tensor)),
            attn_output_bias: mapped.plain(&tensors.attn_output_bias),
            attn_sinks: mapped.plain(&tensors.attn_sinks),
            post_attention_norm: mapped.plain(&tensors.post_attention_norm),
            router: RouterWeights { weight: mapped.plain(&tensors.router), bias: mapped.plain(&tensors.router_bias) },
            exps_bias: tensors.split_expert_biases(exps_bias),
        }
    }
}

/// Activations of a batch; as large as the largest batch so far.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Residual stream [tokens, hidden].
    pub x: Vec<f32>,
    normed: Rows,
    qkv: Vec<f32>,
    attended: Rows,
    mixture: Mixture,
    /// Records routes, if anybody wants them.
    pub recorder: Option<Recorder>,
}

impl Scratch {
    /// What the latest layer's router chose, [tokens, experts per token].
    pub fn routes(&self) -> &[Route] {
        &self.mixture.routes
    }
}

/// The place of a batch's row.
#[derive(Clone, Copy)]
pub(crate) struct RowAt<'a> {
    /// Position in its sequence.
    pub position: usize,
    /// Blocks of its sequence, for layers of one reach.
    pub table: &'a [Block],
}

/// Everything that a forward pass reads.
pub(crate) struct Weights<'a> {
    pub config: &'a ModelConfig,
    pub inventory: &'a Inventory,
    pub mapped: &'a Mapped,
    pub layers: &'a [LayerVectors],
    /// [positions, 32] pairs of cos and sin.
    pub rope_table: &'a [[f32; 2]],
    pub dense_attention: bool,
}

impl<'a> Weights<'a> {
    pub fn matrix(&self, tensor: &MatrixTensor) -> Matrix<'a> {
        Matrix {
            format: tensor.format,
            bytes: self.mapped.matrix(tensor),
            rows: (tensor.rows * tensor.experts) as usize,
            columns: tensor.columns as usize,
            codes: tensor.codes,
        }
    }

    /// Number of keys that a query of a layer sees; 0 means all.
    pub fn window_of(&self, layer: usize) -> u32 {
        if self.dense_attention { 0 } else { self.config.window_of(layer as u32) }
    }

    /// Reads the embeddings of `tokens`, which are in the vocabulary, into the residual stream.
    pub fn embed(&self, tokens: &[u32], scratch: &mut Scratch) {
        let table = self.matrix(&self.inventory.token_embd);
        scratch.x.clear();
        for &token in tokens {
            let row = &table.bytes[token as usize * table.row_bytes()..][..table.row_bytes()];
            scratch.x.extend(table.format.decode(row));
        }
    }

    /// Runs one layer over the residual stream of the rows at `places`.
    ///
    /// # Errors
    /// Where a value was not finite: every step makes such values of such values, so three looks at a layer are enough
    /// ([`gptoss_model::Place`]).
    pub fn layer(
        &self,
        index: usize,
        places: &[RowAt<'_>],
        cache: &mut LayerCache,
        compute: &mut Compute,
        scratch: &mut Scratch,
    ) -> Result<(), Place> {
        let (config, tensors, vectors) = (self.config, &self.inventory.layers[index], &self.layers[index]);
        let hidden = config.hidden as usize;
        let Scratch { x, normed, qkv, attended, mixture, recorder } = scratch;

        norm(compute, x, &vectors.attn_norm, config.epsilon, normed);
        let columns = config.qkv_columns() as usize;
        qkv.resize(normed.count() * columns, 0.0);
        let firsts = [0, config.query_columns(), config.query_columns() + config.kv_columns()];
        let parts: Vec<Part<'_>> = tensors
            .qkv
            .iter()
            .zip(&vectors.qkv_bias)
            .zip(firsts)
            .map(|((tensor, bias), first)| Part {
                matrix: self.matrix(tensor),
                bias: Some(bias),
                y_first: first as usize,
            })
            .collect();
        compute.matmul(normed, &parts, qkv, columns, false);

        self.cache_keys(compute.isa, places, qkv, cache)?;
        attended.resize(normed.count(), config.query_columns() as usize);
        self.attend(index, places, qkv, cache, compute, &mut attended.values);
        attended.quantise(compute.isa, compute.activations);
        let output =
            Part { matrix: self.matrix(&tensors.attn_output), bias: Some(&vectors.attn_output_bias), y_first: 0 };
        compute.matmul(attended, &[output], x, hidden, true);

        norm(compute, x, &vectors.post_attention_norm, config.epsilon, normed);
        let [gate_bias, up_bias, down_bias] = &vectors.exps_bias;
        let experts = ExpertWeights {
            hidden,
            ff: config.ff as usize,
            gate_up: match &tensors.gate_up {
                gptoss_model::GateUp::Apart { gate, up } => GateUp::Apart(self.matrix(gate), self.matrix(up)),
                gptoss_model::GateUp::Fused { both, order } => GateUp::Fused(self.matrix(both), *order),
            },
            down: self.matrix(&tensors.down_exps),
            gate_bias,
            up_bias,
            down_bias,
        };
        let likely_next = if recorder.is_some() { self.likely_next(index, compute.isa, x) } else { Vec::new() };
        mixture.add(compute, normed, &vectors.router, &experts, config.experts_per_token as usize, x)?;
        if let Some(recorder) = recorder {
            recorder.add_layer(&mixture.routes, &likely_next);
        }
        Ok(())
    }

    /// The experts that the router of the layer after `index` would choose for the residual stream as it is now.
    fn likely_next(&self, index: usize, isa: Isa, x: &[f32]) -> Vec<Route> {
        let Some(next) = self.layers.get(index + 1) else { return Vec::new() };
        let (hidden, per_token) = (self.config.hidden as usize, self.config.experts_per_token as usize);
        let mut normed = vec![0.0; hidden];
        let mut routes = vec![Route { expert: 0, weight: 0.0 }; x.len() / hidden * per_token];
        for (x, routes) in x.chunks_exact(hidden).zip(routes.chunks_exact_mut(per_token)) {
            rms_norm(isa, x, &next.post_attention_norm, self.config.epsilon, &mut normed);
            route(isa, &normed, &next.router, routes);
        }
        routes
    }

    /// Rotates queries and keys for their positions, and stores keys and values.
    fn cache_keys(&self, isa: Isa, places: &[RowAt<'_>], qkv: &mut [f32], cache: &mut LayerCache) -> Result<(), Place> {
        let (query, kv) = (self.config.query_columns() as usize, self.config.kv_columns() as usize);
        for (&RowAt { position, table }, row) in places.iter().zip(qkv.chunks_exact_mut(query + 2 * kv)) {
            let (rotated, value) = row.split_at_mut(query + kv);
            rotate(rotated, &self.rope_table[position * HALF_DIM..][..HALF_DIM]);
            let cached = largest_bits(isa, &rotated[query..]).max(largest_bits(isa, value));
            if cached.max(largest_bits(isa, &rotated[..query])) >= INFINITE_BITS {
                return Err(Place::Projections);
            }
            if cached > cache.largest().to_bits() {
                return Err(Place::Cache);
            }
            cache.put(slot_of(table, position), &rotated[query..], value);
        }
        Ok(())
    }

    fn attend(
        &self,
        index: usize,
        places: &[RowAt<'_>],
        qkv: &[f32],
        cache: &LayerCache,
        compute: &mut Compute,
        out: &mut [f32],
    ) {
        let config = self.config;
        let (query_columns, kv_heads) = (config.query_columns() as usize, config.kv_heads as usize);
        let group = config.query_heads as usize / kv_heads;
        let columns = config.qkv_columns() as usize;
        let sinks = &self.layers[index].attn_sinks;
        let window = self.window_of(index) as usize;
        let tokens = qkv.len() / columns;
        let out = SharedMut::new(out);
        let (pool, kernels) = compute.split();
        // Tokens come first in the order of tasks: later tokens see more keys, so that tasks of all sizes mix.
        pool.for_each(tokens * kv_heads, &|task, worker| {
            let (kv_head, token) = (task / tokens, task % tokens);
            let heads = kv_head * group * HEAD_DIM;
            let query = Query {
                heads: &qkv[token * columns + heads..][..group * HEAD_DIM],
                sinks: &sinks[kv_head * group..][..group],
                kv_head,
                position: places[token].position,
                table: places[token].table,
                window,
            };
            // SAFETY: the heads of a token that share a key-value head belong to one task.
            #[expect(unsafe_code, reason = "tasks share the slice, and each has places of its own")]
            let out = unsafe { out.slice(token * query_columns + heads, group * HEAD_DIM) };
            attend(kernels.isa, cache, query, &mut kernels.scratch(worker).scores, out);
        });
    }

    /// Logits [rows, vocabulary] of the last `rows` tokens of the batch.
    pub fn head(
        &self,
        output_norm: &[f32],
        rows: usize,
        compute: &mut Compute,
        scratch: &mut Scratch,
        logits: &mut Vec<f32>,
    ) {
        let hidden = self.config.hidden as usize;
        let first = scratch.x.len() - rows * hidden;
        norm(compute, &scratch.x[first..], output_norm, self.config.epsilon, &mut scratch.normed);
        let vocabulary = self.config.vocabulary as usize;
        logits.resize(rows * vocabulary, 0.0);
        let output = Part { matrix: self.matrix(&self.inventory.output), bias: None, y_first: 0 };
        compute.matmul(&scratch.normed, &[output], logits, vocabulary, false);
    }
}

/// Normalises every row of `x`, and prepares the result for products.
fn norm(compute: &mut Compute, x: &[f32], weight: &[f32], epsilon: f32, normed: &mut Rows) {
    let columns = weight.len();
    let rows = x.len() / columns;
    normed.resize(rows, columns);
    for (x, y) in x.chunks_exact(columns).zip(normed.values.chunks_exact_mut(columns)) {
        rms_norm(compute.isa, x, weight, epsilon, y);
    }
    normed.quantise(compute.isa, compute.activations);
}
