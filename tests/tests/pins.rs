//! Versions and features that must agree.

use std::collections::BTreeSet;
use std::process::Command;

use gptoss_tests::cargo_graph::{CargoGraph, WASM, host};
use gptoss_tests::workspace_root;

/// What turns compiled wasm into a page reads what the crate wrote into it, which only the same version is sure to
/// understand. The test runner is a feature of its own that no graph here has: its manifest is asked.
#[test]
fn what_makes_the_page_is_of_the_same_wasm_bindgen_as_the_page() {
    let wasm = CargoGraph::read(WASM).expect("cargo metadata");
    let [version] = wasm.versions_of("wasm-bindgen")[..] else { panic!("wasm-bindgen comes more than once") };
    let host = CargoGraph::read(&host().expect("rustc")).expect("cargo metadata");
    assert_eq!(host.versions_of("wasm-bindgen-cli-support"), [version]);
    let builder = host.own_packages().find(|package| package.name == "page-builder").expect("page-builder");
    let runner = builder.dependencies.iter().find(|dependency| dependency.name == "wasm-bindgen-cli");
    assert_eq!(runner.expect("the runner").requirement, format!("={version}"));
}

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

/// `cargo xtask` builds xtask alone, whose dependencies then have the features that it asks for; the tests build the
/// workspace. With the same features nothing is compiled twice.
#[test]
fn dependencies_of_xtask_are_those_of_the_tests() {
    let tree = |arguments: &[&str]| -> BTreeSet<String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--prefix", "none", "--format", "{p} {f}"]).args(arguments).current_dir(workspace_root());
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("names are ASCII");
        text.lines().map(|line| line.trim_end_matches("(*)").trim_end().to_owned()).collect()
    };
    let alone = tree(&["--package", "xtask", "--edges", "normal,build"]);
    let together = tree(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(alone.len() > 100, "{alone:?}");
    let twice: Vec<_> = alone.difference(&together).collect();
    assert!(
        twice.is_empty(),
        "compiled twice; in xtask/Cargo.toml ask for the features that `cargo tree` says: {twice:#?}"
    );
}
