//! Every type that public gpt-oss files hold, and the names that their publishers use: whole models, made up and small,
//! on the GPU against the scalar reference.
#![cfg(not(target_arch = "wasm32"))]

use crate::support::{Setup, assert_f32_parity, distance, load_model, memory, run};
use gptoss_gguf::WeightType;
use gptoss_kernels::GpuOptions;
use gptoss_model::reference::ReferenceModel;
use gptoss_model::{Backend, EngineError, Quiet, read_header};
use gptoss_protocol::LoadOptions;
use gptoss_synth::edit::{Edit, RawTensor};
use gptoss_synth::{Publisher, Spec, TensorType, TypeMix};

/// More than a batch of [`setup`], so that layers are entered with one token and with many.
const TOKENS: u32 = 12;

fn tiny() -> Spec {
    Spec::tiny().layers(2).seed(3)
}

/// Like 20b in what matters here: rows of hidden and expert width are not whole blocks of 256, those of attention
/// output are.
fn uneven() -> Spec {
    Spec::tiny().layers(3).hidden(288).ff(160).experts(5).seed(4)
}

fn setup() -> Setup {
    let options = LoadOptions { kv_f32: true, ..LoadOptions::default() };
    Setup { options, all_logits: true, batch_tokens: Some(TOKENS - 1), ..Setup::default() }
}

fn prompt() -> Vec<u32> {
    (0..TOKENS).map(|at| (at * 37 + 5) % 300).collect()
}

async fn gpu_logits(name: &str, file: &[u8], setup: &Setup) -> Vec<f32> {
    load_model(name, file, setup).await.logits(&prompt()).await.expect("logits")
}

/// GPU against scalar reference, all experts resident and paged.
async fn parity(name: &str, spec: &Spec) {
    let file = spec.to_bytes().expect("a model that can be made");
    let reference = ReferenceModel::load(memory(name, &file).as_ref(), false).await.expect("a valid file");
    let want = reference.logits(&prompt());
    let got = gpu_logits(name, &file, &setup()).await;
    assert_f32_parity(name, distance(&got, &want, want.len() / TOKENS as usize));
    let paged = gpu_logits(name, &file, &Setup { slots: Some(4), ..setup() }).await;
    assert!(got == paged, "{name} with 4 slots per layer differs from full residency");
}

#[test]
fn every_type_for_all_matrices() {
    run(async {
        for kind in gptoss_synth::SUPPORTED_TYPES {
            parity(kind.name(), &tiny().types(TypeMix::Uniform(kind))).await;
        }
    });
}

/// Q, K and V differ in type, in one layer otherwise than in the next.
#[test]
fn q4_k_m_mixes_types_within_a_layer() {
    run(async {
        let mixed = uneven()
            .types(TypeMix::Q4KM)
            .tensor_type("blk.1.attn_v.weight", TensorType::Q8_0)
            .tensor_type("blk.2.attn_q.weight", TensorType::Q5_1)
            .tensor_type("blk.2.attn_output.weight", TensorType::Q6K);
        parity("Q4_K_M", &mixed).await;
    });
}

/// Slots are laid out by layer: gate and up agree within a layer, down may differ, and so may the next layer.
#[test]
fn experts_of_layers_may_differ_in_type() {
    run(async {
        let mixed = uneven()
            .tensor_type("blk.0.ffn_*_exps.weight", TensorType::Q5_0)
            .tensor_type("blk.1.ffn_*_exps.weight", TensorType::Iq4Nl)
            .tensor_type("blk.1.ffn_down_exps.weight", TensorType::Q8_0);
        parity("mixed experts", &mixed).await;

        // Bindings in which two slots of the last layer fit, and one of each other layer.
        let file = mixed.to_bytes().expect("a model that can be made");
        let gpu = GpuOptions { max_binding_bytes: Some(160 << 10), ..GpuOptions::default() };
        let options = LoadOptions { max_kv_tokens: Some(160), ..setup().options };
        let mut sharded = load_model("sharded", &file, &Setup { options, gpu, ..setup() }).await;
        assert_eq!(sharded.plan().arenas, [vec![1; 5], vec![1; 5], vec![2, 2, 1]]);
        let got = sharded.logits(&prompt()).await.expect("logits");
        assert!(got == gpu_logits("whole", &file, &setup()).await, "sharded experts give other logits");
    });
}

/// Ollama's `gptoss`: keys under its own prefix, fewer of them, BF16 matrices.
#[test]
fn ollamas_architecture_runs() {
    run(async {
        let spec = tiny().publisher(Publisher::Ollama);
        let file = spec.to_bytes().expect("a model that can be made");
        let header = read_header(memory("ollama", &file).as_ref(), &Quiet).await.expect("a valid file");
        assert_eq!(header.config.architecture, "gptoss");
        assert!(header.gguf.tensor("blk.1.ffn_norm.weight").is_some(), "this file has Ollama's names");
        parity("ollama", &spec).await;
    });
}

/// The same weights under the names of Ollama's converter, with query, key and value in one tensor.
#[test]
fn ollamas_names_mean_the_same_tensors() {
    run(async {
        let usual = tiny().types(TypeMix::Mxfp4Bf16).to_bytes().expect("a model that can be made");
        let renamed = rewrite(&usual, |tensors| {
            for tensor in tensors.iter_mut() {
                for (usual, other) in [
                    ("attn_output", "attn_out"),
                    ("attn_sinks.weight", "attn_sinks"),
                    ("post_attention_norm", "ffn_norm"),
                ] {
                    tensor.name = tensor.name.replace(usual, other);
                }
            }
            for (layer, suffix) in [(0, "weight"), (0, "bias"), (1, "weight"), (1, "bias")] {
                fuse_qkv(tensors, layer, suffix);
            }
        });
        let want = gpu_logits("usual", &usual, &setup()).await;
        assert!(gpu_logits("renamed", &renamed, &setup()).await == want, "other logits, bit for bit, than before");
    });
}

/// `file` with its tensors changed.
fn rewrite(file: &[u8], change: impl FnOnce(&mut Vec<RawTensor>)) -> Vec<u8> {
    let mut edit = Edit::read(file);
    change(&mut edit.tensors);
    edit.write()
}

/// Makes one tensor of a layer's query, key and value.
fn fuse_qkv(tensors: &mut Vec<RawTensor>, layer: u32, suffix: &str) {
    let mut take = |which: &str| {
        let name = format!("blk.{layer}.attn_{which}.{suffix}");
        let at = tensors.iter().position(|tensor| tensor.name == name).expect("the file has it");
        tensors.remove(at)
    };
    let [mut fused, key, value] = ["q", "k", "v"].map(&mut take);
    for part in [key, value] {
        fused.data.extend(part.data);
        *fused.shape.last_mut().expect("a dimension") += part.shape.last().expect("a dimension");
    }
    fused.name = format!("blk.{layer}.attn_qkv.{suffix}");
    tensors.push(fused);
}

/// Everything that is wrong with the types of a file is said at once, with what would be right.
#[test]
fn all_wrong_types_are_named_at_once() {
    run(async {
        let mixed = uneven()
            // Legal: types are each tensor's own.
            .tensor_type("blk.1.ffn_up_exps.weight", TensorType::Q4_0)
            .tensor_type("blk.0.attn_q.weight", TensorType::Q8_0)
            .tensor_type("blk.2.ffn_down_exps.weight", TensorType::Q8_0);
        let file = rewrite(&mixed.to_bytes().expect("a model that can be made"), |tensors| {
            for tensor in tensors {
                if ["blk.0.attn_q.weight", "blk.2.ffn_down_exps.weight"].contains(&tensor.name.as_str()) {
                    // A type of which nobody knows the size.
                    tensor.kind = 99;
                }
            }
        });
        let error = read_header(memory("mixed", &file).as_ref(), &Quiet).await.err().expect("must be refused");
        let EngineError::Tensors { problems } = error else { panic!("expected problems with tensors, got {error}") };
        let supported = format!("supported are {}", WeightType::supported_names());
        let want = [
            format!("blk.0.attn_q.weight has type unknown type 99; {supported}"),
            format!("blk.2.ffn_down_exps.weight has type unknown type 99; {supported}"),
        ];
        assert_eq!(problems, want);
    });
}

/// A row that is no whole number of blocks has no size that anybody could agree on: the header is refused, by the
/// tensor's name.
#[test]
fn rows_that_are_no_whole_blocks_are_refused() {
    run(async {
        let file = rewrite(&uneven().to_bytes().expect("a model that can be made"), |tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == "blk.1.attn_k.weight").expect("is there");
            tensor.kind = TensorType::Q4K.id();
        });
        let error = read_header(memory("uneven", &file).as_ref(), &Quiet).await.err().expect("must be refused");
        let message = error.to_string();
        for word in ["blk.1.attn_k.weight", "288", "Q4_K", "256"] {
            assert!(message.contains(word), "{word} is missing in: {message}");
        }
    });
}
