//! Work of the engine, counted at the calls themselves: per token at full residency, over a load, and after the engine
//! is dropped.

use std::rc::Rc;

use crate::support::{Recorder, engine_of, memory};
use gptoss_engine::{LoadPolicy, load, open_gpu, preflight};
use gptoss_kernels::GpuOptions;
use gptoss_model::{Backend, Quiet};
use gptoss_protocol::{Effort, Event, LoadOptions, Prompt, PromptFormat, Sampling, WorkCounters};
use gptoss_source::Source;

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

fn prompt(user: &str) -> Prompt {
    Prompt {
        user: user.into(),
        format: PromptFormat::Harmony,
        instructions: String::new(),
        effort: Effort::Low,
        date: Some("2026-01-31".into()),
        max_new_tokens: 40,
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

async fn a_decoded_token_is_one_submission_and_creates_nothing() {
    let host = Recorder::default();
    let source = memory("nano", MODEL);
    let mut engine =
        engine_of(source, &GpuOptions::default(), &LoadOptions::default(), &host).await.expect("nano loads");
    host.events.borrow_mut().clear();
    engine.answer(&prompt("What is 12 + 30?"), &host).await.expect("an answer");

    let events = host.events.borrow();
    let work: Vec<WorkCounters> =
        events.iter().filter_map(|event| if let Event::Work(work) = event { Some(*work) } else { None }).collect();
    let tokens = events.iter().filter(|event| matches!(event, Event::Token(_))).count();
    // One report after prefill, and one after each token but the last, which ends the answer.
    assert_eq!(work.len(), tokens);
    assert!(tokens > 5, "an answer of {tokens} tokens shows little");
    for pair in work.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        assert_eq!(after.submits - before.submits, 1);
        assert_eq!(after.buffers_created, before.buffers_created);
        assert_eq!(after.bind_groups_created, before.bind_groups_created);
        assert_eq!(after.pipelines_created, before.pipelines_created);
        assert_eq!(after.status_readback_bytes - before.status_readback_bytes, 32);
        assert_eq!(after.weights_fetched_bytes, before.weights_fetched_bytes);
    }
}

async fn a_load_fetches_what_it_needs_once_and_fills_what_it_planned() {
    let gpu = open_gpu(&GpuOptions::default(), &Quiet).await.expect("a GPU");
    let source = memory("nano", MODEL);
    let before = gpu.counters().allocated_bytes;
    let prepared =
        preflight(&gpu, source.as_ref(), &LoadOptions::default(), LoadPolicy::First, &Quiet).await.expect("a plan");
    let planned = prepared.plan.totals.clone();
    let host = Recorder::default();
    let model = load(Rc::clone(&gpu), source.clone(), prepared, &host).await.expect("nano loads");

    let work = model.work_counters();
    assert_eq!(work.weights_fetched_bytes, planned.load_bytes);
    assert_eq!(work.weights_used_bytes, planned.load_bytes);
    let events = host.events.borrow();
    let named = events.iter().filter(|event| matches!(event, Event::Tensor { .. })).count();
    assert_eq!(named, 117, "every tensor of the file is reported once");
    let fetches: Vec<(u64, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Fetch { fetched_bytes, needed_bytes, .. } => Some((*fetched_bytes, *needed_bytes)),
            _ => None,
        })
        .collect();
    assert!(fetches.is_sorted());
    assert_eq!(fetches.last(), Some(&(planned.load_bytes, planned.load_bytes)));

    let allocated = gpu.counters().allocated_bytes - before;
    assert_eq!(allocated, planned.gpu_total_bytes, "the plan knows every buffer");
    drop(model);
    assert_eq!(gpu.counters().allocated_bytes, before, "dropping the model frees everything");
    assert!(source.requests() > 0);
}

async fn paging_counts_hits_misses_and_evictions() {
    let host = Recorder::default();
    let source = memory("nano", MODEL);
    let five_slots = {
        let gpu = open_gpu(&GpuOptions::default(), &Quiet).await.expect("a GPU");
        let prepared =
            preflight(&gpu, source.as_ref(), &LoadOptions::default(), LoadPolicy::First, &Quiet).await.expect("a plan");
        prepared.plan.expert_bytes(5)
    };
    let options = LoadOptions { expert_memory_bytes: Some(five_slots), ..LoadOptions::default() };
    let mut engine = engine_of(source, &GpuOptions::default(), &options, &host).await.expect("nano loads");
    let loaded = engine.model.work_counters();
    assert_eq!(engine.model.cache_counters().resident, 0, "experts come when they are needed");
    let answer = engine.answer(&prompt("What is 12 + 30?"), &host).await.expect("an answer");

    let cache = engine.model.cache_counters();
    let totals = &engine.model.plan().totals;
    let expert_bytes = totals.on_disk_bytes / ((8 - 5) * 6);
    assert_eq!(cache.loaded_bytes, cache.misses * expert_bytes, "a miss is an expert that was read");
    // The last token ends the answer and is never run; a batch of the prompt needs each of eight experts once at most.
    let decoded = (answer.tokens.len() as u64 - 1) * 6 * 4;
    let prompt_batches = engine.encode(&prompt("What is 12 + 30?")).len().div_ceil(64) as u64;
    let uses = decoded..=decoded + prompt_batches * 6 * 8;
    assert!(uses.contains(&(cache.hits + cache.misses)), "each is counted once a batch and layer: {uses:?}, {cache:?}");
    assert!(cache.misses > 0 && cache.evictions > 0 && cache.slots == 30 && cache.resident <= 30, "{cache:?}");
    let work = engine.model.work_counters();
    assert_eq!(work.weights_fetched_bytes - loaded.weights_fetched_bytes, cache.loaded_bytes);
    assert_eq!(work.weights_fetched_bytes, work.weights_used_bytes);
}

everywhere!(tokens, a_decoded_token_is_one_submission_and_creates_nothing());
everywhere!(loads, a_load_fetches_what_it_needs_once_and_fills_what_it_planned());
everywhere!(paging, paging_counts_hits_misses_and_evictions());
