//! The memory plan: pure, from header and limits alone.
#![cfg(not(target_arch = "wasm32"))]

use crate::support::{DEFAULT_LIMITS, header};
use gptoss_engine::{MemoryPlan, PlanOptions};
use gptoss_kernels::gpu::Limits;
use gptoss_model::sequences::Reach;
use gptoss_model::{EngineError, Header};

const NANO: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
const TINY: &[u8] = include_bytes!("../../tests/goldens/tiny.gguf");

fn plan(header: &Header, limits: &Limits, options: &PlanOptions) -> Result<MemoryPlan, EngineError> {
    MemoryPlan::new(&header.config, &header.inventory, limits, options)
}

#[test]
fn sliding_layers_hold_windows_and_full_layers_hold_the_context() {
    let header = header(NANO);
    let options = PlanOptions { max_kv_tokens: Some(4000), ..PlanOptions::for_model(&header.config) };
    let plan = plan(&header, &DEFAULT_LIMITS, &options).expect("fits");
    let of_reach = [Reach::Full, Reach::Sliding].map(|reach| plan.kv.blocks(reach));
    // 4000 tokens; on even layers a window of 64, 64 behind it, two batches of 64 and what they touch, and four turns.
    assert_eq!(of_reach, [63, 5 + 4 * 2]);
    // Two KV heads of 64, keys and values, two bytes each.
    assert_eq!(plan.totals.kv_bytes, 3 * (63 + 13) * 64 * 2 * 64 * 2 * 2);
    let both = PlanOptions { sequences: 2, ..options };
    let both = self::plan(&header, &DEFAULT_LIMITS, &both).expect("fits");
    assert_eq!([Reach::Full, Reach::Sliding].map(|reach| both.kv.blocks(reach)), [64, 26]);
    assert_eq!(both.head_tokens, 2, "each may want something");
}

/// The predecessor sized its cache by hidden / heads, which is 32 here.
#[test]
fn the_cache_is_sized_by_the_head_dimension() {
    let header = header(TINY);
    assert_eq!(header.config.hidden / header.config.query_heads, 32);
    let options = PlanOptions { max_kv_tokens: Some(500), ..PlanOptions::for_model(&header.config) };
    let plan = plan(&header, &DEFAULT_LIMITS, &options).expect("fits");
    assert_eq!(plan.cache_bytes(&header.config, 1), 512 * 2 * 64 * 2, "whole blocks");
}

#[test]
fn expert_memory_decides_the_slots_and_never_exceeds_what_was_given() {
    let header = header(NANO);
    let everything = plan(&header, &DEFAULT_LIMITS, &PlanOptions::for_model(&header.config)).expect("fits");
    assert!(!everything.totals.paged && everything.slots_per_layer == 8);
    for given in (4..=9).map(|slots| everything.expert_bytes(slots) + 17) {
        let options = PlanOptions { expert_memory_bytes: Some(given), ..PlanOptions::for_model(&header.config) };
        let plan = plan(&header, &DEFAULT_LIMITS, &options).expect("at least four slots");
        assert!(plan.totals.expert_bytes <= given);
        assert_eq!(plan.totals.paged, plan.slots_per_layer < 8);
        // Paged experts are not part of the load.
        assert_eq!(plan.totals.paged, plan.totals.load_bytes < everything.totals.load_bytes);
    }
    let options = PlanOptions {
        expert_memory_bytes: Some(everything.expert_bytes(4) - 1),
        ..PlanOptions::for_model(&header.config)
    };
    let minimum = everything.expert_bytes(4);
    match plan(&header, &DEFAULT_LIMITS, &options) {
        Err(EngineError::ExpertMemory { minimum: told, slots: 3, needed: 4, .. }) => assert_eq!(told, minimum),
        other => panic!("expected a refusal that names {minimum} bytes, got {other:?}"),
    }
}

#[test]
fn arenas_and_context_respect_the_binding_limit() {
    let header = header(NANO);
    let whole = plan(&header, &DEFAULT_LIMITS, &PlanOptions::for_model(&header.config)).expect("fits");
    assert_eq!(whole.arenas, vec![vec![8]; 6]);
    let limits = Limits { max_binding_bytes: 3 * whole.slot_layouts[0].slot_bytes + 100, ..DEFAULT_LIMITS };
    let options = PlanOptions { max_kv_tokens: Some(200), ..PlanOptions::for_model(&header.config) };
    let sharded = plan(&header, &limits, &options).expect("fits");
    assert_eq!(sharded.arenas, vec![vec![3, 3, 2]; 6]);
    let too_long = PlanOptions { max_kv_tokens: Some(131_072), ..options };
    let error = plan(&header, &limits, &too_long).expect_err("a cache of 131072 tokens does not fit a small binding");
    assert!(error.to_string().contains("131072"), "{error}");
}
