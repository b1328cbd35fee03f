//! `cargo xtask test`: every check there is, in the order in which a failure is cheapest to find.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use browser_driver::{Gpu, Installation, LaunchOptions, chrome_arguments};
use serde_json::json;

use crate::cargo_tests::{self, Counts};
use crate::fuzz;
use crate::page;
use crate::process::{self, Toolbox};
use crate::setup;
use crate::workspace::Workspace;

/// One part of the whole, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// rustfmt finds nothing to change.
    Format,
    /// clippy and rustdoc have nothing to say, for this machine and for wasm.
    Lint,
    /// The page builds.
    Page,
    /// Unit and integration tests on this machine, its GPU or a software one included.
    Native,
    /// A minute of looking for requests that gguf-serve decides wrongly.
    Fuzz,
    /// The crates that run in the browser, tested in headless Chromium.
    Wasm,
    /// The real page, served by gguf-serve, in headless Chromium.
    EndToEnd,
}

const STEPS: [Step; 7] = [Step::Format, Step::Lint, Step::Page, Step::Native, Step::Fuzz, Step::Wasm, Step::EndToEnd];

/// The same selection in every native command, so that cargo sees the same features and compiles each dependency once.
const NATIVE: &[&str] = &["--workspace"];
const NATIVE_PACKAGES: &[&str] = &[
    "gptoss-gguf",
    "gptoss-source",
    "gptoss-text",
    "gptoss-protocol",
    "gptoss-model",
    "gptoss-kernels",
    "gptoss-engine",
    "gptoss-cpu",
    "gptoss-node",
    "pylon",
    "gptoss-web",
    "gguf-serve",
    "gptoss-finder",
    "browser-driver",
    "gptoss-synth",
    "gptoss-costs",
    "gptoss-examples",
    "gptoss-tests",
    "xtask",
];

/// Crates with tests that run in a browser.
const WASM_TESTED: &[&str] = &["gptoss-source", "gptoss-model", "gptoss-kernels", "gptoss-engine"];
const WASM_TARGET: &[&str] = &["--target", "wasm32-unknown-unknown"];

/// For all tests of a crate together. SwiftShader compiles and runs kernels slowly, and CI machines have two cores.
const WASM_TEST_TIMEOUT_SECONDS: u32 = 2400;

/// What one step brought.
#[derive(Debug)]
struct Outcome {
    step: String,
    took: Duration,
    counts: Counts,
    result: Result<()>,
}

/// Runs all steps, or those of `only`, stopping at the first that fails. The last line printed is `N passed, N failed`.
pub fn run(workspace: &Workspace, toolbox: &Toolbox, only: &[Step]) -> Result<()> {
    let mut outcomes = vec![timed("setup", || without_tests(setup::everything(workspace, toolbox).map(drop)))];
    for step in STEPS.into_iter().filter(|step| only.is_empty() || only.contains(step)) {
        if outcomes.iter().any(|outcome| outcome.result.is_err()) {
            break;
        }
        outcomes.push(timed(name(step), || run_step(step, workspace, toolbox)));
    }
    conclude(outcomes)
}

/// clippy for this machine, for wasm and for the fuzzer, and the documentation of all crates; a warning is an error.
pub fn lint(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    let native = ["--all-targets", "--features", "gptoss-tests/e2e"];
    clippy(toolbox, &[NATIVE, &native, &deny].concat())?;
    let mut wasm = [WASM_TARGET, &["--all-targets", "--package", "gptoss-web"]].concat();
    wasm.extend(WASM_TESTED.iter().flat_map(|package| ["--package", package]));
    clippy(toolbox, &[wasm.as_slice(), &deny].concat())?;
    fuzz::lint(workspace, toolbox)?;
    document(toolbox)
}

/// Documentation of our crates: a link that leads nowhere is an error.
fn document(toolbox: &Toolbox) -> Result<()> {
    process::run(toolbox.cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn check_format(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    process::run(&mut toolbox.cargo(&["fmt", "--all", "--check"]))?;
    fuzz::check_format(workspace, toolbox)
}

fn clippy(toolbox: &Toolbox, arguments: &[&str]) -> Result<()> {
    process::run(toolbox.cargo(&["clippy"]).args(arguments))
}

fn run_step(step: Step, workspace: &Workspace, toolbox: &Toolbox) -> (Counts, Result<()>) {
    match step {
        Step::Format => without_tests(check_format(workspace, toolbox)),
        Step::Lint => without_tests(lint(workspace, toolbox)),
        Step::Page => without_tests(page::build(workspace, toolbox)),
        Step::Native => cargo_tests::run(toolbox, NATIVE, &[], NATIVE_PACKAGES),
        Step::Fuzz => fuzz::test(workspace, toolbox),
        Step::Wasm => wasm_tests(workspace, toolbox),
        Step::EndToEnd => {
            let selection = [NATIVE, &["--features", "gptoss-tests/e2e", "--test", "page"]].concat();
            cargo_tests::run(toolbox, &selection, &[], &["gptoss-tests"])
        }
    }
}

fn wasm_tests(workspace: &Workspace, toolbox: &Toolbox) -> (Counts, Result<()>) {
    let environment = match wasm_test_environment(workspace) {
        Ok(environment) => environment,
        Err(error) => return (Counts::default(), Err(error)),
    };
    let mut selection = WASM_TARGET.to_vec();
    selection.extend(WASM_TESTED.iter().flat_map(|package| ["--package", package]));
    cargo_tests::run(toolbox, &selection, &environment, WASM_TESTED)
}

/// Tells wasm-bindgen's test runner which browser to use and how to start it: as the end-to-end tests do.
fn wasm_test_environment(workspace: &Workspace) -> Result<Vec<(&'static str, String)>> {
    let Installation { chrome, chromedriver } = Installation::find()?;
    let arguments = chrome_arguments(&LaunchOptions { gpu: Gpu::Software, ..LaunchOptions::default() });
    let capabilities = json!({ "goog:chromeOptions": { "binary": chrome, "args": arguments } });
    let file = workspace.target.join("webdriver.json");
    std::fs::write(&file, format!("{capabilities:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(vec![
        ("CHROMEDRIVER", chromedriver.display().to_string()),
        ("WASM_BINDGEN_TEST_WEBDRIVER_JSON", file.display().to_string()),
        ("WASM_BINDGEN_TEST_TIMEOUT", WASM_TEST_TIMEOUT_SECONDS.to_string()),
        ("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60".to_owned()),
    ])
}

fn without_tests(result: Result<()>) -> (Counts, Result<()>) {
    (Counts::default(), result)
}

/// A step's name as it is given to `--only`.
fn name(step: Step) -> &'static str {
    match step {
        Step::Format => "format",
        Step::Lint => "lint",
        Step::Page => "page",
        Step::Native => "native",
        Step::Fuzz => "fuzz",
        Step::Wasm => "wasm",
        Step::EndToEnd => "end-to-end",
    }
}

fn timed(step: &str, work: impl FnOnce() -> (Counts, Result<()>)) -> Outcome {
    println!("\n=== {step} ===");
    let start = Instant::now();
    let (counts, result) = work();
    Outcome { step: step.to_owned(), took: start.elapsed(), counts, result }
}

/// Prints the summary and turns the first failure into this command's error.
fn conclude(outcomes: Vec<Outcome>) -> Result<()> {
    println!("\n=== summary ===");
    for outcome in &outcomes {
        println!("{}", summary_line(outcome));
    }
    let total = totals(&outcomes);
    let failure = outcomes.into_iter().find_map(|outcome| Some((outcome.step, outcome.result.err()?)));
    if let Some((step, error)) = &failure {
        println!("step {step} failed: {error:#}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    match failure {
        Some((step, _)) => bail!("step {step} failed"),
        None => Ok(()),
    }
}

fn summary_line(outcome: &Outcome) -> String {
    let seconds = outcome.took.as_secs();
    let state = if outcome.result.is_ok() { "ok" } else { "FAILED" };
    let Counts { passed, failed, .. } = outcome.counts;
    let counts = if passed + failed > 0 { format!("  {passed} passed, {failed} failed") } else { String::new() };
    format!("{:<12} {state:<7} {:>3} min {:02} s{counts}", outcome.step, seconds / 60, seconds % 60)
}

/// Sum of all tests. A step that failed without a failing test (a lint, a build, a dead runner) counts as one failure.
fn totals(outcomes: &[Outcome]) -> Counts {
    let mut total = Counts::default();
    for outcome in outcomes {
        total.add(outcome.counts);
        if outcome.result.is_err() && outcome.counts.failed == 0 {
            total.failed += 1;
        }
    }
    total
}
