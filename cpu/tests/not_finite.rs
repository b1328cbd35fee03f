//! A number that is not finite, anywhere in a model, ends the answer with an error or is provably never used: on every
//! instruction set of this processor, with both precisions of activations, both caches, in batches and token by token.

use gptoss_cpu::{Activations, CpuModel, CpuOptions, Isa};
use gptoss_model::reference::ReferenceModel;
use gptoss_model::{Asked, Backend, EngineError, NonFinite, NotFinite, Place, Quiet};
use gptoss_source::MemorySource;
use gptoss_synth::{Spec, TensorType, TypeMix};

#[path = "../../engine/tests/support/breakage.rs"]
mod breakage;

use breakage::{Broken, Random, Value, break_one, with_f32};

const TOKENS: u32 = 14;

fn tokens() -> Vec<u32> {
    (0..TOKENS).map(|at| (at * 37 + 5) % 300).collect()
}

/// Two layers, the first with a window shorter than the prompt; experts enough that some are never chosen.
fn small(types: TypeMix) -> Spec {
    Spec::tiny()
        .layers(2)
        .hidden(64)
        .ff(32)
        .query_heads(2)
        .kv_heads(1)
        .experts(24)
        .window_tokens(5)
        .types(types)
        .seed(7)
}

/// Like [`small`], with rows of whole blocks of 256.
fn wide(types: TypeMix) -> Spec {
    small(types).hidden(256).ff(256).query_heads(4)
}

/// How a model is run.
#[derive(Clone, Debug)]
struct Run {
    options: CpuOptions,
    batched: bool,
}

impl Run {
    /// All cases of one instruction set: both precisions, both caches, batched and not.
    fn all(isa: Isa) -> Vec<Self> {
        let mut runs = Vec::new();
        for activations in [Activations::F32, Activations::Int8] {
            for (kv_f32, batched) in [(false, true), (false, false), (true, true), (true, false)] {
                let threads = Some(1);
                let options = CpuOptions { threads, kv_f32, activations, isa: Some(isa), ..CpuOptions::default() };
                runs.push(Self { options, batched });
            }
        }
        runs
    }

    /// Logits of all tokens.
    fn logits(&self, file: &[u8]) -> Result<Vec<f32>, EngineError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, file).expect("written");
        pollster::block_on(async {
            let mut model = CpuModel::open(&path, &self.options, &Quiet).await.expect("the model opens");
            if self.batched {
                return model.logits(&tokens()).await;
            }
            let sequence = model.open()?;
            let mut all = Vec::new();
            for token in tokens() {
                model.decode(sequence, token, Asked::TOP, &Quiet).await?;
                all.extend(model.last_logits(sequence, &Quiet).await?);
            }
            Ok(all)
        })
    }
}

fn reference(file: &[u8]) -> Vec<f32> {
    let source = MemorySource::new("model", file.to_vec());
    let reference = pollster::block_on(ReferenceModel::load(&source, false)).expect("the model loads");
    reference.logits(&tokens())
}

/// What came of the cases of a model.
#[derive(Default, Debug)]
struct Outcomes {
    refused: usize,
    unused: usize,
    /// Huge, and an ordinary number after a clamp or a softmax.
    harmless: usize,
}

/// One broken model in all ways to run it.
fn check(broken: &Broken, clean: &[u8], runs: &[(Run, Vec<f32>)], outcomes: &mut Outcomes) {
    let pruned = broken.is_pruned().then(|| {
        let expert = broken.what.split(" element ").nth(1).and_then(|rest| rest.split(' ').next());
        let expert = expert.and_then(|digits| digits.parse().ok()).expect("the element of a bias");
        with_f32(clean, &broken.tensor, &[(expert, -1e30)])
    });
    for (run, want) in runs {
        let what = format!("{} {run:?}", broken.what);
        match run.logits(&broken.file) {
            Err(EngineError::NonFinite(found)) => {
                outcomes.refused += 1;
                check_place(found, broken, &what);
            }
            Err(error) => panic!("{what}: {error}"),
            Ok(got) if got == *want => outcomes.unused += 1,
            Ok(got) => match (&pruned, broken.value) {
                (Some(pruned), _) => assert_eq!(got, run.logits(pruned).expect("it runs"), "{what}"),
                (None, Value::Huge { .. }) => {
                    outcomes.harmless += 1;
                    assert!(got.iter().all(|logit| logit.is_finite()), "{what}");
                    if run.options.activations == Activations::F32 && run.options.kv_f32 {
                        let distance =
                            crate::logits::distance(&got, &reference(&broken.file), got.len() / TOKENS as usize);
                        assert!(distance.nmse <= 1e-6, "{what}: {distance:?}");
                    }
                }
                (None, _) => panic!("{what}: an answer, and another one than that of the clean model"),
            },
        }
    }
}

/// A NaN or an infinity is found in the layer that it is in. What overflows is found there or later.
fn check_place(found: NonFinite, broken: &Broken, what: &str) {
    let found_layer = match found {
        NonFinite::Layer { found, .. } => Some(found.layer),
        NonFinite::Logits { .. } => None,
    };
    let first = if broken.tensor == "token_embd.weight" { Some(0) } else { broken.layer() };
    match broken.value {
        Value::Huge { .. } => assert!(found_layer.is_none_or(|found| Some(found) >= first), "{what}: {found}"),
        _ => assert_eq!(found_layer, first, "{what}: {found}"),
    }
}

/// Any tensor, any place, any such number.
fn no_answer_from(name: &str, spec: &Spec, cases: u64) -> Outcomes {
    let clean = spec.to_bytes().expect("a model");
    let levels: Vec<Vec<(Run, Vec<f32>)>> = Isa::available()
        .into_iter()
        .map(|isa| {
            let with_logits = |run: Run| {
                let logits = run.logits(&clean).expect("the clean model runs");
                (run, logits)
            };
            Run::all(isa).into_iter().map(with_logits).collect()
        })
        .collect();
    let mut outcomes = Outcomes::default();
    for seed in 0..cases {
        let broken = break_one(&clean, &mut Random::new(seed ^ (name.len() as u64 * 0x1234_5678_9abc)));
        check(&broken, &clean, &levels[seed as usize % levels.len()], &mut outcomes);
    }
    println!("{name}: {outcomes:?}");
    assert!(outcomes.refused > 3 * cases as usize, "{name}: {outcomes:?}");
    outcomes
}

#[test]
fn no_answer_from_the_public_mix() {
    let outcomes = no_answer_from("MXFP4 and Q8_0", &small(TypeMix::Mxfp4), 40);
    assert!(outcomes.unused > 0, "some places are never read: {outcomes:?}");
}

#[test]
fn no_answer_from_unquantised_weights() {
    for kind in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        no_answer_from(kind.name(), &small(TypeMix::Uniform(kind)), 16);
    }
}

#[test]
fn no_answer_from_other_quantised_weights() {
    use TensorType::{Iq4Nl, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    for kind in [Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Iq4Nl, TensorType::Mxfp4] {
        no_answer_from(kind.name(), &small(TypeMix::Uniform(kind)), 16);
    }
    for kind in [TensorType::Q4K, TensorType::Q5K, TensorType::Q6K] {
        no_answer_from(kind.name(), &wide(TypeMix::Uniform(kind)), 8);
    }
}

/// The same numbers in F32 are an answer.
#[test]
fn an_f16_cache_that_overflows_says_that_f32_helps() {
    let clean = small(TypeMix::Mxfp4).to_bytes().expect("a model");
    for (tensor, value) in [("blk.1.attn_k.bias", 7e4), ("blk.1.attn_k.bias", -1e5), ("blk.1.attn_v.bias", 66_000.0)] {
        let file = with_f32(&clean, tensor, &[(9, value)]);
        let want = reference(&file);
        for run in Isa::available().into_iter().flat_map(Run::all) {
            let what = format!("{tensor} {value} {run:?}");
            if run.options.kv_f32 {
                let got = run.logits(&file).unwrap_or_else(|error| panic!("{what}: {error}"));
                let distance = crate::logits::distance(&got, &want, got.len() / TOKENS as usize);
                let allowed = if run.options.activations == Activations::F32 { 1e-6 } else { 5e-2 };
                assert!(distance.nmse <= allowed, "{what}: {distance:?}");
                continue;
            }
            let error = run.logits(&file).expect_err(&what);
            let tokens = if run.batched { TOKENS } else { 1 };
            let found = NotFinite { layer: 1, place: Place::Cache };
            let expected = NonFinite::Layer { found, first_position: 0, tokens };
            assert!(matches!(error, EngineError::NonFinite(found) if found == expected), "{what}: {error}");
            assert!(error.to_string().contains("not finite") && error.to_string().contains("layer 1"), "{error}");
            let advice = error.advice();
            assert!(advice.contains("--kv f32") && advice.contains("kv=f32"), "{advice}");
        }
    }
}

/// A token that the last one cannot see is refused, too; and a prompt after it is answered as if nothing had been.
#[test]
fn a_token_outside_every_window_is_refused_and_leaves_nothing_behind() {
    let spec = small(TypeMix::Mxfp4).layers(1);
    let clean = spec.to_bytes().expect("a model");
    let file = with_f32(
        &spec.tensor_type("token_embd.weight", TensorType::F32).to_bytes().expect("a model"),
        "token_embd.weight",
        &[(tokens()[0] as usize * 64, f32::NAN)],
    );
    assert_ne!(clean, file);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, &file).expect("written");
    pollster::block_on(async {
        let mut model = CpuModel::open(&path, &CpuOptions::default(), &Quiet).await.expect("the model opens");
        let sequence = model.open().expect("a sequence");
        let refused = model.prefill(sequence, &tokens(), Asked::TOP, &Quiet, |_| {}).await;
        assert!(matches!(refused, Err(EngineError::NonFinite(NonFinite::Layer { .. }))));
        assert_eq!(model.position(sequence), 0);
        let after = model.prefill(sequence, &tokens()[1..], Asked::TOP, &Quiet, |_| {}).await.expect("sound tokens");
        let mut fresh = CpuModel::open(&path, &CpuOptions::default(), &Quiet).await.expect("the model opens");
        let alone = fresh.open().expect("a sequence");
        let want = fresh.prefill(alone, &tokens()[1..], Asked::TOP, &Quiet, |_| {}).await.expect("sound tokens");
        assert_eq!((after.token, after.logit), (want.token, want.logit));
    });
}

/// Pruned experts: as many as leave a token enough run, one more does not.
#[test]
fn a_router_bias_of_minus_infinity_prunes_until_too_few_are_left() {
    let clean = small(TypeMix::Mxfp4).to_bytes().expect("a model");
    let pruned = |count: usize, bias: f32| -> Vec<u8> {
        let changes: Vec<(usize, f32)> = (0..count).map(|expert| (expert, bias)).collect();
        with_f32(&clean, "blk.0.ffn_gate_inp.bias", &changes)
    };
    for run in Isa::available().into_iter().flat_map(Run::all) {
        let want = run.logits(&pruned(20, -1e30)).expect("four experts are left");
        assert_eq!(run.logits(&pruned(20, f32::NEG_INFINITY)).expect("four experts are left"), want, "{run:?}");
        let error = run.logits(&pruned(21, f32::NEG_INFINITY)).expect_err("three experts are left");
        let found = NotFinite { layer: 0, place: Place::Router };
        assert!(
            matches!(error, EngineError::NonFinite(NonFinite::Layer { found: got, .. }) if got == found),
            "{run:?}: {error}"
        );
    }
}
