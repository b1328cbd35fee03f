//! The first layers of a model in scalar arithmetic, for files of any size: one layer's attention and one expert are
//! decoded at a time, so that memory stays below what a single layer takes.
//!
//! The same operations as [`gptoss_model::reference::ReferenceModel`], which holds all weights of a model at once; a
//! test holds the two against each other.

use std::collections::BTreeMap;

use gptoss_model::ops::attention::Shape;
use gptoss_model::ops::experts::ExpertWeights;
use gptoss_model::ops::{attention, experts, matmul, rms_norm, rope, router};
use gptoss_model::{EngineError, GateUp, Host, Inventory, LayerTensors, MatrixTensor, ModelConfig, PlainTensor};

use gptoss_protocol::GateStep;

use super::{Subject, Way, bytes_of};

/// How many rows of the output matrix are decoded at a time, in bytes of the file.
const HEAD_PIECE_BYTES: u64 = 8 << 20;

/// A model of which the first layers are computed.
pub struct Layered<'a> {
    pub subject: &'a Subject<'a>,
    pub way: Way,
}

impl Layered<'_> {
    /// All logits of the subject's tokens, [tokens, vocabulary], from position 0: embedding, layers, norm, output matrix.
    pub async fn logits(&self, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        let mut states = Vec::new();
        for &token in &self.subject.tokens {
            states.push(self.embedding(token, host).await?);
        }
        let layers = self.subject.layers;
        for (index, tensors) in (0..layers).zip(&self.inventory().layers) {
            self.tell(format!("layer {index} of {layers}"), host);
            self.attend(index, tensors, &mut states, host).await?;
            self.mix_experts(tensors, &mut states, host).await?;
        }
        let norm = self.plain(&self.inventory().output_norm, host).await?;
        let normed: Vec<f32> = states.iter().flat_map(|state| self.norm(state, &norm)).collect();
        self.head(&normed, host).await
    }

    fn inventory(&self) -> &Inventory {
        &self.subject.inventory
    }

    fn config(&self) -> &ModelConfig {
        &self.subject.config
    }

    fn tell(&self, what: String, host: &dyn Host) {
        self.way.tell(what, GateStep::Reference, [0, 0], host);
    }

    async fn embedding(&self, token: u32, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        let table = &self.inventory().token_embd;
        let offset_bytes = table.offset_bytes + u64::from(token) * table.row_bytes();
        Ok(table.format.decode(&self.read(offset_bytes, table.row_bytes(), host).await?))
    }

    fn norm(&self, state: &[f32], weight: &[f32]) -> Vec<f32> {
        rms_norm::reference(state, weight, f64::from(self.config().epsilon))
    }

    async fn attend(
        &self,
        index: u32,
        tensors: &LayerTensors,
        states: &mut [Vec<f32>],
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        let norm = self.plain(&tensors.attn_norm, host).await?;
        let normed: Vec<Vec<f32>> = states.iter().map(|state| self.norm(state, &norm)).collect();
        let mut projected = Vec::new();
        for (tensor, bias) in tensors.qkv.iter().zip(&tensors.qkv_bias) {
            let (weights, bias) = (self.matrix(tensor, 0, host).await?, self.plain(bias, host).await?);
            let columns = tensor.columns as usize;
            projected.push(normed.iter().map(|x| matmul::reference(&weights, x, &bias, columns)).collect::<Vec<_>>());
        }
        let [mut queries, mut keys, values] = <[_; 3]>::try_from(projected).expect("query, key and value");
        for rows in [&mut queries, &mut keys] {
            for (position, row) in rows.iter_mut().enumerate() {
                rope::reference(row, position, &self.config().yarn);
            }
        }
        let shape = Shape {
            query_heads: self.config().query_heads as usize,
            kv_heads: self.config().kv_heads as usize,
            window: self.config().window_of(index) as usize,
        };
        let sinks = self.plain(&tensors.attn_sinks, host).await?;
        let (output, bias) =
            (self.matrix(&tensors.attn_output, 0, host).await?, self.plain(&tensors.attn_output_bias, host).await?);
        for (position, (state, query)) in states.iter_mut().zip(&queries).enumerate() {
            let (seen_keys, seen_values) = (keys[..=position].concat(), values[..=position].concat());
            let attended = attention::reference(query, &seen_keys, &seen_values, &sinks, position, shape);
            add(state, &matmul::reference(&output, &attended, &bias, self.config().query_columns() as usize));
        }
        Ok(())
    }

    async fn mix_experts(
        &self,
        tensors: &LayerTensors,
        states: &mut [Vec<f32>],
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        let norm = self.plain(&tensors.post_attention_norm, host).await?;
        let normed: Vec<Vec<f32>> = states.iter().map(|state| self.norm(state, &norm)).collect();
        let (router, bias) = (self.plain(&tensors.router, host).await?, self.plain(&tensors.router_bias, host).await?);
        let chosen = self.config().experts_per_token as usize;
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
            biases.extend(self.plain(tensor, host).await?);
        }
        let biases = tensors.split_expert_biases(biases);
        let (hidden, ff) = (self.config().hidden as usize, self.config().ff as usize);
        let mut outputs = vec![vec![Vec::new(); chosen]; states.len()];
        for (&expert, users) in &users {
            let [gate, up] = match &tensors.gate_up {
                GateUp::Apart { gate, up } => {
                    [self.matrix(gate, expert, host).await?, self.matrix(up, expert, host).await?]
                }
                GateUp::Fused { both, order } => {
                    order.split(&self.matrix(both, expert, host).await?, both.columns as usize)
                }
            };
            let bias = |which: usize, rows: usize| &biases[which][expert as usize * rows..][..rows];
            let expert = ExpertWeights {
                gate: &gate,
                up: &up,
                down: &self.matrix(&tensors.down_exps, expert, host).await?,
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
    async fn head(&self, normed: &[f32], host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        let output = &self.inventory().output;
        let (vocabulary, columns) = (output.rows as usize, output.columns as usize);
        let mut logits = vec![0.0; self.subject.tokens.len() * vocabulary];
        let rows_per_piece = (HEAD_PIECE_BYTES / output.row_bytes()).max(1);
        for first in (0..output.rows).step_by(rows_per_piece as usize) {
            let done = [first, output.rows].map(|rows| rows * output.row_bytes());
            self.way.tell(output.name.clone(), GateStep::Reference, done, host);
            let rows = rows_per_piece.min(output.rows - first);
            let offset_bytes = output.offset_bytes + first * output.row_bytes();
            let weights = output.format.decode(&self.read(offset_bytes, rows * output.row_bytes(), host).await?);
            for (token, x) in normed.chunks_exact(columns).enumerate() {
                let at = token * vocabulary + first as usize;
                logits[at..at + rows as usize].copy_from_slice(&matmul::reference(&weights, x, &[], columns));
            }
        }
        Ok(logits)
    }

    /// Decodes the rows of one expert (0 for a dense matrix): [rows, columns].
    async fn matrix(&self, tensor: &MatrixTensor, expert: u32, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        let len_bytes = tensor.rows * tensor.row_bytes();
        Ok(tensor.decode(&self.read(tensor.expert_offset_bytes(expert), len_bytes, host).await?))
    }

    async fn plain(&self, tensor: &PlainTensor, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        Ok(tensor.decode(&self.read(tensor.offset_bytes, tensor.size_bytes, host).await?))
    }

    async fn read(&self, offset_bytes: u64, len_bytes: u64, host: &dyn Host) -> Result<Vec<u8>, EngineError> {
        bytes_of(self.subject.file.source.as_ref(), offset_bytes, len_bytes, host).await
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
