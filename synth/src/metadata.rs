//! The key-value pairs, in the order of the public files (as llama.cpp's loader lists them).

use gptoss_gguf::write::{Pairs, header_bytes};

use crate::spec::{HEAD_DIM, Publisher, Spec};
use crate::template::{CHAT_TEMPLATE, padded};
use crate::tensors::{ALIGNMENT, Tensor, entries};
use crate::{Arrays, SynthError};

/// All pairs of a file with these tensors.
pub(crate) fn pairs(spec: &Spec, vocabulary: &Arrays, tensors: &[Tensor]) -> Result<Pairs, SynthError> {
    if spec.publisher == Publisher::Ollama {
        return match spec.data_offset {
            Some(wanted) => Err(data_offset_fault(wanted, "Ollama's files have no chat template that could be padded")),
            None => Ok(ollama(spec, vocabulary)),
        };
    }
    let mut pairs = Pairs::default();
    general(&mut pairs, spec);
    hyperparameters(&mut pairs, spec);
    tokenizer(&mut pairs, spec, vocabulary);

    let mut last = Pairs::default();
    last.u32("general.quantization_version", 2);
    last.u32("general.file_type", spec.types.file_type());

    let template = spec.chat_template.as_deref().unwrap_or(CHAT_TEMPLATE);
    let with_template = |template: &str| {
        let mut pairs = pairs.clone();
        pairs.string("tokenizer.chat_template", template);
        pairs.append(last.clone());
        pairs
    };
    let unpadded = with_template(template);
    let Some(wanted) = spec.data_offset else { return Ok(unpadded) };
    let padding = padding(header_bytes(&unpadded, &entries(tensors)), wanted)?;
    match padded(template, padding) {
        Some(template) => Ok(with_template(&template)),
        None => Err(data_offset_fault(wanted, &format!("no comment can be {padding} bytes long"))),
    }
}

/// Bytes to add to a header of that length for data to begin at `wanted`; none where the alignment does it already.
fn padding(header_bytes: u64, wanted: u64) -> Result<u64, SynthError> {
    if !wanted.is_multiple_of(ALIGNMENT) {
        return Err(data_offset_fault(wanted, &format!("it is not a multiple of {ALIGNMENT}")));
    }
    if header_bytes.next_multiple_of(ALIGNMENT) == wanted {
        return Ok(0);
    }
    wanted
        .checked_sub(header_bytes)
        .ok_or_else(|| data_offset_fault(wanted, &format!("the header has {header_bytes} bytes without padding")))
}

fn data_offset_fault(wanted: u64, why: &str) -> SynthError {
    SynthError::DataOffset { wanted, why: why.to_owned() }
}

fn general(pairs: &mut Pairs, spec: &Spec) {
    let unsloth = spec.publisher == Publisher::Unsloth;
    let size_label = spec.size.to_uppercase();
    let name = if unsloth { format!("Gpt-Oss-{size_label}") } else { format!("Gpt Oss {}", spec.size) };
    pairs.string("general.architecture", &spec.architecture);
    pairs.string("general.type", "model");
    pairs.string("general.name", &name);
    pairs.string("general.basename", if unsloth { &name } else { "gpt-oss" });
    if unsloth {
        pairs.string("general.quantized_by", "Unsloth");
    }
    pairs.string("general.size_label", &size_label);
    pairs.string("general.license", "apache-2.0");
    if unsloth {
        pairs.string("general.repo_url", "https://huggingface.co/unsloth");
    }
    pairs.strings("general.tags", &["vllm", "text-generation"]);
}

fn hyperparameters(pairs: &mut Pairs, spec: &Spec) {
    let key = |name: &str| format!("{}.{name}", spec.architecture);
    pairs.u32(&key("block_count"), spec.layers);
    pairs.u32(&key("context_length"), spec.context_tokens);
    pairs.u32(&key("embedding_length"), spec.hidden);
    pairs.u32(&key("feed_forward_length"), spec.ff);
    pairs.u32(&key("attention.head_count"), spec.query_heads);
    pairs.u32(&key("attention.head_count_kv"), spec.kv_heads);
    pairs.f32(&key("rope.freq_base"), 150_000.0);
    pairs.f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    pairs.u32(&key("expert_count"), spec.experts);
    pairs.u32(&key("expert_used_count"), spec.experts_per_token);
    pairs.u32(&key("attention.key_length"), HEAD_DIM as u32);
    pairs.u32(&key("attention.value_length"), HEAD_DIM as u32);
    pairs.u32(&key("attention.sliding_window"), spec.window_tokens);
    pairs.u32(&key("expert_feed_forward_length"), spec.ff);
    pairs.string(&key("rope.scaling.type"), "yarn");
    pairs.f32(&key("rope.scaling.factor"), 32.0);
    pairs.u32(&key("rope.scaling.original_context_length"), 4096);
}

fn tokenizer(pairs: &mut Pairs, spec: &Spec, vocabulary: &Arrays) {
    pairs.string("tokenizer.ggml.model", "gpt2");
    pairs.string("tokenizer.ggml.pre", "gpt-4o");
    pairs.strings("tokenizer.ggml.tokens", &vocabulary.tokens);
    pairs.i32s("tokenizer.ggml.token_type", &vocabulary.token_types);
    pairs.strings("tokenizer.ggml.merges", &vocabulary.merges);
    let reserved = vocabulary.special("<|reserved_200017|>").filter(|_| spec.publisher == Publisher::Unsloth);
    pairs.u32("tokenizer.ggml.bos_token_id", special(vocabulary, "<|startoftext|>"));
    pairs.u32("tokenizer.ggml.eos_token_id", special(vocabulary, "<|return|>"));
    pairs.u32("tokenizer.ggml.padding_token_id", reserved.unwrap_or_else(|| special(vocabulary, "<|endoftext|>")));
}

/// Ollama's writer sorts its keys, and leaves out what its own engine has as constants.
fn ollama(spec: &Spec, vocabulary: &Arrays) -> Pairs {
    let key = |name: &str| format!("{}.{name}", spec.architecture);
    let end_of_text = special(vocabulary, "<|endoftext|>");
    let stops = ["<|endoftext|>", "<|return|>", "<|call|>"].map(|name| special(vocabulary, name) as i32);
    let mut pairs = Pairs::default();
    pairs.string("general.architecture", &spec.architecture);
    pairs.u32("general.file_type", spec.types.file_type());
    pairs.u32("general.quantization_version", 2);
    pairs.u32(&key("attention.head_count"), spec.query_heads);
    pairs.u32(&key("attention.head_count_kv"), spec.kv_heads);
    pairs.u32(&key("attention.key_length"), HEAD_DIM as u32);
    pairs.f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    pairs.u32(&key("attention.sliding_window"), spec.window_tokens);
    pairs.u32(&key("attention.value_length"), HEAD_DIM as u32);
    pairs.u32(&key("block_count"), spec.layers);
    pairs.u32(&key("context_length"), spec.context_tokens);
    pairs.u32(&key("embedding_length"), spec.hidden);
    pairs.u32(&key("expert_count"), spec.experts);
    pairs.u32(&key("expert_used_count"), spec.experts_per_token);
    pairs.u32(&key("feed_forward_length"), spec.ff);
    pairs.f32(&key("rope.freq_base"), 150_000.0);
    pairs.f32(&key("rope.scaling.factor"), 32.0);
    pairs.u32(&key("rope.scaling.original_context_length"), 4096);
    for flag in ["add_bos_token", "add_eos_token", "add_padding_token"] {
        pairs.bool(&format!("tokenizer.ggml.{flag}"), false);
    }
    pairs.u32("tokenizer.ggml.bos_token_id", special(vocabulary, "<|startoftext|>"));
    pairs.u32("tokenizer.ggml.eos_token_id", end_of_text);
    pairs.i32s("tokenizer.ggml.eos_token_ids", &stops);
    pairs.strings("tokenizer.ggml.merges", &vocabulary.merges);
    pairs.string("tokenizer.ggml.model", "gpt2");
    pairs.u32("tokenizer.ggml.padding_token_id", end_of_text);
    pairs.f32s("tokenizer.ggml.scores", (0..vocabulary.tokens.len()).map(|id| id as f32));
    pairs.i32s("tokenizer.ggml.token_type", &vocabulary.token_types);
    pairs.strings("tokenizer.ggml.tokens", &vocabulary.tokens);
    pairs
}

/// The id of a special that every vocabulary of this crate has.
fn special(vocabulary: &Arrays, name: &str) -> u32 {
    vocabulary.special(name).expect("both kinds of vocabulary hold Harmony's specials")
}
