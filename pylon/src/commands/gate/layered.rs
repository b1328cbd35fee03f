//! The first layers of a model in scalar arithmetic, for files of any size: one layer's attention and one expert are
//! decoded at a time, so that memory stays below what a single layer takes.
//!
//! The same operations as [`gptoss_model::reference::ReferenceModel`], which holds all weights of a model at once; a
//! test holds the two against each other.

use std::collections::BTreeMap;

use gptoss_model::ops::attention::Shape;
use gptoss_model::ops::experts::ExpertWeights;
use gptoss_model::ops::{attention, experts, matmul, rms_norm, rope, router};
use gptoss_model::{GateUp, Inventory, LayerTensors, MatrixTensor, ModelConfig, PlainTensor};

use crate::error::CliError;
use crate::gguf_file::GgufFile;

/// How many rows of the output matrix are decoded at a time, in bytes of the file.
const HEAD_PIECE_BYTES: u64 = 8 << 20;

/// A file of which the first `layers` layers are computed.
pub struct Layered<'a> {
    pub file: &'a GgufFile,
    pub config: &'a ModelConfig,
    pub inventory: &'a Inventory,
    pub layers: u32,
}

impl Layered<'_> {
    /// All logits of `tokens`, [tokens, vocabulary], from position 0: embedding, layers, norm, output matrix.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, CliError> {
        let mut states = tokens.iter().map(|&token| self.embedding(token)).collect::<Result<Vec<_>, _>>()?;
        for (index, tensors) in (0..self.layers).zip(&self.inventory.layers) {
            self.attend(index, tensors, &mut states)?;
            self.mix_experts(tensors, &mut states)?;
        }
        let norm = self.plain(&self.inventory.output_norm)?;
        let normed: Vec<f32> = states.iter().flat_map(|state| self.norm(state, &norm)).collect();
        self.head(&normed, tokens.len())
    }

    fn embedding(&self, token: u32) -> Result<Vec<f32>, CliError> {
        let table = &self.inventory.token_embd;
        let bytes = self.file.read(table.offset_bytes + u64::from(token) * table.row_bytes(), table.row_bytes())?;
        Ok(table.format.decode(&bytes))
    }

    fn norm(&self, state: &[f32], weight: &[f32]) -> Vec<f32> {
        rms_norm::reference(state, weight, f64::from(self.config.epsilon))
    }

    fn attend(&self, index: u32, tensors: &LayerTensors, states: &mut [Vec<f32>]) -> Result<(), CliError> {
        let norm = self.plain(&tensors.attn_norm)?;
        let normed: Vec<Vec<f32>> = states.iter().map(|state| self.norm(state, &norm)).collect();
        let mut projected = Vec::new();
        for (tensor, bias) in tensors.qkv.iter().zip(&tensors.qkv_bias) {
            let (weights, bias) = (self.matrix(tensor, 0)?, self.plain(bias)?);
            let columns = tensor.columns as usize;
            projected.push(normed.iter().map(|x| matmul::reference(&weights, x, &bias, columns)).collect::<Vec<_>>());
        }
        let [mut queries, mut keys, values] = <[_; 3]>::try_from(projected).expect("query, key and value");
        for rows in [&mut queries, &mut keys] {
            for (position, row) in rows.iter_mut().enumerate() {
                rope::reference(row, position, &self.config.yarn);
            }
        }
        let shape = Shape {
            query_heads: self.config.query_heads as usize,
            kv_heads: self.config.kv_heads as usize,
            window: self.config.window_of(index) as usize,
        };
        let sinks = self.plain(&tensors.attn_sinks)?;
        let (output, bias) = (self.matrix(&tensors.attn_output, 0)?, self.plain(&tensors.attn_output_bias)?);
        for (position, (state, query)) in states.iter_mut().zip(&queries).enumerate() {
            let (seen_keys, seen_values) = (keys[..=position].concat(), values[..=position].concat());
            let attended = attention::reference(query, &seen_keys, &seen_values, &sinks, position, shape);
            add(state, &matmul::reference(&output, &attended, &bias, self.config.query_columns() as usize));
        }
        Ok(())
    }

    fn mix_experts(&self, tensors: &LayerTensors, states: &mut [Vec<f32>]) -> Result<(), CliError> {
        let norm = self.plain(&tensors.post_attention_norm)?;
        let normed: Vec<Vec<f32>> = states.iter().map(|state| self.norm(state, &norm)).collect();
        let (router, bias) = (self.plain(&tensors.router)?, self.plain(&tensors.router_bias)?);
        let chosen = self.config.experts_per_token as usize;
        let routes: Vec<_> = normed.iter().map(|x| router::reference(x, &router, &bias, chosen)).collect();
        // Each expert is decoded once for all tokens that chose it.
        let mut users: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
        for (token, routes) in routes.iter().enumerate() {
            for (choice, route) in routes.iter().enumerate() {
                users.entry(route.expert).or_default().push((token, choice));
            }
        }
        let mut biases = Vec::new();
        for tensor in &tensors.exps_bias {
            biases.extend(self.plain(tensor)?);
        }
        let biases = tensors.split_expert_biases(biases);
        let (hidden, ff) = (self.config.hidden as usize, self.config.ff as usize);
        let mut outputs = vec![vec![Vec::new(); chosen]; states.len()];
        for (&expert, users) in &users {
            let [gate, up] = match &tensors.gate_up {
                GateUp::Apart { gate, up } => [self.matrix(gate, expert)?, self.matrix(up, expert)?],
                GateUp::Fused { both, order } => order.split(&self.matrix(both, expert)?, both.columns as usize),
            };
            let bias = |which: usize, rows: usize| &biases[which][expert as usize * rows..][..rows];
            let expert = ExpertWeights {
                gate: &gate,
                up: &up,
                down: &self.matrix(&tensors.down_exps, expert)?,
                gate_bias: bias(0, ff),
                up_bias: bias(1, ff),
                down_bias: bias(2, hidden),
            };
            for &(token, choice) in users {
                outputs[token][choice] = experts::reference(&normed[token], &expert);
            }
        }
        for ((state, routes), outputs) in states.iter_mut().zip(&routes).zip(&outputs) {
            let mut sum = vec![0.0f64; state.len()];
            for (route, output) in routes.iter().zip(outputs) {
                for (sum, output) in sum.iter_mut().zip(output) {
                    *sum += f64::from(route.weight) * output;
                }
            }
            add(state, &sum.into_iter().map(|value| value as f32).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Computes `normed` [tokens, hidden] → [tokens, vocabulary], for a run of rows of the output matrix at a time.
    fn head(&self, normed: &[f32], tokens: usize) -> Result<Vec<f32>, CliError> {
        let output = &self.inventory.output;
        let (vocabulary, columns) = (output.rows as usize, output.columns as usize);
        let mut logits = vec![0.0; tokens * vocabulary];
        let rows_per_piece = (HEAD_PIECE_BYTES / output.row_bytes()).max(1);
        for first in (0..output.rows).step_by(rows_per_piece as usize) {
            let rows = rows_per_piece.min(output.rows - first);
            let bytes = self.file.read(output.offset_bytes + first * output.row_bytes(), rows * output.row_bytes())?;
            let weights = output.format.decode(&bytes);
            for (token, x) in normed.chunks_exact(columns).enumerate() {
                let at = token * vocabulary + first as usize;
                logits[at..at + rows as usize].copy_from_slice(&matmul::reference(&weights, x, &[], columns));
            }
        }
        Ok(logits)
    }

    /// Decodes the rows of one expert (0 for a dense matrix): [rows, columns].
    fn matrix(&self, tensor: &MatrixTensor, expert: u32) -> Result<Vec<f32>, CliError> {
        let bytes = self.file.read(tensor.expert_offset_bytes(expert), tensor.rows * tensor.row_bytes())?;
        Ok(tensor.decode(&bytes))
    }

    fn plain(&self, tensor: &PlainTensor) -> Result<Vec<f32>, CliError> {
        Ok(tensor.decode(&self.file.read(tensor.offset_bytes, tensor.size_bytes)?))
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
