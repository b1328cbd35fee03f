//! Files that people have: each gives the logits of one that is known to run, bit for bit, at every pool size; or is
//! refused by the name of what is wrong.
#![cfg(not(target_arch = "wasm32"))]

#[path = "support/field.rs"]
mod field;

use crate::support::{Recorder, Setup, load_model, memory, run};
use field::{LAYERS, Pair, nano, prompt};
use gptoss_model::{Backend, EngineError, Quiet, file_notes, read_header, tokenizer};
use gptoss_protocol::{Attention, Event, LoadOptions};
use gptoss_synth::edit::{Edit, FusedOrder, RawTensor, RawValue};
use gptoss_synth::{Spec, TensorType};

async fn logits(name: &str, file: &Edit, setup: &Setup) -> Vec<f32> {
    load_model(name, &file.write(), setup).await.logits(&prompt()).await.expect("logits")
}

fn setup() -> Setup {
    Setup { all_logits: true, ..Setup::default() }
}

/// Compares pairs with all experts resident, and where it matters with some.
fn all_are_the_same(pairs: Vec<Pair>, paged: bool) {
    run(async {
        let mut known: Option<(Vec<u8>, Vec<f32>)> = None;
        for Pair { name, file, same_as } in pairs {
            let bytes = same_as.write();
            let known = match &mut known {
                Some(known) if known.0 == bytes => known,
                known => known.insert((bytes, logits(name, &same_as, &setup()).await)),
            };
            assert_eq!(header_obstacle(&file), None, "{name}");
            let mut model = load_model(name, &file.write(), &setup()).await;
            let work = model.work_counters();
            assert_eq!(work.weights_fetched_bytes, work.weights_used_bytes, "{name}: bytes that nobody uses");
            let file_bytes = file.tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>() as u64;
            assert_eq!(work.weights_fetched_bytes, file_bytes, "{name}: every byte once");
            assert!(model.logits(&prompt()).await.expect("logits") == known.1, "{name}: other logits, bit for bit");
            if paged {
                let paged = logits(name, &file, &Setup { slots: Some(4), ..setup() }).await;
                assert!(paged == known.1, "{name}: other logits with 4 slots to a layer");
            }
        }
    });
}

#[test]
fn experts_of_every_kind_give_the_same_logits() {
    all_are_the_same(field::experts(), true);
}

#[test]
fn small_tensors_are_widened_exactly() {
    let mut pairs = field::small_tensors();
    pairs.push(field::fused_bf16_biases());
    all_are_the_same(pairs, false);
}

#[test]
fn what_changes_nothing_changes_nothing() {
    all_are_the_same(field::indifferent(), false);
}

/// Gate and up whose formats differ in block size, too, on shapes that are not square.
#[test]
fn gate_and_up_of_any_two_types() {
    use gptoss_model::reference::ReferenceModel;
    run(async {
        for (gate, up) in [
            (TensorType::Q4K, TensorType::Mxfp4),
            (TensorType::F32, TensorType::Q6K),
            (TensorType::Iq4Nl, TensorType::Q5K),
        ] {
            let name = format!("gate {gate}, up {up}");
            let spec = Spec::tiny().layers(2).ff(160).seed(6);
            let spec = spec.tensor_type("blk.*.ffn_gate_exps.weight", gate).tensor_type("blk.1.ffn_up_exps.weight", up);
            let file = spec.to_bytes().expect("a model that can be made");
            let tokens: Vec<u32> = (0..12).map(|at| (at * 37 + 5) % 300).collect();
            let reference = ReferenceModel::load(memory(&name, &file).as_ref(), false).await.expect("a valid file");
            let want = reference.logits(&tokens);
            let exact = Setup { options: LoadOptions { kv_f32: true, ..LoadOptions::default() }, ..setup() };
            let got = load_model(&name, &file, &exact).await.logits(&tokens).await.expect("logits");
            crate::support::assert_f32_parity(&name, crate::support::distance(&got, &want, want.len() / tokens.len()));
            let paged = load_model(&name, &file, &Setup { slots: Some(4), ..exact }).await.logits(&tokens).await;
            assert!(got == paged.expect("logits"), "{name}: other logits with 4 slots to a layer");
        }
    });
}

/// The key is llama.cpp's: of each n layers all but the last slide.
#[test]
fn any_pattern_of_sliding_layers_is_honoured() {
    run(async {
        let with = |value: RawValue| {
            let mut file = nano();
            file.set("gpt-oss.attention.sliding_window_pattern", value);
            file
        };
        let usual = logits("usual", &nano(), &setup()).await;
        let third = logits("3", &with(3u32.into()), &setup()).await;
        assert!(third != usual, "a pattern of 3 is another model");
        let listed = with([true, true, false, true, true, false].as_slice().into());
        assert!(logits("listed", &listed, &setup()).await == third);
        // No layer slides: what an option asks for, too.
        let dense = Setup { options: LoadOptions { attention: Attention::Dense, ..LoadOptions::default() }, ..setup() };
        assert!(logits("1", &with(1u32.into()), &setup()).await == logits("dense", &nano(), &dense).await);
    });
}

/// What whoever lists files, and has no engine, says of the file.
fn header_obstacle(file: &Edit) -> Option<String> {
    let bytes = file.write();
    match gptoss_gguf::parse(&bytes, bytes.len() as u64) {
        Ok(gptoss_gguf::Progress::Ready(gguf)) => gguf.gpt_oss_obstacle(),
        other => Some(format!("{other:?}")),
    }
}

async fn refusal(file: &Edit) -> EngineError {
    let source = memory("file", &file.write());
    match read_header(source.as_ref(), &Quiet).await {
        Err(error) => error,
        Ok(header) => tokenizer(&header.gguf).map(drop).expect_err("must be refused"),
    }
}

/// Each names the thing, what was expected and what was found, and none sends anybody to download a sound file again.
#[test]
fn what_cannot_run_is_refused_by_name() {
    let keyed = |key: &str, value: RawValue| {
        let mut file = nano();
        file.set(key, value);
        file
    };
    let changed = |change: &dyn Fn(&mut Edit)| {
        let mut file = nano();
        change(&mut file);
        file
    };
    let key = |name: &str, value: RawValue| keyed(&format!("gpt-oss.{name}"), value);
    let retyped = |tensor: &'static str, kind: u32| changed(&move |file: &mut Edit| file.tensor(tensor).kind = kind);
    let table: Vec<(Edit, &[&str])> = vec![
        (
            key("attention.head_count_kv", [2u32, 2, 1, 2, 2, 2].as_slice().into()),
            &["attention.head_count_kv", "layer 2"],
        ),
        (key("attention.head_count", [4u32, 4].as_slice().into()), &["attention.head_count", "6 layers", "array of 2"]),
        (key("attention.sliding_window_pattern", [true].as_slice().into()), &["sliding_window_pattern", "6 layers"]),
        (key("rope.freq_base_swa", 10_000f32.into()), &["rope.freq_base_swa", "10000", "150000"]),
        (key("rope.scaling.factor_swa", 1f32.into()), &["rope.scaling.factor_swa", "is 1", "32"]),
        (key("attention.scale", 0.25f32.into()), &["attention.scale", "0.25", "0.125"]),
        (key("expert_weights_scale", 2.5f32.into()), &["expert_weights_scale", "2.5"]),
        (key("expert_gating_func", 2u32.into()), &["expert_gating_func", "is 2", "3"]),
        (key("attn_logit_softcapping", 50f32.into()), &["attn_logit_softcapping", "50"]),
        (key("final_logit_softcapping", 30f32.into()), &["final_logit_softcapping", "30"]),
        (key("attention.clamp_kqv", 8f32.into()), &["attention.clamp_kqv", "is 8"]),
        (key("rope.dimension_count", 32u32.into()), &["rope.dimension_count", "is 32", "64"]),
        (key("rope.scaling.attn_factor", 1.2f64.into()), &["rope.scaling.attn_factor", "1.2"]),
        (key("rope.scaling.yarn_ext_factor", 0f32.into()), &["yarn_ext_factor", "is 0"]),
        (key("leading_dense_block_count", 1u32.into()), &["leading_dense_block_count"]),
        (key("expert_shared_count", 1u32.into()), &["expert_shared_count"]),
        (key("attention.causal", false.into()), &["attention.causal", "true", "false"]),
        (key("logit_scale", 0.5f32.into()), &["logit_scale", "0.5"]),
        (key("residual_scale", 0.5f32.into()), &["residual_scale"]),
        (key("embedding_scale", 12f32.into()), &["embedding_scale", "12"]),
        (key("swiglu_clamp_exp", [7f32, 7., 7., 7., 7., 10.].as_slice().into()), &["swiglu_clamp_exp", "10", "7"]),
        (
            key("attention.layer_norm_epsilon", 1e-6f32.into()),
            &["attention.layer_norm_epsilon", "layer_norm_rms_epsilon"],
        ),
        (key("attention.key_length", 128u32.into()), &["attention.key_length", "128", "64"]),
        (key("vocab_size", 7u32.into()), &["vocab_size", "1280"]),
        (keyed("tokenizer.ggml.pre", "llama-bpe".into()), &["tokenizer.ggml.pre", "llama-bpe", "gpt-4o"]),
        (keyed("tokenizer.ggml.model", "llama".into()), &["tokenizer.ggml.model", "llama", "gpt2"]),
        (keyed("general.architecture", RawValue::string_of_bytes(b"gpt\xff")), &["general.architecture", "not UTF-8"]),
        (changed(&|file| _ = file.remove("tokenizer.ggml.merges")), &["tokenizer.ggml.merges", "lacks"]),
        (changed(&|file| _ = file.remove("gpt-oss.block_count")), &["gpt-oss.block_count", "missing"]),
        (
            retyped("blk.2.attn_output.weight", 16),
            &["blk.2.attn_output.weight", "IQ2_XXS", "not supported", "MXFP4", "only attn_output"],
        ),
        (retyped("blk.2.ffn_up_exps.bias", 26), &["blk.2.ffn_up_exps.bias", "I32", "F16", "BF16"]),
        (retyped("blk.2.attn_q.weight", 31), &["blk.2.attn_q.weight", "Q4_0_4_4", "removed"]),
        (retyped("blk.2.attn_q.weight", 77), &["blk.2.attn_q.weight", "unknown type 77"]),
        (
            retyped("blk.0.ffn_gate_exps.weight", 4),
            &["blk.0.ffn_gate_exps.weight", "type 4", "Q4_2", "gptoss", "gpt-oss"],
        ),
        (
            changed(&|file| {
                file.architecture("gptoss");
                file.tensor("blk.1.attn_q.weight").kind = 4;
            }),
            &["blk.1.attn_q.weight", "type 4", "experts only"],
        ),
        (
            changed(&|file| {
                file.fuse_gate_up(5, FusedOrder::GateFirst).rename("blk.5.attn_output.weight", "blk.5.attn_out.weight");
            }),
            &["blk.5.ffn_gate_up_exps.weight", "cannot be known", "blk.5.attn_out.weight"],
        ),
        (
            changed(&|file| {
                file.tensors.iter_mut().filter(|t| t.name == "blk.3.attn_q.bias").for_each(|tensor| {
                    *tensor = RawTensor::of_f32("blk.3.attn_q.bias", &[0], &[]);
                })
            }),
            &["blk.3.attn_q.bias", "[0]", "[256]"],
        ),
        (
            changed(&|file| {
                file.remove("tokenizer.ggml.token_type");
                let tokens: Vec<&str> = vec!["a"; 1280];
                file.set("tokenizer.ggml.tokens", tokens.as_slice());
            }),
            &["the same text"],
        ),
    ];
    // Shapes, counts and texts of tokens are looked at by the engine alone.
    let of_the_engine =
        ["head_count", "sliding_window_pattern", "vocab_size", "cannot be known", "has shape [0]", "the same text"];
    run(async {
        for (file, words) in table {
            let error = refusal(&file).await;
            let message = error.to_string();
            let is_of_the_engine = of_the_engine.iter().any(|part| message.contains(part));
            assert_eq!(header_obstacle(&file).is_none(), is_of_the_engine, "{message}");
            for word in words {
                assert!(message.contains(word), "{word:?} is missing in: {message}");
            }
            let advice = error.advice();
            assert!(!advice.is_empty() && !advice.contains("again"), "{message}: {advice}");
        }
    });
}

/// What is known of a file and stops nothing is said once, in lines of bounded length.
#[test]
fn what_is_worth_knowing_is_said_at_load() {
    run(async {
        let mut file = nano();
        file.set("gpt-oss.attention.fancy", 3u32).set("other.thing", 1u32);
        file.set("general.description", RawValue::string_of_bytes(b"caf\xe9"));
        file.tensors.push(RawTensor::of_f32("nothing", &[4, 0], &[]));
        for number in 0..200 {
            file.set(&format!("gpt-oss.long.{}{number}", "x".repeat(300)), number as u32);
        }
        let source = memory("file", &file.write());
        let header = read_header(source.as_ref(), &Quiet).await.expect("runs");
        let notes = file_notes(&header.gguf);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].contains("gpt-oss.attention.fancy") && notes[0].contains("195 more"), "{notes:?}");
        assert!(notes[1].contains("general.description") && notes[2].contains("nothing"), "{notes:?}");
        assert!(notes.iter().all(|note| note.len() < 700 && !note.contains('\n') && !note.contains("other.thing")));

        let recorder = Recorder::default();
        gptoss_model::announce(&header, LAYERS, &recorder);
        let said: Vec<String> = recorder
            .events
            .into_inner()
            .into_iter()
            .filter_map(|event| match event {
                Event::FileNote { text } => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(said, notes);
        assert_eq!(
            file_notes(&read_header(memory("nano", &nano().write()).as_ref(), &Quiet).await.expect("runs").gguf),
            [""; 0]
        );
    });
}

/// Special tokens are what they are with types, and text is what it is.
#[test]
fn a_vocabulary_without_types_has_the_same_specials() {
    run(async {
        let tokenizer_of = async |file: &Edit| {
            tokenizer(&read_header(memory("file", &file.write()).as_ref(), &Quiet).await.expect("runs").gguf)
                .expect("usable")
        };
        let mut file = nano();
        file.remove("tokenizer.ggml.token_type");
        let (without, with) = (tokenizer_of(&file).await, tokenizer_of(&nano()).await);
        for id in 0..with.vocab_size() as u32 {
            assert_eq!(without.special_name(id), with.special_name(id), "{id}");
        }
        let text = "What is 2+3? <|start|>assistant<|end|> été\n";
        assert_eq!(without.encode_ordinary(text), with.encode_ordinary(text));
        assert_eq!(without.encode_with_specials(text), with.encode_with_specials(text));
        for pre in ["default", "gpt-4o", "llama4"] {
            let mut file = nano();
            file.set("tokenizer.ggml.pre", pre);
            assert_eq!(tokenizer_of(&file).await.encode_ordinary(text), with.encode_ordinary(text));
        }
    });
}

/// What the synth crate writes with gate and up in one tensor, in formats of blocks of 256, too.
#[test]
fn fused_tensors_of_any_type_run() {
    use gptoss_model::reference::ReferenceModel;
    run(async {
        for (architecture, kind) in
            [("gpt-oss", TensorType::Q5K), ("gptoss", TensorType::Q4_1), ("gptoss", TensorType::F16)]
        {
            let spec = Spec::tiny().layers(2).ff(160).seed(8).architecture(architecture).fused_gate_up(true);
            let file = spec.tensor_type("*gate_up_exps.weight", kind).to_bytes().expect("a model that can be made");
            let name = format!("{architecture}, fused in {kind}");
            let tokens: Vec<u32> = (0..12).map(|at| (at * 41 + 3) % 300).collect();
            let reference = ReferenceModel::load(memory(&name, &file).as_ref(), false).await.expect("a valid file");
            let want = reference.logits(&tokens);
            let exact = Setup { options: LoadOptions { kv_f32: true, ..LoadOptions::default() }, ..setup() };
            let got = load_model(&name, &file, &exact).await.logits(&tokens).await.expect("logits");
            crate::support::assert_f32_parity(&name, crate::support::distance(&got, &want, want.len() / tokens.len()));
        }
    });
}
