//! A number that is not finite, anywhere in a model, ends the answer with an error or is provably never used: on the
//! GPU, with both caches, in batches and token by token, all experts resident and paged.
#![cfg(not(target_arch = "wasm32"))]

#[path = "support/breakage.rs"]
mod breakage;

use crate::support::{Setup, distance, load_model, memory, run};
use breakage::{Broken, Random, Value, break_one, with_f32};
use gptoss_model::reference::ReferenceModel;
use gptoss_model::{Asked, Backend, EngineError, NonFinite, NotFinite, Place, Quiet};
use gptoss_protocol::LoadOptions;
use gptoss_synth::{Spec, TensorType, TypeMix};

const TOKENS: u32 = 12;
const CASES: u64 = 12;

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

/// F32 or F16 cache; batches of 5; all experts resident, or the least that a token needs.
fn setup(kv_f32: bool, paged: bool) -> Setup {
    Setup {
        options: LoadOptions { kv_f32, ..LoadOptions::default() },
        slots: paged.then_some(4),
        all_logits: true,
        batch_tokens: Some(5),
        ..Setup::default()
    }
}

/// Logits of all tokens in batches, then the last ones again token by token: one as the other.
async fn logits(file: &[u8], setup: &Setup) -> Result<Vec<f32>, EngineError> {
    let mut model = load_model("model", file, setup).await;
    let all = model.logits(&tokens()).await;
    let sequence = model.open().expect("a sequence");
    let mut single = Ok(());
    for token in tokens() {
        if let Err(error) = model.decode(sequence, token, Asked::TOP, &Quiet).await {
            single = Err(error);
            break;
        }
    }
    assert_eq!(all.is_ok(), single.is_ok(), "in batches: {:?}; token by token: {single:?}", all.as_ref().err());
    all
}

async fn check(broken: &Broken, clean: &[u8], want: &[f32], setup: &Setup) -> bool {
    let what = format!("{} {setup:?}", broken.what);
    let first = if broken.tensor == "token_embd.weight" { Some(0) } else { broken.layer() };
    match logits(&broken.file, setup).await {
        Err(EngineError::NonFinite(found)) => {
            let layer = match found {
                NonFinite::Layer { found, .. } => Some(found.layer),
                NonFinite::Logits { .. } => None,
            };
            match broken.value {
                Value::Huge { .. } => assert!(layer.is_none_or(|layer| Some(layer) >= first), "{what}: {found}"),
                _ => assert_eq!(layer, first, "{what}: {found}"),
            }
            true
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(got) if got == want => false,
        Ok(got) if broken.is_pruned() => {
            let expert = broken.what.split(" element ").nth(1).and_then(|rest| rest.split(' ').next());
            let expert = expert.and_then(|digits| digits.parse().ok()).expect("the element of a bias");
            let pruned = with_f32(clean, &broken.tensor, &[(expert, -1e30)]);
            assert_eq!(got, logits(&pruned, setup).await.expect("it runs"), "{what}");
            false
        }
        Ok(got) => {
            assert!(
                matches!(broken.value, Value::Huge { .. }),
                "{what}: an answer, and another than the clean model's"
            );
            let reference =
                ReferenceModel::load(memory("model", &broken.file).as_ref(), false).await.expect("a valid file");
            let want = reference.logits(&tokens());
            let distance = distance(&got, &want, want.len() / TOKENS as usize);
            assert!(distance.nmse <= 1e-4, "{what}: {distance:?}");
            false
        }
    }
}

/// Any tensor, any place, any such number.
async fn no_answer_from(types: TypeMix, paged: bool) {
    let clean = small(types).to_bytes().expect("a model");
    let setup = setup(types == TypeMix::Mxfp4, paged);
    let want = logits(&clean, &setup).await.expect("the clean model runs");
    let mut refused = 0;
    for seed in 0..CASES {
        let broken = break_one(&clean, &mut Random::new(seed + 1000 * u64::from(paged)));
        refused += usize::from(check(&broken, &clean, &want, &setup).await);
    }
    println!("{types:?}: {refused} of {CASES} refused");
    assert!(refused >= CASES as usize / 3, "{refused} of {CASES}");
}

#[test]
fn no_answer_from_a_number_that_is_none() {
    run(no_answer_from(TypeMix::Mxfp4, false));
    run(no_answer_from(TypeMix::Uniform(TensorType::F32), false));
}

#[test]
fn no_answer_while_experts_come_and_go() {
    run(no_answer_from(TypeMix::Mxfp4, true));
    run(no_answer_from(TypeMix::Uniform(TensorType::Q8_0), true));
}

/// The same numbers in F32 are an answer.
#[test]
fn an_f16_cache_that_overflows_says_that_f32_helps() {
    run(async {
        let clean = small(TypeMix::Mxfp4).to_bytes().expect("a model");
        for tensor in ["blk.1.attn_k.bias", "blk.1.attn_v.bias"] {
            let file = with_f32(&clean, tensor, &[(9, 1e5)]);
            logits(&file, &setup(true, false)).await.unwrap_or_else(|error| panic!("{tensor} in F32: {error}"));
            let error = logits(&file, &setup(false, false)).await.expect_err(tensor);
            let found = NotFinite { layer: 1, place: Place::Cache };
            let expected = NonFinite::Layer { found, first_position: 0, tokens: 5 };
            assert!(matches!(error, EngineError::NonFinite(found) if found == expected), "{tensor}: {error}");
            assert!(error.to_string().contains("not finite") && error.to_string().contains("layer 1"), "{error}");
            let advice = error.advice();
            assert!(advice.contains("--kv f32") && advice.contains("kv=f32"), "{advice}");
        }
    });
}

/// Nobody asks for logits in the first of several batches, and the last token does not see the first: the prompt is
/// refused all the same, and a prompt after it is answered as if nothing had been.
#[test]
fn a_token_outside_every_window_is_refused_and_leaves_nothing_behind() {
    run(async {
        let spec = small(TypeMix::Mxfp4).layers(1).tensor_type("token_embd.weight", TensorType::F32);
        let clean = spec.to_bytes().expect("a model");
        let file = with_f32(&clean, "token_embd.weight", &[(tokens()[0] as usize * 64 + 3, f32::NAN)]);
        for paged in [false, true] {
            let mut model = load_model("model", &file, &setup(false, paged)).await;
            let sequence = model.open().expect("a sequence");
            let refused = model.prefill(sequence, &tokens(), Asked::TOP, &Quiet, |_| {}).await;
            assert!(matches!(refused, Err(EngineError::NonFinite(NonFinite::Layer { .. }))));
            assert_eq!(model.position(sequence), 0);
            let after =
                model.prefill(sequence, &tokens()[1..], Asked::TOP, &Quiet, |_| {}).await.expect("sound tokens");
            let mut fresh = load_model("model", &clean, &setup(false, paged)).await;
            let alone = fresh.open().expect("a sequence");
            let want = fresh.prefill(alone, &tokens()[1..], Asked::TOP, &Quiet, |_| {}).await.expect("sound tokens");
            assert_eq!((after.token, after.logit), (want.token, want.logit));
        }
    });
}
