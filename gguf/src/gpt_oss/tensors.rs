//! The tensors of a gpt-oss file by name and type. Shapes are the engine's to judge.

use super::OLLAMA;
use crate::{Gguf, TensorInfo, TensorType, WeightType};

/// What a tensor is to the model, which decides the types that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorUse {
    /// A weight matrix that every token uses.
    Matrix,
    /// The router's weight matrix, which is widened to F32 when it is read.
    Router,
    /// The weights of all experts of a layer.
    Experts,
    /// Norms, biases, sinks: numbers that are widened to F32 when they are read.
    Plain,
}

use TensorUse::{Experts, Matrix, Plain, Router};

/// Types of tensors that are widened when they are read.
const PLAIN_TYPES: [TensorType; 3] = [TensorType::F32, TensorType::F16, TensorType::BF16];

/// Tensors beside the layers.
const OF_MODEL: [(&[&str], TensorUse); 3] =
    [(&["token_embd.weight"], Matrix), (&["output_norm.weight"], Plain), (&["output.weight"], Matrix)];

/// Tensors of every layer, in the order that llama.cpp writes. Each has alternative names: llama.cpp's, Ollama's, and
/// those of files with joined tensors; one of them is enough.
const OF_LAYER: [(&[&str], TensorUse); 19] = [
    (&["attn_norm.weight"], Plain),
    (&["attn_q.weight", "attn_qkv.weight"], Matrix),
    (&["attn_q.bias", "attn_qkv.bias"], Plain),
    (&["attn_k.weight", "attn_qkv.weight"], Matrix),
    (&["attn_k.bias", "attn_qkv.bias"], Plain),
    (&["attn_v.weight", "attn_qkv.weight"], Matrix),
    (&["attn_v.bias", "attn_qkv.bias"], Plain),
    (&["attn_output.weight", "attn_out.weight"], Matrix),
    (&["attn_output.bias", "attn_out.bias"], Plain),
    (&["attn_sinks.weight", "attn_sinks"], Plain),
    (&["post_attention_norm.weight", "ffn_norm.weight"], Plain),
    (&["ffn_gate_inp.weight"], Router),
    (&["ffn_gate_inp.bias"], Plain),
    (&["ffn_gate_exps.weight", "ffn_gate_up_exps.weight"], Experts),
    (&["ffn_gate_exps.bias", "ffn_gate_up_exps.bias"], Plain),
    (&["ffn_up_exps.weight", "ffn_gate_up_exps.weight"], Experts),
    (&["ffn_up_exps.bias", "ffn_gate_up_exps.bias"], Plain),
    (&["ffn_down_exps.weight"], Experts),
    (&["ffn_down_exps.bias"], Plain),
];

/// How many layers are looked at: more than any gpt-oss has, so that a damaged count costs nothing.
const MAX_LAYERS: u32 = 1024;

/// Whether the engine computes with a tensor of this type in a file of this architecture.
pub fn runs(kind: TensorType, used: TensorUse, architecture: &str) -> bool {
    let is_early_ollama = kind == TensorType::EARLY_OLLAMA_MXFP4 && used == Experts && architecture == OLLAMA;
    is_early_ollama || types_of(used).contains(&kind)
}

fn types_of(used: TensorUse) -> &'static [TensorType] {
    match used {
        Plain => &PLAIN_TYPES,
        Matrix | Router | Experts => &WeightType::KINDS,
    }
}

impl TensorUse {
    /// What the engine uses a tensor of this name for; `None` for names that it does not know and does not read.
    pub fn of(name: &str) -> Option<Self> {
        let of_layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let (suffix, table) = match of_layer {
            Some((layer, suffix)) if layer.bytes().all(|byte| byte.is_ascii_digit()) => (suffix, OF_LAYER.as_slice()),
            _ => (name, OF_MODEL.as_slice()),
        };
        table.iter().find(|(names, _)| names.contains(&suffix)).map(|(_, used)| *used)
    }
}

impl Gguf {
    /// Tensors that the engine needs but whose type it cannot compute with, each with the types that it may have.
    pub(super) fn unsupported_for_gpt_oss(
        &self,
        architecture: &str,
    ) -> impl Iterator<Item = (&TensorInfo, &'static [TensorType])> {
        let with_weights = self.tensors.iter().filter(|tensor| !tensor.is_empty());
        with_weights.filter_map(move |tensor| {
            let used = TensorUse::of(&tensor.name)?;
            (!runs(tensor.kind, used, architecture)).then(|| (tensor, types_of(used)))
        })
    }

    /// Keys and tensors that every gpt-oss model needs and that this header lacks.
    pub(super) fn missing_for_gpt_oss(&self, architecture: &str) -> Vec<String> {
        let mut missing = Vec::new();
        if self.metadata.string_array("tokenizer.ggml.tokens").is_err() {
            missing.push("key tokenizer.ggml.tokens".to_owned());
        }
        let block_count = format!("{architecture}.block_count");
        let layers = self.metadata.u32(&block_count).unwrap_or_else(|_| {
            missing.push(format!("key {block_count}"));
            0
        });
        let mut look_for = |prefix: &str, parts: &[(&[&str], TensorUse)]| {
            let name = |suffix: &str| format!("{prefix}{suffix}");
            let absent =
                parts.iter().filter(|(names, _)| names.iter().all(|suffix| self.tensor(&name(suffix)).is_none()));
            missing.extend(absent.map(|(names, _)| format!("tensor {}", name(names[0]))));
        };
        look_for("", &OF_MODEL);
        for layer in 0..layers.min(MAX_LAYERS) {
            look_for(&format!("blk.{layer}."), &OF_LAYER);
        }
        missing
    }
}
