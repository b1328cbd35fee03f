//! The committed demo model, against facts read independently.
//!
//! Provenance: every number and name below was printed by `GGUFReader` of the Python package gguf 0.19.0 from
//! models/nano/gpt-oss-nano.gguf (3,054,208 bytes, sha256
//! ca89cedf85444e462a7f6333c9c1797f9d44c747c88f3b764c64b1a22621c837), not by this crate.

use std::collections::BTreeMap;

use gptoss_gguf::{Gguf, Progress, TensorType, parse};

const FILE: &[u8] = include_bytes!("../../../models/nano/gpt-oss-nano.gguf");

fn nano() -> Gguf {
    crate::parse_whole(FILE).unwrap()
}

#[test]
fn layout_and_counts() {
    let gguf = nano();
    assert_eq!((gguf.version, gguf.alignment, gguf.data_offset, gguf.file_len), (3, 32, 44032, 3_054_208));
    assert_eq!((gguf.tensors.len(), gguf.metadata.len()), (117, 34));
    assert_eq!(gguf.split(), None);
    assert_eq!(gguf.unknown_types().count(), 0);
    assert_eq!(gguf.tensors.iter().map(|t| t.size_bytes).sum::<u64>(), 3_010_080);
    let mut kinds = BTreeMap::new();
    gguf.tensors.iter().for_each(|t| *kinds.entry(t.kind.name()).or_insert(0) += 1);
    assert_eq!(kinds, BTreeMap::from([("F32", 73), ("MXFP4", 18), ("Q8_0", 26)]));
}

#[test]
fn tensors_of_a_layer() {
    use TensorType::{F32, Mxfp4, Q8_0};
    let expected: [(&str, &[u64], TensorType, u64, u64); 20] = [
        ("token_embd.weight", &[192, 1280], Q8_0, 44032, 261120),
        ("blk.0.attn_norm.weight", &[192], F32, 305152, 768),
        ("blk.0.attn_q.weight", &[192, 256], Q8_0, 305920, 52224),
        ("blk.0.attn_q.bias", &[256], F32, 358144, 1024),
        ("blk.0.attn_k.weight", &[192, 128], Q8_0, 359168, 26112),
        ("blk.0.attn_k.bias", &[128], F32, 385280, 512),
        ("blk.0.attn_v.weight", &[192, 128], Q8_0, 385792, 26112),
        ("blk.0.attn_v.bias", &[128], F32, 411904, 512),
        ("blk.0.attn_output.weight", &[256, 192], Q8_0, 412416, 52224),
        ("blk.0.attn_output.bias", &[192], F32, 464640, 768),
        ("blk.0.attn_sinks.weight", &[4], F32, 465408, 16),
        ("blk.0.post_attention_norm.weight", &[192], F32, 465440, 768),
        ("blk.0.ffn_gate_inp.weight", &[192, 8], F32, 466208, 6144),
        ("blk.0.ffn_gate_inp.bias", &[8], F32, 472352, 32),
        ("blk.0.ffn_gate_exps.weight", &[192, 96, 8], Mxfp4, 472384, 78336),
        ("blk.0.ffn_gate_exps.bias", &[96, 8], F32, 550720, 3072),
        ("blk.0.ffn_up_exps.weight", &[192, 96, 8], Mxfp4, 553792, 78336),
        ("blk.0.ffn_up_exps.bias", &[96, 8], F32, 632128, 3072),
        ("blk.0.ffn_down_exps.weight", &[96, 192, 8], Mxfp4, 635200, 78336),
        ("blk.0.ffn_down_exps.bias", &[192, 8], F32, 713536, 6144),
    ];
    let gguf = nano();
    for (tensor, (name, shape, kind, offset, size_bytes)) in gguf.tensors.iter().zip(expected) {
        assert_eq!((tensor.name.as_str(), tensor.kind, tensor.offset), (name, kind, offset));
        assert_eq!((tensor.shape.as_slice(), tensor.size_bytes), (shape, size_bytes), "{name}");
        assert_eq!(gguf.tensor(name), Some(tensor));
    }
    let last = gguf.tensor("output.weight").unwrap();
    assert_eq!((last.shape.as_slice(), last.offset, last.size_bytes), (&[192, 1280][..], 2_793_088, 261_120));
    assert_eq!(last.elements(), 192 * 1280);
    let norm = gguf.tensor("output_norm.weight").unwrap();
    assert_eq!((norm.shape.as_slice(), norm.kind, norm.offset), (&[192][..], F32, 2_792_320));
    assert_eq!(gguf.tensor("blk.6.attn_norm.weight"), None);
}

#[test]
fn metadata_values() {
    let gguf = nano();
    let m = &gguf.metadata;
    assert_eq!(m.str("general.architecture"), Ok("gpt-oss"));
    assert_eq!(m.str("general.name"), Ok("Gpt Oss Nano"));
    assert_eq!(m.get("general.alignment"), None);
    for (key, value) in [
        ("gpt-oss.block_count", 6),
        ("gpt-oss.context_length", 131_072),
        ("gpt-oss.embedding_length", 192),
        ("gpt-oss.feed_forward_length", 96),
        ("gpt-oss.attention.head_count", 4),
        ("gpt-oss.attention.head_count_kv", 2),
        ("gpt-oss.attention.key_length", 64),
        ("gpt-oss.attention.sliding_window", 64),
        ("gpt-oss.expert_count", 8),
        ("gpt-oss.expert_used_count", 4),
        ("gpt-oss.rope.scaling.original_context_length", 4096),
        ("general.file_type", 38),
        ("tokenizer.ggml.bos_token_id", 1270),
        ("tokenizer.ggml.eos_token_id", 1272),
    ] {
        assert_eq!(m.u32(key), Ok(value), "{key}");
    }
    assert_eq!(m.f32("gpt-oss.rope.freq_base"), Ok(150_000.0));
    assert_eq!(m.f32("gpt-oss.rope.scaling.factor"), Ok(32.0));
    assert_eq!(m.f32("gpt-oss.attention.layer_norm_rms_epsilon"), Ok(1e-5));
    let tokens = m.string_array("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), &tokens[0], &tokens[2], &tokens[1279]), (1280, "!", "#", "<|endofprompt|>"));
    let merges = m.string_array("tokenizer.ggml.merges").unwrap();
    assert_eq!((merges.len(), &merges[0], &merges[1012], &merges[1013]), (1014, "i s", "ĠFran ce", "on vert"));
    let kinds = m.i32_array("tokenizer.ggml.token_type").unwrap();
    assert_eq!((kinds.len(), kinds[0], kinds[1279]), (1280, 1, 3));
}

#[test]
fn the_header_alone_is_enough() {
    let header_only = &FILE[..44032];
    assert_eq!(parse(header_only, FILE.len() as u64), Ok(Progress::Ready(Box::new(nano()))));
    assert!(matches!(parse(&header_only[..40000], FILE.len() as u64), Ok(Progress::NeedMore { .. })));
}
