//! The trained demo model: its answers, and the logits behind them. Natively and in headless Chromium.

use crate::support::{Recorder, Setup, distance, engine_of, load_model, memory, npy};
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_model::{AnswerLimits, Backend, Sampler};
use gptoss_protocol::{FinishReason, LoadOptions, Sampling};
use serde::Deserialize;

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
const CASES: &str = include_str!("../../models/nano/cases.json");

macro_rules! case_logits {
    ($($number:literal),*) => {
        [$(($number, include_bytes!(concat!("../../tests/goldens/nano.case", $number, ".hf_f32.npy")).as_slice())),*]
    };
}
/// Case number and logits of its generated positions, from Transformers.
const LOGITS: [(&str, &[u8]); 6] = case_logits!("24", "25", "03", "26", "27", "29");

/// How many of them are compared: in Chromium, where the software adapter is slow, the longest prompt and the longest
/// answer.
const GOLDENS: usize = if cfg!(target_arch = "wasm32") { 2 } else { LOGITS.len() };

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    #[serde(rename = "final")]
    answer: Option<String>,
    call: Option<serde_json::Value>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Cases>(CASES).expect("cases.json").cases
}

async fn engine(options: LoadOptions) -> GpuEngine {
    let source = memory("gpt-oss-nano.gguf", MODEL);
    engine_of(source, &GpuOptions::default(), &options, &Recorder::default()).await.expect("nano loads")
}

/// The tokens of every prompt; of the chosen cases also generated tokens, final text or call. All wrong ones are listed.
async fn cases_are_answered(options: LoadOptions, chosen: impl Fn(usize) -> bool) {
    let mut engine = engine(options).await;
    let mut wrong = Vec::new();
    let mut answered = 0;
    for (number, case) in cases().iter().enumerate() {
        let prompt = engine.tokenizer.encode_with_specials(&case.prompt);
        if prompt != case.prompt_ids {
            wrong.push(format!("case {number}: prompt tokens {prompt:?}, expected {:?}", case.prompt_ids));
        }
        if !chosen(number) {
            continue;
        }
        answered += 1;
        let sampler = Sampler::new(Sampling::default()).expect("greedy");
        let limits = AnswerLimits { max_new_tokens: 200, ..AnswerLimits::default() };
        let answer = engine.answer_tokens(&prompt, sampler, &limits, &Recorder::default()).await.expect("an answer");
        if answer.tokens != case.greedy_ids {
            wrong.push(format!("case {number}: generated {:?}, expected {:?}", answer.tokens, case.greedy_ids));
        }
        let reason = if case.call.is_some() { FinishReason::Call } else { FinishReason::Return };
        if answer.reason != reason {
            wrong.push(format!("case {number}: finished by {:?}, expected {reason:?}", answer.reason));
        }
        if let Some(expected) = case.answer.as_ref().filter(|expected| *expected != answer.final_text()) {
            wrong.push(format!("case {number}: final {:?}, expected {expected:?}", answer.final_text()));
        }
    }
    assert!(answered > 1, "{answered} cases were answered");
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// Natively all. In Chromium the page's tests ask what a page can ask; here it answers what a page cannot: a call of a
/// tool, and the longest prompt, of most turns. The kernels are those of every other case.
fn is_answered_here(number: usize) -> bool {
    !cfg!(target_arch = "wasm32") || [21, 24].contains(&number)
}

/// Teacher-forced logits of the generated positions: texts forgive what these do not.
async fn logits_match_transformers(kv_f32: bool, allowed_nmse: f64, goldens: usize) {
    let setup = Setup {
        options: LoadOptions { kv_f32, max_kv_tokens: Some(512), ..LoadOptions::default() },
        all_logits: true,
        ..Setup::default()
    };
    let mut model = load_model("gpt-oss-nano.gguf", MODEL, &setup).await;
    let cases = cases();
    for (number, golden) in LOGITS.into_iter().take(goldens) {
        let case = &cases[number.parse::<usize>().expect("a number")];
        let (want, columns) = npy(golden);
        let tokens: Vec<u32> = case.prompt_ids.iter().chain(&case.greedy_ids).copied().collect();
        let all = model.logits(&tokens).await.expect("logits");
        let first = (case.prompt_ids.len() - 1) * columns;
        let got = distance(&all[first..first + want.len()], &want, columns);
        assert!(
            got.nmse <= allowed_nmse && got.top1 == 1.0,
            "case {number}: {got:?}; allowed nmse {allowed_nmse:e}, the same top token everywhere"
        );
    }
}

everywhere!(every_case_with_all_experts, cases_are_answered(LoadOptions::default(), is_answered_here));
everywhere!(logits_f32, logits_match_transformers(true, 1e-8, GOLDENS));
everywhere!(logits_f16_cache, logits_match_transformers(false, 3e-6, GOLDENS));

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use super::*;

    /// Four slots for eight experts in each of six layers: the smallest pool that can work. The cases whose logits are
    /// goldens, which have the longest prompt and the longest answer; that every pool gives the same bits is shown in
    /// parity.rs.
    #[test]
    fn cases_with_the_smallest_pool() {
        crate::support::run(async {
            let whole = engine(LoadOptions::default()).await;
            let four_slots = whole.model.plan().expert_bytes(4);
            let options = LoadOptions { expert_memory_bytes: Some(four_slots), ..LoadOptions::default() };
            assert!(engine(options.clone()).await.model.plan().totals.paged);
            let numbers: Vec<usize> = LOGITS.iter().map(|(number, _)| number.parse().expect("a number")).collect();
            cases_are_answered(options, |number| numbers.contains(&number)).await;
        });
    }
}
