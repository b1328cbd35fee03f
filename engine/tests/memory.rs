//! Memory that is less than wanted: plans that give way, natively and in headless Chromium.

use std::rc::Rc;

use crate::support::{Recorder, engine_of, memory};
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::Testbed;
use gptoss_model::{Backend, StageError};
use gptoss_protocol::{Event, LoadOptions, MemoryPlan, Prompt, PromptFormat, Sampling};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

fn prompt() -> Prompt {
    Prompt {
        user: "What is 12 + 30?".into(),
        format: PromptFormat::Harmony,
        instructions: String::new(),
        effort: Default::default(),
        date: None,
        // Chromium's software adapter is slow, and the prompt shows enough.
        max_new_tokens: if cfg!(target_arch = "wasm32") { 2 } else { 60 },
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

/// Loads on a device with so much memory. Returns the plans that were reported on the way, too.
async fn load_with(
    memory_bytes: u64,
    options: &LoadOptions,
) -> (Result<GpuEngine, StageError>, Vec<MemoryPlan>, Rc<Testbed>) {
    let testbed = Rc::new(Testbed::default());
    testbed.limit_memory(memory_bytes);
    let gpu = GpuOptions { testbed: Some(Rc::clone(&testbed)), ..GpuOptions::default() };
    let host = Recorder::default();
    let loaded = engine_of(memory("nano", MODEL), &gpu, options, &host).await;
    let plans = host.events.take().into_iter().filter_map(|event| match event {
        Event::Plan(plan) => Some(plan),
        _ => None,
    });
    (loaded, plans.collect(), testbed)
}

/// Nobody said how much memory there is: allocation shows it. Experts give way first, then the context.
async fn a_plan_gives_way_until_allocation_succeeds() {
    let (roomy, plans, _) = load_with(u64::MAX, &LoadOptions::default()).await;
    let mut roomy = roomy.expect("nano loads");
    let right = roomy.answer(&prompt(), &Recorder::default()).await.expect("an answer").tokens;
    assert_eq!(plans.len(), 1, "nothing had to give way");
    let whole = plans[0].clone();

    let one_slot = whole.expert_bytes / 8;
    // Half of the experts, and with them half of the cache.
    let cases = [(4 * one_slot + whole.kv_bytes / 4, 4, true), (one_slot, 4, false)];
    for (less, slots, shortened) in cases.into_iter().take(if cfg!(target_arch = "wasm32") { 1 } else { 2 }) {
        let has = whole.gpu_total_bytes - less;
        let (loaded, plans, testbed) = load_with(has, &LoadOptions::default()).await;
        let mut engine = loaded.expect("nano loads with less");
        let last = plans.last().expect("a plan");
        assert_eq!(last.expert_slots_per_layer, slots);
        assert_eq!(last.shortened_from_tokens, shortened.then_some(8192));
        assert_eq!(last.kv_capacity_tokens, engine.model.kv_capacity());
        assert!(last.gpu_total_bytes <= has && plans.len() > 1, "{plans:?}");
        assert_eq!(testbed.allocated_bytes(), last.gpu_total_bytes, "failed attempts are freed");
        let answer = engine.answer(&prompt(), &Recorder::default()).await.expect("an answer");
        assert_eq!(answer.tokens, right, "less memory is no other answer");
    }
}

/// The last resort is a context of the fewest tokens; what does not fit then is refused, and frees what it had.
#[cfg(not(target_arch = "wasm32"))]
async fn too_little_memory_is_an_error_and_frees_everything() {
    let (_, plans, _) = load_with(u64::MAX, &LoadOptions::default()).await;
    let whole = &plans[0];
    let (loaded, plans, testbed) = load_with(whole.dense_bytes, &LoadOptions::default()).await;
    let error = loaded.err().expect("there is no place for a single expert");
    let (stage, kind) = (gptoss_protocol::Stage::GpuMemory, gptoss_protocol::FailureKind::Memory);
    assert_eq!((error.stage, error.failure().kind), (stage, kind), "{error}");
    let last = plans.last().expect("a plan");
    assert_eq!(last.expert_slots_per_layer, 4);
    assert!(last.kv_capacity_tokens < 2 * gptoss_engine::LEAST_CONTEXT_TOKENS, "{last:?}");
    assert_eq!(testbed.allocated_bytes(), 0);

    // A context that the user asked for is not shortened.
    let options = LoadOptions { max_kv_tokens: Some(8192), ..LoadOptions::default() };
    let (loaded, plans, _) = load_with(whole.dense_bytes, &options).await;
    assert!(loaded.is_err());
    assert!(plans.iter().all(|plan| plan.kv_capacity_tokens == 8192), "{plans:?}");
}

/// A budget that the user gives is kept to, and is not found out by trying.
#[cfg(not(target_arch = "wasm32"))]
async fn a_budget_is_kept_and_answers_are_the_same() {
    let (roomy, plans, _) = load_with(u64::MAX, &LoadOptions::default()).await;
    let right = roomy.expect("nano loads").answer(&prompt(), &Recorder::default()).await.expect("an answer").tokens;
    let budget = plans[0].gpu_total_bytes - plans[0].expert_bytes / 4;
    let options = LoadOptions { gpu_memory_bytes: Some(budget), ..LoadOptions::default() };
    let (loaded, plans, testbed) = load_with(u64::MAX, &options).await;
    let mut engine = loaded.expect("nano loads with less");
    assert_eq!(plans.len(), 1);
    assert!((4..=6).contains(&plans[0].expert_slots_per_layer) && plans[0].paged, "{plans:?}");
    let answer = engine.answer(&prompt(), &Recorder::default()).await.expect("an answer");
    assert_eq!(answer.tokens, right);
    assert!(testbed.allocated_bytes() <= budget);
}

everywhere!(giving_way, a_plan_gives_way_until_allocation_succeeds());
#[cfg(not(target_arch = "wasm32"))]
everywhere!(too_little, too_little_memory_is_an_error_and_frees_everything());
#[cfg(not(target_arch = "wasm32"))]
everywhere!(budget, a_budget_is_kept_and_answers_are_the_same());
