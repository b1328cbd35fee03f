//! Experts that are read while the GPU computes: what comes of it is what would have come without, whatever the network
//! does. Natively and in headless Chromium.

use std::rc::Rc;

use crate::support::{GatedSource, Gatekeeper, engine_of, memory};
use gptoss_engine::GpuEngine;
use gptoss_gguf::{Gguf, Progress, parse};
use gptoss_kernels::GpuOptions;
use gptoss_model::{Backend, EngineError, Quiet};
use gptoss_protocol::{Event, ExpertLoading, LoadOptions, Missing, Prompt, PromptFormat, Sampling};
use gptoss_source::Source;

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
const LAYERS: u32 = if cfg!(target_arch = "wasm32") { 3 } else { 6 };
const EXPERTS: u32 = 8;

fn options(experts: ExpertLoading) -> LoadOptions {
    LoadOptions { layers: Some(LAYERS), experts, ..LoadOptions::default() }
}

fn prompt(text: &str, max_new_tokens: u32) -> Prompt {
    Prompt {
        user: text.into(),
        format: PromptFormat::Text,
        instructions: String::new(),
        effort: Default::default(),
        date: None,
        max_new_tokens,
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

/// Needs all experts of every layer.
fn long() -> Prompt {
    prompt("What is 12 + 30?", 4)
}

async fn load(source: Rc<dyn Source>, options: &LoadOptions) -> GpuEngine {
    engine_of(source, &GpuOptions::default(), options, &Quiet).await.expect("nano loads")
}

/// What an engine with all experts says.
async fn right(prompts: &[Prompt]) -> Vec<Vec<u32>> {
    let mut engine = load(memory("nano", MODEL), &options(ExpertLoading::Ahead)).await;
    let mut answers = Vec::new();
    for prompt in prompts {
        answers.push(engine.answer(prompt, &Quiet).await.expect("an answer").tokens);
    }
    answers
}

/// The layer of whose experts this byte is.
fn layer_of(gguf: &Gguf, offset_bytes: u64) -> Option<u32> {
    let holds = |tensor: &&gptoss_gguf::TensorInfo| {
        tensor.name.contains("_exps.") && (tensor.offset..tensor.offset + tensor.size_bytes).contains(&offset_bytes)
    };
    let name = &gguf.tensors.iter().find(holds)?.name;
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

fn missing(events: &[Event]) -> Vec<Missing> {
    events.iter().filter_map(|event| if let Event::Missing(missing) = event { Some(*missing) } else { None }).collect()
}

/// While the GPU computes a layer of a prompt, the next one is read; each expert once.
async fn a_prompt_has_the_next_layer_read() {
    let Ok(Progress::Ready(gguf)) = parse(MODEL, MODEL.len() as u64) else { panic!("nano is sound") };
    let source = GatedSource::new("nano", MODEL);
    let mut engine = load(source.clone(), &options(ExpertLoading::AsNeeded)).await;
    let loaded = source.begun.borrow().len();
    let host = Gatekeeper::new(&source, {
        let source = Rc::clone(&source);
        move |event| {
            if let Event::Missing(missing) = event {
                let begun =
                    source.begun.borrow()[loaded..].iter().filter_map(|&at| layer_of(&gguf, at)).collect::<Vec<_>>();
                assert!(begun.contains(&missing.layer), "layer {} is missed, and {begun:?} are read", missing.layer);
            }
            false
        }
    });
    let answer = engine.answer(&long(), &host).await.expect("an answer");
    assert_eq!(answer.tokens, right(&[long()]).await[0]);
    let (work, cache) = (engine.model.work_counters(), engine.model.cache_counters());
    assert_eq!((cache.resident, cache.misses), (LAYERS * EXPERTS, u64::from(LAYERS * EXPERTS)));
    assert_eq!(work.weights_fetched_bytes, engine.model.plan().totals.all_bytes, "each byte once");
    assert_eq!(work.weights_used_bytes, work.weights_fetched_bytes);
    // It is told for every layer what is waited for.
    let missing = missing(&host.events.borrow());
    assert!(missing.iter().map(|missing| (missing.layer, missing.layers)).eq((0..LAYERS).map(|layer| (layer, LAYERS))));
    assert_eq!(missing.iter().map(|missing| missing.experts).sum::<u32>(), cache.resident);
    assert_eq!(missing.iter().map(|missing| missing.bytes).sum::<u64>(), cache.loaded_bytes);
}

/// A source tries again what may pass: what is left is told at once, also of a read that nobody waits for yet.
async fn what_fails_ahead_ends_the_answer_and_the_next_is_right() {
    let source = GatedSource::new("nano", MODEL);
    let mut engine = load(source.clone(), &options(ExpertLoading::AsNeeded)).await;
    source.fails_when_shut.set(true);
    let host = Gatekeeper::new(&source, |_: &Event| false);
    let error = engine.answer(&long(), &host).await.expect_err("a read failed").error;
    assert!(matches!(error, EngineError::Source(_)), "{error}");
    assert_eq!((source.failed.get(), source.under_way.get()), (1, 0), "the others are given up");
    source.fails_when_shut.set(false);
    let answer = engine.answer(&long(), &host).await.expect("an answer");
    assert_eq!(answer.tokens, right(&[long()]).await[0]);
    assert_eq!(engine.model.cache_counters().resident, LAYERS * EXPERTS);
}

/// STOP ends what is read for later, too, and frees the slots.
async fn stop_leaves_no_read_behind() {
    let right = right(&[long()]).await.remove(0);
    let source = GatedSource::new("nano", MODEL);
    let mut engine = load(source.clone(), &options(ExpertLoading::AsNeeded)).await;
    let stop_at = |layer| move |event: &Event| matches!(event, Event::Missing(missing) if missing.layer == layer);
    for layer in [0, 1] {
        let host = Gatekeeper::new(&source, stop_at(layer));
        let error = engine.answer(&long(), &host).await.expect_err("stopped");
        assert!(error.is_cancelled(), "{error:?}");
        assert_eq!(source.under_way.get(), 0, "stopped at layer {layer}");
        let cache = engine.model.cache_counters();
        assert!(cache.resident <= (layer + 1) * EXPERTS, "{cache:?}");
        assert!(engine.model.wants_prefetch());
    }
    assert!(source.dropped.get() > 0, "some were under way");
    let host = Gatekeeper::new(&source, |_: &Event| false);
    assert_eq!(engine.answer(&long(), &host).await.expect("an answer").tokens, right);
    assert_eq!(engine.model.cache_counters().resident, LAYERS * EXPERTS);
}

/// There are five slots for eight experts: slots of experts that were read ahead and are not needed go to those that
/// are missed.
async fn what_is_missed_gets_the_slots_of_what_was_only_likely() {
    let prompts = ["ab", "1+", "zq", "7 ", "Wh"].map(|text| prompt(text, 1));
    let right = right(&prompts).await;
    let whole = load(memory("nano", MODEL), &options(ExpertLoading::Ahead)).await;
    let five_slots = whole.model.plan().expert_bytes(5);
    drop(whole);
    let paged = LoadOptions { expert_memory_bytes: Some(five_slots), ..options(ExpertLoading::AsNeeded) };
    let mut given_up = 0;
    for (prompt, right) in prompts.iter().zip(right) {
        let source = GatedSource::new("nano", MODEL);
        let mut engine = load(source.clone(), &paged).await;
        let host = Gatekeeper::new(&source, |_: &Event| false);
        assert_eq!(engine.answer(prompt, &host).await.expect("an answer").tokens, right, "{}", prompt.user);
        given_up += source.dropped.get();
    }
    assert!(given_up > 0, "the case does not come about");
}

/// There are five slots for eight experts: what a stopped batch needed holds no slot that the next one needs, whose
/// experts come in turns.
async fn what_stopped_batches_needed_is_pinned_no_longer() {
    let right = right(&[long()]).await.remove(0);
    let whole = load(memory("nano", MODEL), &options(ExpertLoading::Ahead)).await;
    let five_slots = whole.model.plan().expert_bytes(5);
    drop(whole);
    let paged = LoadOptions { expert_memory_bytes: Some(five_slots), ..options(ExpertLoading::AsNeeded) };
    for (before, stopped) in [("ab", "1+"), ("1+", "zq"), ("7 ", "Wh")] {
        let source = GatedSource::new("nano", MODEL);
        let mut engine = load(source.clone(), &paged).await;
        engine.answer(&prompt(before, 0), &Quiet).await.expect("it is read");
        for layer in 0..LAYERS {
            let at_layer = move |event: &Event| matches!(event, Event::Missing(missing) if missing.layer == layer);
            let host = Gatekeeper::new(&source, at_layer);
            // Where the layer has all that is needed, nothing is stopped.
            let _stopped_or_not = engine.answer(&prompt(stopped, 0), &host).await;
            source.set_open(true);
        }
        assert_eq!(engine.answer(&long(), &Quiet).await.expect("an answer").tokens, right, "{before}, {stopped}");
    }
}

everywhere!(ahead, a_prompt_has_the_next_layer_read());
everywhere!(fails, what_fails_ahead_ends_the_answer_and_the_next_is_right());
everywhere!(stopped, stop_leaves_no_read_behind());
everywhere!(pins, what_stopped_batches_needed_is_pinned_no_longer());
everywhere!(slots, what_is_missed_gets_the_slots_of_what_was_only_likely());
