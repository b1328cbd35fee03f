//! Which crate may depend on which. The table is the design; a new edge is a decision, and is made here first.

use std::collections::BTreeSet;

use gptoss_tests::cargo_graph::{CargoGraph, WASM, host};

/// Every crate of the workspace with the crates of the workspace that it may depend on (its own tests aside).
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("gptoss-gguf", &[]),
    ("gptoss-finder", &["gptoss-gguf"]),
    ("gptoss-source", &[]),
    ("gptoss-text", &[]),
    ("gptoss-protocol", &[]),
    ("gptoss-model", &["gptoss-gguf", "gptoss-source", "gptoss-protocol", "gptoss-text"]),
    ("gptoss-kernels", &["gptoss-gguf", "gptoss-model", "gptoss-source", "gptoss-protocol"]),
    (
        "gptoss-engine",
        &["gptoss-gguf", "gptoss-kernels", "gptoss-model", "gptoss-source", "gptoss-protocol", "gptoss-text"],
    ),
    // Checks of what the engine stands on, for the page and the command line alike.
    (
        "gptoss-gates",
        &[
            "gptoss-engine",
            "gptoss-gguf",
            "gptoss-kernels",
            "gptoss-model",
            "gptoss-protocol",
            "gptoss-source",
            // The tokenizer that makes tokens of a prompt, and text of the likeliest ones.
            "gptoss-text",
        ],
    ),
    ("gptoss-cpu", &["gptoss-gguf", "gptoss-model", "gptoss-source", "gptoss-protocol"]),
    ("gptoss-node", &["gptoss-model", "gptoss-protocol", "gptoss-source"]),
    // What restricts the sampler is given to the engine, as what computes is: neither engine nor page knows it.
    ("gptoss-grammar", &["gptoss-model", "gptoss-protocol", "gptoss-text"]),
    // Whatever computes is given to it: it knows no engine. Of grammars it asks whether a request's can be used.
    ("gptoss-api", &["gptoss-grammar", "gptoss-node", "gptoss-protocol", "serve-kit"]),
    // Engines elsewhere: what a prompt and an answer are is the model's business, who serves it nobody's here.
    ("gptoss-upstream", &["gptoss-model", "gptoss-protocol", "gptoss-text"]),
    (
        "pylon",
        &[
            "gptoss-api",
            "gptoss-cpu",
            "gptoss-engine",
            "gptoss-finder",
            "gptoss-gates",
            "gptoss-gguf",
            "gptoss-grammar",
            "gptoss-kernels",
            "gptoss-model",
            "gptoss-node",
            "gptoss-source",
            "gptoss-protocol",
            "gptoss-text",
            "gptoss-upstream",
            "serve-kit",
        ],
    ),
    ("gptoss-synth", &["gptoss-gguf", "gptoss-protocol"]),
    ("gptoss-costs", &["gptoss-engine", "gptoss-gguf", "gptoss-kernels", "gptoss-model", "gptoss-synth"]),
    ("gptoss-page", &["gptoss-protocol", "gptoss-source"]),
    (
        "gptoss-worker",
        &[
            "gptoss-engine",
            "gptoss-gates",
            "gptoss-gguf",
            "gptoss-model",
            "gptoss-node",
            "gptoss-protocol",
            "gptoss-source",
        ],
    ),
    // What every server of ours needs, and nothing about models.
    ("serve-kit", &[]),
    ("gguf-serve", &["gptoss-finder", "gptoss-gguf", "gptoss-protocol", "serve-kit"]),
    ("browser-driver", &[]),
    // What a program of somebody else's would depend on.
    (
        "gptoss-examples",
        &["gptoss-cpu", "gptoss-engine", "gptoss-gguf", "gptoss-model", "gptoss-protocol", "gptoss-source"],
    ),
    ("page-builder", &["gptoss-protocol"]),
    ("xtask", &["browser-driver", "gptoss-protocol"]),
    // Tests may look at everything; nothing may depend on them.
    (
        "gptoss-tests",
        &[
            "gptoss-gguf",
            "gptoss-source",
            "gptoss-text",
            "gptoss-protocol",
            "gptoss-kernels",
            "gptoss-engine",
            "gguf-serve",
            "browser-driver",
        ],
    ),
];

/// Crates that know no host, and what would tie them to one: an async runtime, a network stack, a browser.
const HOST_FREE: &[&str] = &[
    "gptoss-gguf",
    "gptoss-text",
    "gptoss-protocol",
    "gptoss-model",
    "gptoss-kernels",
    "gptoss-engine",
    "gptoss-gates",
    "gptoss-node",
];
const HOSTS: &[&str] =
    &["tokio", "async-std", "smol", "hyper", "reqwest", "ureq", "mio", "web-sys", "js-sys", "wasm-bindgen", "gloo-net"];

/// Crates without arithmetic: no GPU, no browser, on any platform.
const PLAIN: &[&str] = &["gptoss-gguf", "gptoss-text", "gptoss-protocol"];

#[test]
fn crates_depend_only_on_those_they_may() {
    let graph = host_graph();
    let own: BTreeSet<_> = graph.own_packages().map(|package| package.name.as_str()).collect();
    let listed: BTreeSet<_> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    assert_eq!(own, listed, "the table names every crate of the workspace and no other");

    let mut forbidden = Vec::new();
    for package in graph.own_packages() {
        let allowed =
            MAY_DEPEND_ON.iter().find(|(name, _)| *name == package.name).map_or(&[][..], |(_, allowed)| allowed);
        for dependency in package.dependencies.iter().filter(|dependency| dependency.is_for_building()) {
            if own.contains(dependency.name.as_str()) && !allowed.contains(&dependency.name.as_str()) {
                forbidden.push(format!("{} → {}", package.name, dependency.name));
            }
        }
    }
    assert!(forbidden.is_empty(), "forbidden dependencies: {forbidden:#?}");
}

#[test]
fn the_engine_and_what_it_stands_on_know_no_host() {
    let graph = host_graph();
    for name in HOST_FREE {
        let needed = graph.needed_by(name);
        let found: Vec<_> = HOSTS.iter().filter_map(|host| needed.get(*host)).collect();
        assert!(found.is_empty(), "{name} must not need a host's crates: {found:#?}");
    }
}

/// What gpt-oss is, what runs it on a CPU, and the controller of any backend.
const WITHOUT_GPU: &[&str] = &["gptoss-model", "gptoss-cpu", "gptoss-node"];

#[test]
fn the_model_its_cpu_backend_and_the_controller_need_no_gpu() {
    let graph = host_graph();
    for name in WITHOUT_GPU {
        let needed = graph.needed_by(name);
        let found: Vec<_> = ["wgpu", "naga"].iter().filter_map(|name| needed.get(*name)).collect();
        assert!(found.is_empty(), "{name} must do without a GPU: {found:#?}");
    }
}

#[test]
fn crates_without_arithmetic_need_neither_gpu_nor_browser_anywhere() {
    for graph in [host_graph(), CargoGraph::read(WASM).expect("cargo metadata")] {
        for name in PLAIN {
            let needed = graph.needed_by(name);
            let found: Vec<_> = HOSTS.iter().chain(&["wgpu", "naga"]).filter_map(|name| needed.get(*name)).collect();
            assert!(found.is_empty(), "{name} must stay plain: {found:#?}");
        }
    }
}

/// The checks above would pass on an empty graph.
#[test]
fn the_graph_is_followed_through_other_crates() {
    let needed = host_graph().needed_by("browser-driver");
    let way = needed.get("hyper").expect("the WebDriver client speaks HTTP through hyper");
    assert!(way.starts_with("browser-driver → ") && way.ends_with(" → hyper"), "{way}");
    let needed = CargoGraph::read(WASM).expect("cargo metadata").needed_by("gptoss-engine");
    assert!(needed.contains_key("wgpu") && needed.contains_key("web-sys"), "{needed:?}");
}

fn host_graph() -> CargoGraph {
    CargoGraph::read(&host().expect("rustc")).expect("cargo metadata")
}
