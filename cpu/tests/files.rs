//! Files that people have, on the CPU: each gives the logits of one that is known to run.

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_model::{Asked, Backend, Quiet};
use gptoss_synth::edit::{Edit, RawTensor};

#[path = "../../engine/tests/support/field.rs"]
mod field;

use crate::logits::{assert_f32_parity, distance};
use field::{Pair, prompt};

fn logits_of(file: &Edit, activations: Activations, batched: bool) -> Vec<f32> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, file.write()).expect("written");
    let options = CpuOptions { threads: Some(2), kv_f32: true, activations, ..CpuOptions::default() };
    let mut model = pollster::block_on(CpuModel::open(&path, &options, &Quiet)).expect("the model opens");
    if batched {
        return pollster::block_on(model.logits(&prompt())).expect("logits");
    }
    let sequence = model.open().expect("a sequence");
    let mut all = Vec::new();
    for token in prompt() {
        pollster::block_on(model.decode(sequence, token, Asked::TOP, &Quiet)).expect("a prediction");
        all.extend(pollster::block_on(model.last_logits(sequence, &Quiet)).expect("logits"));
    }
    all
}

fn vocabulary(logits: &[f32]) -> usize {
    logits.len() / prompt().len()
}

/// The same weights in other places and types: sums may come in another order.
#[test]
fn experts_of_every_kind_give_the_same_logits() {
    for batched in [true, false] {
        let want = logits_of(&field::nano(), Activations::F32, batched);
        let want_coded = logits_of(&field::nano(), Activations::Int8, batched);
        for Pair { name, file, .. } in field::experts() {
            let got = logits_of(&file, Activations::F32, batched);
            assert_f32_parity(name, distance(&got, &want, vocabulary(&want)));
            let coded = distance(&logits_of(&file, Activations::Int8, batched), &want_coded, vocabulary(&want));
            let floats = |tensor: &RawTensor| tensor.name.ends_with("_exps.weight") && [1, 30].contains(&tensor.kind);
            let bound = match name {
                // Weights as floats meet activations that are not rounded.
                _ if file.tensors.iter().any(floats) => 2e-2,
                // Sums within a block come in another order, and a last bit decides now and then how an activation is
                // rounded: 2e-5 measured.
                "Ollama's first" => 2e-4,
                _ => 1e-8,
            };
            assert!(coded.nmse <= bound && coded.top1 >= 0.85, "{name}, batched {batched}, 8 bits: {coded:?}");
        }
    }
}

#[test]
fn other_types_of_small_tensors_and_other_metadata_change_nothing() {
    let pairs = field::small_tensors().into_iter().chain(field::indifferent()).chain([field::fused_bf16_biases()]);
    for Pair { name, file, same_as } in pairs {
        for activations in [Activations::F32, Activations::Int8] {
            assert!(
                logits_of(&file, activations, true) == logits_of(&same_as, activations, true),
                "{name}: other logits, bit for bit, with {activations:?}"
            );
        }
    }
}
