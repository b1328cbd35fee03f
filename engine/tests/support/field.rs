//! Files as people have them, made from the nano model: each says the same as another that is known to run.
#![allow(dead_code, reason = "each test target uses a part of it")]

use gptoss_synth::TensorType;
use gptoss_synth::edit::{Edit, FusedOrder, RawTensor, RawValue};

pub const LAYERS: u32 = 6;
/// More than nano's window of 64, and more than one batch.
pub const TOKENS: u32 = 75;

pub fn nano() -> Edit {
    Edit::read(include_bytes!("../../../models/nano/gpt-oss-nano.gguf"))
}

pub fn prompt() -> Vec<u32> {
    (0..TOKENS).map(|at| (at * 37 + 5) % 1200).collect()
}

/// A file, and one that must give the same logits.
pub struct Pair {
    pub name: &'static str,
    pub file: Edit,
    pub same_as: Edit,
}

fn pair(name: &'static str, change: impl FnOnce(&mut Edit)) -> Pair {
    let mut file = nano();
    change(&mut file);
    Pair { name, file, same_as: nano() }
}

/// Stores what `which` chooses in `kind`; the other file holds the same rounded values in F32.
fn stored(name: &'static str, which: &[&str], kind: TensorType) -> Pair {
    let chosen = |tensor: &str| which.iter().any(|part| tensor.ends_with(part));
    let (mut file, mut same_as) = (nano(), nano());
    assert!(file.retype_all(chosen, kind) > 0, "{name}: nothing to store otherwise");
    same_as.retype_all(chosen, kind);
    same_as.retype_all(chosen, TensorType::F32);
    Pair { name, file, same_as }
}

/// Experts of every kind that a layer may have: the weights are the same in all of them.
pub fn experts() -> Vec<Pair> {
    let q8_0 = |which: &'static [&'static str]| {
        move |file: &mut Edit| {
            let chosen = |name: &str| which.iter().any(|part| name.ends_with(part));
            assert!(file.retype_all(chosen, TensorType::Q8_0) > 0);
        }
    };
    vec![
        pair("gate in Q8_0", q8_0(&["ffn_gate_exps.weight"])),
        pair("up in Q8_0", q8_0(&["ffn_up_exps.weight"])),
        pair("gate and down in Q8_0", q8_0(&["ffn_gate_exps.weight", "ffn_down_exps.weight"])),
        pair("gate of one layer in F16, up of another in BF16", |file| {
            file.retype("blk.1.ffn_gate_exps.weight", TensorType::F16);
            file.retype("blk.4.ffn_up_exps.weight", TensorType::BF16);
        }),
        pair("gate rows first", |file| {
            (0..LAYERS).for_each(|layer| _ = file.fuse_gate_up(layer, FusedOrder::GateFirst));
        }),
        pair("gate and up alternating", |file| {
            file.architecture("gptoss");
            (0..LAYERS).for_each(|layer| _ = file.fuse_gate_up(layer, FusedOrder::Alternating));
        }),
        pair("one layer fused, in Q8_0", |file| {
            file.fuse_gate_up(3, FusedOrder::GateFirst);
            file.retype("blk.3.ffn_gate_up_exps.weight", TensorType::Q8_0);
        }),
        pair("Ollama's first", |file| _ = file.early_ollama(LAYERS)),
    ]
}

/// Small tensors in other types.
pub fn small_tensors() -> Vec<Pair> {
    let router = &["ffn_gate_inp.weight"];
    vec![
        stored("router in F16", router, TensorType::F16),
        stored("router in BF16", router, TensorType::BF16),
        stored("router in Q8_0", router, TensorType::Q8_0),
        stored("biases in F16", &[".bias"], TensorType::F16),
        stored("biases in BF16", &[".bias"], TensorType::BF16),
        stored("norms and sinks in BF16", &["norm.weight", "attn_sinks.weight"], TensorType::BF16),
        stored("norms in F16", &["attn_norm.weight", "output_norm.weight"], TensorType::F16),
    ]
}

/// Fused biases in a type of their own: rounded, then joined.
pub fn fused_bf16_biases() -> Pair {
    let biases = |name: &str| name.ends_with("_exps.bias");
    let (mut file, mut same_as) = (nano(), nano());
    file.architecture("gptoss");
    same_as.retype_all(biases, TensorType::BF16);
    same_as.retype_all(biases, TensorType::F32);
    file.retype_all(biases, TensorType::BF16);
    (0..LAYERS).for_each(|layer| _ = file.fuse_gate_up(layer, FusedOrder::Alternating));
    Pair { name: "fused biases in BF16", file, same_as }
}

/// Metadata and tensors that change nothing.
pub fn indifferent() -> Vec<Pair> {
    vec![
        pair("a tensor without weights", |file| file.tensors.insert(7, RawTensor::of_f32("x", &[0], &[]))),
        pair("tensors without weights, of three types", |file| {
            for (name, kind) in [("x", TensorType::Q8_0.id()), ("y", 4), ("z", 9999)] {
                file.tensors.push(RawTensor { kind, ..RawTensor::of_f32(name, &[16, 0, 3], &[]) });
            }
        }),
        pair("a description that is not UTF-8", |file| {
            file.set("general.description", RawValue::string_of_bytes(b"caf\xe9"));
            file.set("general.tags", RawValue::strings_of_bytes(&[b"fine", b"\xff\xfe"]));
            file.set("general.name", RawValue::string_of_bytes(b"n\xe4no"));
        }),
        pair("numbers as arrays", |file| {
            let arrays: [(&str, &[u32]); 4] = [
                ("gpt-oss.attention.head_count", &[4; 6]),
                ("gpt-oss.attention.head_count_kv", &[2; 6]),
                ("gpt-oss.feed_forward_length", &[96; 6]),
                ("gpt-oss.expert_feed_forward_length", &[96; 6]),
            ];
            arrays.into_iter().for_each(|(key, value)| _ = file.set(key, value));
            file.set("gpt-oss.attention.layer_norm_rms_epsilon", &[1e-5f32; 6][..]);
        }),
        pair("every second layer slides, in three ways", |file| {
            file.set("gpt-oss.attention.sliding_window_pattern", 2u32);
        }),
        pair("as booleans", |file| {
            file.set("gpt-oss.attention.sliding_window_pattern", &[true, false, true, false, true, false][..]);
        }),
        pair("as zeros and ones", |file| {
            file.set("gpt-oss.attention.sliding_window_pattern", &[1i32, 0, 1, 0, 1, 0][..]);
        }),
        pair("keys that say what is so anyway", |file| {
            file.set("gpt-oss.rope.freq_base_swa", 150_000f32).set("gpt-oss.attention.causal", true);
            file.set("gpt-oss.attention.scale", 0.125f32).set("gpt-oss.expert_weights_scale", 1f32);
            file.set("gpt-oss.rope.dimension_count", 64u32).set("gpt-oss.expert_gating_func", 3u32);
            file.set("gpt-oss.rope.scaling.factor_swa", 32f32).set("gpt-oss.swiglu_clamp_exp", &[7f32; 6][..]);
        }),
        pair("keys that nobody knows", |file| {
            file.set("gpt-oss.attention.fancy", 3u32).set("gpt-oss.new.thing", "x").set("other.key", 1u32);
        }),
        pair("no token types", |file| _ = file.remove("tokenizer.ggml.token_type")),
    ]
}
