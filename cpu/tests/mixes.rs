//! Synthetic models of other shapes and weight types than the goldens, against the scalar reference of the engine
//! (which itself is held against Transformers, and its decoders against gguf-py).

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_model::reference::ReferenceModel;
use gptoss_model::{Asked, Backend, Quiet};
use gptoss_source::MemorySource;
use gptoss_synth::{SUPPORTED_TYPES, Spec, TypeMix};

use crate::logits::{Distance, assert_f32_parity, distance};

struct Subject {
    name: String,
    file: Vec<u8>,
    tokens: Vec<u32>,
    want: Vec<f32>,
    vocabulary: usize,
}

impl Subject {
    /// Writes the model and has the reference read `tokens` tokens.
    fn new(name: &str, spec: &Spec, tokens: u32, yarn_truncate: bool) -> Self {
        let file = spec.to_bytes().expect("a model");
        let source = MemorySource::new(name, file.clone());
        let reference = pollster::block_on(ReferenceModel::load(&source, yarn_truncate)).expect("the model loads");
        let vocabulary = reference.config.vocabulary;
        let tokens: Vec<u32> = (0..tokens).map(|i| (i * 7919 + 13) % vocabulary).collect();
        let want = reference.logits(&tokens);
        Self { name: name.to_owned(), file, tokens, want, vocabulary: vocabulary as usize }
    }

    /// All tokens as one batch, or one after the other.
    fn measure(&self, options: &CpuOptions, batched: bool) -> Distance {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, &self.file).expect("written");
        let mut model = pollster::block_on(CpuModel::open(&path, options, &Quiet)).expect("the model opens");
        let got = if batched {
            pollster::block_on(model.logits(&self.tokens)).expect("logits")
        } else {
            let sequence = model.open().expect("a sequence");
            let mut one_by_one = Vec::new();
            for &token in &self.tokens {
                pollster::block_on(model.decode(sequence, token, Asked::TOP, &Quiet)).expect("a prediction");
                one_by_one.extend(pollster::block_on(model.last_logits(sequence, &Quiet)).expect("logits"));
            }
            one_by_one
        };
        let distance = distance(&got, &self.want, self.vocabulary);
        println!("{} {:?}, batched {batched}: {distance:?}", self.name, options.activations);
        distance
    }
}

fn exact() -> CpuOptions {
    CpuOptions { threads: Some(2), kv_f32: true, activations: Activations::F32, ..CpuOptions::default() }
}

fn small() -> Spec {
    Spec::tiny().layers(2).hidden(256).ff(256).query_heads(4).kv_heads(2).experts(6).window_tokens(32)
}

/// Every weight type for all matrices, and the mix of public Q4_K_M files, with a prompt longer than the window.
#[test]
fn every_weight_type() {
    let uniform = SUPPORTED_TYPES.into_iter().map(|kind| (kind.name().to_owned(), TypeMix::Uniform(kind)));
    let mixes: Vec<_> = uniform.chain([("Q4_K_M".to_owned(), TypeMix::Q4KM)]).collect();
    assert_eq!(mixes.len(), gptoss_gguf::WeightType::ALL.len() + 1, "every format, and the mix");
    for (name, mix) in mixes {
        let subject = Subject::new(&name, &small().types(mix), 40, false);
        for batched in [true, false] {
            assert_f32_parity(&name, subject.measure(&exact(), batched));
            let distance = subject.measure(&CpuOptions { activations: Activations::Int8, ..exact() }, batched);
            assert!(distance.nmse <= 2e-2 && distance.top1 >= 0.85, "{name} with 8-bit activations: {distance:?}");
        }
    }
}

/// Grouped-query ratios 2, 3, 4 and 8, 12 and 32 experts, windows 32 and 128, prompts beyond the window, both YaRN
/// modes.
#[test]
fn other_shapes() {
    for (query_heads, kv_heads, experts, window, tokens) in
        [(6, 2, 12, 32, 50), (8, 1, 32, 128, 140), (8, 2, 12, 128, 133), (4, 2, 32, 32, 70)]
    {
        let spec = Spec::tiny()
            .layers(2)
            .hidden(96)
            .ff(64)
            .query_heads(query_heads)
            .kv_heads(kv_heads)
            .experts(experts)
            .window_tokens(window);
        for yarn_truncate in [false, true] {
            let name = format!("{query_heads}/{kv_heads} heads, {experts} experts, window {window}, {yarn_truncate}");
            let subject = Subject::new(&name, &spec, tokens, yarn_truncate);
            assert_f32_parity(&name, subject.measure(&CpuOptions { yarn_truncate, ..exact() }, true));
        }
    }
}
