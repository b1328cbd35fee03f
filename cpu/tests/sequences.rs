//! Many sequences on the CPU, in random interleavings, against the scalar reference of each alone.

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_model::Quiet;
use gptoss_model::reference::ReferenceModel;
use gptoss_source::MemorySource;
use gptoss_synth::{Spec, TypeMix};

use crate::interleavings::{Happened, Walk};

fn walk(seed: u64, context: u32, sequences: u32) -> Happened {
    let spec = Spec::tiny().layers(3).hidden(64).ff(96).query_heads(4).kv_heads(2).experts(6).window_tokens(20);
    let file = spec.types(TypeMix::Mxfp4).to_bytes().expect("a model");
    let source = MemorySource::new("model", file.clone());
    let reference = pollster::block_on(ReferenceModel::load(&source, false)).expect("the model loads");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, &file).expect("written");
    let options = CpuOptions {
        threads: Some(2),
        kv_f32: true,
        activations: Activations::F32,
        max_kv_tokens: Some(context),
        sequences: Some(sequences),
        ..CpuOptions::default()
    };
    let mut model = pollster::block_on(CpuModel::open(&path, &options, &Quiet)).expect("the model opens");
    let mut walk = Walk::new(&mut model, &reference, seed);
    pollster::block_on(walk.steps(200, |_, _| {}));
    println!("seed {seed}, {context} tokens for {sequences}: {:?}", walk.happened);
    walk.happened
}

#[test]
fn every_sequence_has_the_logits_that_it_has_alone() {
    let all: Vec<Happened> = (0..6).map(|seed| walk(seed, 500, 5)).collect();
    let sum = |of: fn(&Happened) -> u32| all.iter().map(of).sum::<u32>();
    assert!(sum(|it| it.collected) > 100 && sum(|it| it.shared_batches) > 20 && sum(|it| it.forks) > 10, "{all:?}");
    assert!(sum(|it| it.stopped) > 5 && sum(|it| it.dropped) > 10 && sum(|it| it.rewinds) > 10, "{all:?}");
    assert!(sum(|it| it.rewound_farther) > 0, "{all:?}");
    assert!(all.iter().any(|it| it.longest > 250), "longer than many windows: {all:?}");
}

/// A cache that holds much less than is asked of it: what does not fit is refused, and nothing else is touched.
#[test]
fn a_pool_that_is_too_small_refuses_and_harms_nobody() {
    let all: Vec<Happened> = (10..14).map(|seed| walk(seed, 130, 5)).collect();
    assert!(all.iter().map(|it| it.full).sum::<u32>() > 20, "{all:?}");
}
