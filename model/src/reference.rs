//! The whole model in scalar arithmetic, one token at a time: the specification that the GPU is held against.
//!
//! Reads like the papers and runs like one: every weight is decoded to F32, sums are F64. For small models only.

use crate::ops::attention::{self, Shape};
use crate::ops::experts::{self, ExpertWeights};
use crate::ops::rope::HEAD_DIM;
use crate::ops::router::Route;
use crate::ops::{matmul, rms_norm, rope, router};
use gptoss_gguf::Gguf;
use gptoss_source::Source;

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::file::{Header, read_header};
use crate::host::Quiet;
use crate::inventory::{GateUp, LayerTensors, MatrixTensor, PlainTensor};

/// All weights of one layer, decoded; names as in the file.
struct Layer {
    attn_norm: Vec<f32>,
    qkv: [Vec<f32>; 3],
    qkv_bias: [Vec<f32>; 3],
    attn_output: Vec<f32>,
    attn_output_bias: Vec<f32>,
    attn_sinks: Vec<f32>,
    post_attention_norm: Vec<f32>,
    router: Vec<f32>,
    router_bias: Vec<f32>,
    gate_up_down: [Vec<f32>; 3],
    gate_up_down_bias: [Vec<f32>; 3],
}

/// Keys and values of one layer, [positions, kv_heads, 64].
#[derive(Clone, Default)]
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A sequence in its plainest form: all keys and values of all layers, shared with nobody. A clone is a fork.
#[derive(Clone)]
pub struct ReferenceSequence {
    caches: Vec<Cache>,
    kv_columns: usize,
}

impl ReferenceSequence {
    /// Forgets everything from `position` on.
    pub fn rewind(&mut self, position: usize) {
        for Cache { keys, values } in &mut self.caches {
            keys.truncate(position * self.kv_columns);
            values.truncate(position * self.kv_columns);
        }
    }
}

/// What went on inside the model for one token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The residual stream, of the embedding and after each layer, [layers + 1, hidden].
    pub residual: Vec<Vec<f32>>,
    /// What each query head of each layer looked at, [layers, query heads].
    pub attention: Vec<Vec<attention::Row>>,
    /// The experts that each layer chose, best first, [layers, experts per token].
    pub routes: Vec<Vec<Route>>,
}

/// A gpt-oss model in F32.
pub struct ReferenceModel {
    /// The model's shape.
    pub config: ModelConfig,
    /// The header, for the tokenizer and other metadata.
    pub gguf: Gguf,
    token_embd: Vec<f32>,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    output: Vec<f32>,
}

impl ReferenceModel {
    /// Decodes the whole file.
    pub async fn load(source: &dyn Source, yarn_truncate: bool) -> Result<Self, EngineError> {
        let Header { mut config, inventory, gguf } = read_header(source, &Quiet).await?;
        config.yarn.truncate = yarn_truncate;
        let mut layers = Vec::new();
        for tensors in &inventory.layers {
            let [q, k, v] = &tensors.qkv;
            let [q_bias, k_bias, v_bias] = &tensors.qkv_bias;
            layers.push(Layer {
                attn_norm: plain(source, &tensors.attn_norm).await?,
                qkv: [matrix(source, q).await?, matrix(source, k).await?, matrix(source, v).await?],
                qkv_bias: [plain(source, q_bias).await?, plain(source, k_bias).await?, plain(source, v_bias).await?],
                attn_output: matrix(source, &tensors.attn_output).await?,
                attn_output_bias: plain(source, &tensors.attn_output_bias).await?,
                attn_sinks: plain(source, &tensors.attn_sinks).await?,
                post_attention_norm: plain(source, &tensors.post_attention_norm).await?,
                router: plain(source, &tensors.router).await?,
                router_bias: plain(source, &tensors.router_bias).await?,
                gate_up_down: gate_up_down(source, tensors).await?,
                gate_up_down_bias: gate_up_down_bias(source, tensors).await?,
            });
        }
        Ok(Self {
            token_embd: matrix(source, &inventory.token_embd).await?,
            output_norm: plain(source, &inventory.output_norm).await?,
            output: matrix(source, &inventory.output).await?,
            layers,
            config,
            gguf,
        })
    }

    /// An empty sequence.
    pub fn open(&self) -> ReferenceSequence {
        let caches = vec![Cache::default(); self.layers.len()];
        ReferenceSequence { caches, kv_columns: self.config.kv_columns() as usize }
    }

    /// The logits after each of `tokens`, [tokens, vocabulary].
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let mut sequence = self.open();
        tokens.iter().flat_map(|&token| self.forward(&mut sequence, token)).collect()
    }

    /// Appends a token and returns the logits after it, `[vocabulary]`.
    pub fn forward(&self, sequence: &mut ReferenceSequence, token: u32) -> Vec<f32> {
        self.run(sequence, token, None)
    }

    /// Appends a token and returns what went on inside the model.
    pub fn trace(&self, sequence: &mut ReferenceSequence, token: u32) -> Trace {
        let mut trace = Trace::default();
        self.run(sequence, token, Some(&mut trace));
        trace
    }

    fn run(&self, sequence: &mut ReferenceSequence, token: u32, mut trace: Option<&mut Trace>) -> Vec<f32> {
        let config = &self.config;
        let hidden = config.hidden as usize;
        let epsilon = f64::from(config.epsilon);
        let mut x = self.token_embd[token as usize * hidden..][..hidden].to_vec();
        if let Some(trace) = &mut trace {
            trace.residual.push(x.clone());
        }
        for (index, (layer, cache)) in self.layers.iter().zip(&mut sequence.caches).enumerate() {
            let normed = rms_norm::reference(&x, &layer.attn_norm, epsilon);
            let attended = attend(config, index, layer, cache, (&normed, trace.as_deref_mut()));
            let columns = config.query_columns() as usize;
            add(&mut x, &matmul::reference(&layer.attn_output, &attended, &layer.attn_output_bias, columns));

            let normed = rms_norm::reference(&x, &layer.post_attention_norm, epsilon);
            add(&mut x, &mixture(config, layer, (&normed, trace.as_deref_mut())));
            if let Some(trace) = &mut trace {
                trace.residual.push(x.clone());
            }
        }
        let normed = rms_norm::reference(&x, &self.output_norm, epsilon);
        matmul::reference(&self.output, &normed, &[], hidden)
    }
}

fn attend(
    config: &ModelConfig,
    index: usize,
    layer: &Layer,
    cache: &mut Cache,
    (normed, trace): (&[f32], Option<&mut Trace>),
) -> Vec<f32> {
    let position = cache.keys.len() / config.kv_columns() as usize;
    let [mut query, mut key, value] =
        [0, 1, 2].map(|i| matmul::reference(&layer.qkv[i], normed, &layer.qkv_bias[i], normed.len()));
    rope::reference(&mut query, position, &config.yarn);
    rope::reference(&mut key, position, &config.yarn);
    cache.keys.extend(key);
    cache.values.extend(value);
    let shape = Shape {
        query_heads: config.query_heads as usize,
        kv_heads: config.kv_heads as usize,
        window: config.window_of(index as u32) as usize,
    };
    debug_assert_eq!(query.len(), shape.query_heads * HEAD_DIM);
    if let Some(trace) = trace {
        let row = |head| attention::row_reference(&query, &cache.keys, &layer.attn_sinks, position, (head, shape));
        trace.attention.push((0..shape.query_heads).map(row).collect());
    }
    attention::reference(&query, &cache.keys, &cache.values, &layer.attn_sinks, position, shape)
}

fn mixture(config: &ModelConfig, layer: &Layer, (normed, trace): (&[f32], Option<&mut Trace>)) -> Vec<f32> {
    let (hidden, ff) = (config.hidden as usize, config.ff as usize);
    let mut sum = vec![0.0f64; hidden];
    let routes = router::reference(normed, &layer.router, &layer.router_bias, config.experts_per_token as usize);
    if let Some(trace) = trace {
        trace.routes.push(routes.clone());
    }
    for route in routes {
        let expert = route.expert as usize;
        let weights = |matrix: usize| &layer.gate_up_down[matrix][expert * ff * hidden..][..ff * hidden];
        let bias = |matrix: usize, rows: usize| &layer.gate_up_down_bias[matrix][expert * rows..][..rows];
        let out = experts::reference(
            normed,
            &ExpertWeights {
                gate: weights(0),
                up: weights(1),
                down: weights(2),
                gate_bias: bias(0, ff),
                up_bias: bias(1, ff),
                down_bias: bias(2, hidden),
            },
        );
        for (sum, out) in sum.iter_mut().zip(out) {
            *sum += f64::from(route.weight) * out;
        }
    }
    sum.into_iter().map(|value| value as f32).collect()
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Matrices of all experts: [experts, ff, hidden] for gate and for up, [experts, hidden, ff] for down.
async fn gate_up_down(source: &dyn Source, tensors: &LayerTensors) -> Result<[Vec<f32>; 3], EngineError> {
    let (gate, up) = match &tensors.gate_up {
        GateUp::Apart { gate, up } => (matrix(source, gate).await?, matrix(source, up).await?),
        GateUp::Fused { both, order } => {
            let (mut gate, mut up) = (Vec::new(), Vec::new());
            for expert in matrix(source, both).await?.chunks_exact((both.rows * both.columns) as usize) {
                let [of_gate, of_up] = order.split(expert, both.columns as usize);
                gate.extend(of_gate);
                up.extend(of_up);
            }
            (gate, up)
        }
    };
    Ok([gate, up, matrix(source, &tensors.down_exps).await?])
}

/// Biases of all experts: [experts, ff] for gate and for up, [experts, hidden] for down.
async fn gate_up_down_bias(source: &dyn Source, tensors: &LayerTensors) -> Result<[Vec<f32>; 3], EngineError> {
    let mut all = Vec::new();
    for bias in &tensors.exps_bias {
        all.extend(plain(source, bias).await?);
    }
    Ok(tensors.split_expert_biases(all))
}

async fn matrix(source: &dyn Source, tensor: &MatrixTensor) -> Result<Vec<f32>, EngineError> {
    let bytes = source.read(tensor.offset_bytes, tensor.size_bytes).await?;
    Ok(tensor.decode(&bytes.to_vec(0..bytes.len())))
}

async fn plain(source: &dyn Source, tensor: &PlainTensor) -> Result<Vec<f32>, EngineError> {
    let bytes = source.read(tensor.offset_bytes, tensor.size_bytes).await?;
    Ok(tensor.decode(&bytes.to_vec(0..bytes.len())))
}
