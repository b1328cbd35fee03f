//! What a file must have to be a gpt-oss model, as far as names tell, for whoever lists files without an engine. Shapes,
//! types and numbers are the engine's to judge.

use crate::Gguf;

/// Values of `general.architecture`: llama.cpp's, and the one that Ollama writes.
pub const GPT_OSS_ARCHITECTURES: [&str; 2] = ["gpt-oss", "gptoss"];

/// Tensors beside the layers.
const OF_MODEL: [&str; 3] = ["token_embd.weight", "output_norm.weight", "output.weight"];

/// Tensors of every layer. Of several names, which are llama.cpp's, Ollama's and those of files with joined tensors, one
/// is enough.
const OF_LAYER: [&[&str]; 8] = [
    &["attn_norm.weight"],
    &["attn_q.weight", "attn_qkv.weight"],
    &["attn_output.weight", "attn_out.weight"],
    &["attn_sinks.weight", "attn_sinks"],
    &["post_attention_norm.weight", "ffn_norm.weight"],
    &["ffn_gate_inp.weight"],
    &["ffn_gate_exps.weight", "ffn_gate_up_exps.weight"],
    &["ffn_down_exps.weight"],
];

/// Layers that are looked through: more than any gpt-oss has, so that a damaged count costs nothing.
const MAX_LAYERS: u32 = 1024;

impl Gguf {
    /// Keys and tensors without which no gpt-oss model runs and which this header, a joined one for a split model, lacks; in
    /// the order of the file that llama.cpp writes.
    pub fn missing_for_gpt_oss(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.metadata.string_array("tokenizer.ggml.tokens").is_err() {
            missing.push("key tokenizer.ggml.tokens".to_owned());
        }
        let architecture = self.metadata.str("general.architecture").unwrap_or(GPT_OSS_ARCHITECTURES[0]);
        let block_count = format!("{architecture}.block_count");
        let layers = self.metadata.u32(&block_count).unwrap_or_else(|_| {
            missing.push(format!("key {block_count}"));
            0
        });
        missing.extend(OF_MODEL.iter().filter(|name| self.tensor(name).is_none()).map(|name| format!("tensor {name}")));
        for layer in 0..layers.min(MAX_LAYERS) {
            let name = |suffix: &str| format!("blk.{layer}.{suffix}");
            let absent =
                OF_LAYER.iter().filter(|names| names.iter().all(|suffix| self.tensor(&name(suffix)).is_none()));
            missing.extend(absent.map(|names| format!("tensor {}", name(names[0]))));
        }
        missing
    }
}
