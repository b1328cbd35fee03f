//! Versions that must agree.

use gptoss_tests::cargo_graph::{CargoGraph, WASM};

/// The crate and the command-line tool that xtask installs from the same pin must be one version, and the crates that
/// wasm-bindgen consists of must not come twice.
#[test]
fn wasm_bindgen_is_one_exact_version() {
    let graph = CargoGraph::read(WASM).expect("cargo metadata");
    let mut users = 0;
    for package in graph.own_packages() {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.name == "wasm-bindgen") {
            users += 1;
            let locked = graph.versions_of("wasm-bindgen");
            let pinned = dependency.requirement.strip_prefix('=').map(str::trim);
            let pinned =
                pinned.unwrap_or_else(|| panic!("{} asks for wasm-bindgen {}", package.name, dependency.requirement));
            assert_eq!(locked, [pinned], "{} pins another wasm-bindgen than Cargo.lock has", package.name);
        }
    }
    assert!(users > 0, "no crate uses wasm-bindgen: this check looks at nothing");
}

/// Two versions of the GPU stack would be two types that do not fit, and twice the time to build.
#[test]
fn the_gpu_stack_comes_once() {
    let graph = CargoGraph::read(WASM).expect("cargo metadata");
    for name in ["wgpu", "naga"] {
        let versions = graph.versions_of(name);
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}
