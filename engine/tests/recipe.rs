//! The forward pass as data: what it calls and on what, told without a GPU.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use crate::support::{DEFAULT_LIMITS, header};
use gptoss_engine::{MemoryPlan, PlanOptions, Recipe};
use gptoss_gguf::WeightType;
use gptoss_kernels::gpu::{Access, Limits};
use gptoss_kernels::{Call, Operation};
use gptoss_model::{CacheFormat, Header};
use gptoss_synth::{Spec, TypeMix, parse_type};

const NANO: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

fn recipe(file: &[u8], limits: &Limits) -> Recipe {
    let Header { config, inventory, .. } = header(file);
    let plan = MemoryPlan::new(&config, &inventory, limits, &PlanOptions::for_model(&config)).expect("fits");
    Recipe::new(&config, &inventory, &plan, limits).expect("fits")
}

fn names<B>(calls: &[Call<B>]) -> Vec<&'static str> {
    calls.iter().map(|call| call.operation.name()).collect()
}

/// Q, K and V are one product, and no norm is a call of its own: what precedes it writes half of it, what follows reads
/// it.
#[test]
fn a_layer_is_eight_calls() {
    let recipe = recipe(NANO, &DEFAULT_LIMITS);
    assert_eq!(names(&recipe.begin), ["experts_combine"]);
    for layer in &recipe.layers {
        assert_eq!(names(&layer.attend), ["matmul", "rope", "attention", "matmul_residual", "router"]);
        assert_eq!(names(&layer.experts), ["experts_gate_up", "experts_down"]);
        assert_eq!(names(&layer.combine), ["experts_combine"]);
        assert_eq!(layer.attention_row.operation.name(), "attention_row");
    }
    assert_eq!(names(&recipe.head), ["matmul", "sample"]);
    assert_eq!(recipe.calls().count(), 1 + 6 * 8 + 2);
}

/// A matrix that no binding holds is several calls, and so are experts that no binding holds.
#[test]
fn shards_and_arenas_have_calls_of_their_own() {
    let small = Limits { max_binding_bytes: 64 << 10, ..DEFAULT_LIMITS };
    let (whole, sharded) = (recipe(NANO, &DEFAULT_LIMITS), recipe(NANO, &small));
    let count = |recipe: &Recipe, name: &str| recipe.calls().filter(|call| call.operation.name() == name).count();
    for name in ["matmul", "experts_gate_up", "experts_down"] {
        assert!(count(&sharded, name) > count(&whole, name), "{name}");
    }
    for name in ["rope", "attention", "router", "experts_combine", "sample"] {
        assert_eq!(count(&sharded, name), count(&whole, name), "{name}");
    }
}

/// WebGPU refuses a call that writes a buffer which it has bound twice.
#[test]
fn no_call_writes_what_it_binds_twice() {
    for rows_per_group in [8, 64] {
        let recipe = recipe(NANO, &Limits { rows_per_group, ..DEFAULT_LIMITS });
        for call in recipe.calls().chain(recipe.watching_calls()) {
            // The second binding is the parameters'.
            let mut accesses = call.operation.accesses().to_vec();
            assert_eq!(accesses.remove(1), Access::Uniform, "{}", call.operation);
            for (at, (buffer, access)) in call.buffers.iter().zip(&accesses).enumerate() {
                let others = call.buffers.iter().enumerate().filter(|(other, it)| *other != at && *it == buffer);
                assert!(*access != Access::ReadWrite || others.count() == 0, "{} binds {at} twice", call.operation);
            }
        }
    }
}

/// What is compiled and checked: each operation in each format that the file has, and no other.
#[test]
fn operations_are_those_that_the_formats_of_the_file_ask_for() {
    let mix = TypeMix::Uniform(parse_type("Q4_K").expect("a type of GGUF"));
    let of = |recipe: &Recipe| {
        let mut all: BTreeMap<String, Operation> = BTreeMap::new();
        all.extend(recipe.operations().map(|operation| (operation.to_string(), operation)));
        all.into_keys().collect::<Vec<_>>()
    };
    let nano = of(&recipe(NANO, &DEFAULT_LIMITS));
    let common = ["attention F16", "attention_row F16", "experts_combine", "rope F16", "router", "sample"];
    let expected = |dense: &str, experts: &str| {
        let mut all: Vec<String> = common.map(str::to_owned).into();
        all.extend(["matmul", "matmul_residual"].map(|name| format!("{name} {dense}")));
        all.extend(["experts_gate_up", "experts_down"].map(|name| format!("{name} {experts}")));
        all.sort();
        all
    };
    assert_eq!(nano, expected("Q8_0", "MXFP4"));
    let file = Spec::tiny().layers(1).types(mix).to_bytes().expect("a model");
    assert_eq!(of(&recipe(&file, &DEFAULT_LIMITS)), expected("Q4_K", "Q4_K"));
    assert!(Operation::all().contains(&Operation::MatmulResidual(WeightType::Q4K)));
    assert!(Operation::all().contains(&Operation::Rope(CacheFormat::F32)));
}

/// Some kernels read normalised activations by vec4: of a buffer that ends within one they would not see the end.
#[test]
fn normalised_activations_are_whole_vec4() {
    let header = header(NANO);
    for batch_tokens in [1, 3, 7, 64] {
        for rows_per_group in [8, 64] {
            let limits = Limits { rows_per_group, ..DEFAULT_LIMITS };
            let options = PlanOptions { batch_tokens, ..PlanOptions::for_model(&header.config) };
            let plan = MemoryPlan::new(&header.config, &header.inventory, &limits, &options).expect("fits");
            let recipe = Recipe::new(&header.config, &header.inventory, &plan, &limits).expect("fits");
            let normed = recipe.buffers.iter().find(|buffer| buffer.what == "normed").expect("there is one");
            assert_eq!(normed.bytes % 16, 0, "{batch_tokens} tokens: {normed:?}");
        }
    }
}
