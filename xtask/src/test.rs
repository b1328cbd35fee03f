//! `cargo xtask test`: every check there is, in the order in which a failure is cheapest to find.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use browser_driver::{Gpu, Installation, LaunchOptions, chrome_arguments};
use serde_json::json;

use crate::cargo_tests::{self, Case, Counts, Ran, Selection, Times};
use crate::clients;
use crate::fuzz;
use crate::page;
use crate::parts;
use crate::process::{self, Toolbox};
use crate::setup;
use crate::test_program;
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
    /// A moment of looking for requests that gguf-serve decides wrongly.
    Fuzz,
    /// The crates that run in the browser, tested in headless Chromium.
    Wasm,
    /// The real page, served by gguf-serve, in headless Chromium.
    EndToEnd,
    /// Other people's clients of the API, installed at pinned versions.
    Clients,
}

const STEPS: [Step; 8] =
    [Step::Format, Step::Lint, Step::Page, Step::Native, Step::Fuzz, Step::Wasm, Step::EndToEnd, Step::Clients];

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
    "gptoss-gates",
    "gptoss-cpu",
    "gptoss-node",
    "gptoss-grammar",
    "gptoss-api",
    "gptoss-upstream",
    "pylon",
    "gptoss-page",
    "gptoss-worker",
    "serve-kit",
    "gguf-serve",
    "gptoss-finder",
    "browser-driver",
    "gptoss-synth",
    "gptoss-costs",
    "gptoss-examples",
    "gptoss-tests",
    "page-builder",
    "xtask",
];

/// For what is compiled only on request.
const ALL_FEATURES: &[&str] = &["--features", "gptoss-tests/e2e,page-builder/tools"];

/// Crates with tests that run in a browser.
const WASM_TESTED: &[&str] = &["gptoss-source", "gptoss-model", "gptoss-kernels", "gptoss-engine"];
const WASM_TARGET: &[&str] = &["--target", "wasm32-unknown-unknown"];

/// What runs the tests of a wasm program in a browser, as for cargo in .cargo/config.toml.
const WASM_RUNNER: &str = "wasm-bindgen-test-runner";

/// For all tests of a crate together. SwiftShader compiles and runs kernels slowly, and CI machines have two cores.
const WASM_TEST_TIMEOUT_SECONDS: u32 = 2400;

/// How many of the slowest tests are listed at the end.
const SLOWEST: usize = 15;

/// What one step brought.
#[derive(Debug)]
struct Outcome {
    step: String,
    took: Duration,
    ran: Ran,
}

/// Runs all steps, or those of `only`, stopping at the first that fails. The last line printed is `N passed, N failed`.
pub fn run(workspace: &Workspace, toolbox: &Toolbox, only: &[Step]) -> Result<()> {
    let mut outcomes = vec![timed("setup", || without_tests(setup::tests(workspace, toolbox)))];
    for step in STEPS.into_iter().filter(|step| only.is_empty() || only.contains(step)) {
        if outcomes.iter().any(|outcome| outcome.ran.result.is_err()) {
            break;
        }
        outcomes.push(timed(name(step), || run_step(step, workspace, toolbox)));
    }
    conclude(outcomes)
}

/// clippy for this machine, for wasm and for the fuzzer, and the documentation of all crates; a warning is an error.
pub fn lint(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    clippy(toolbox, &[NATIVE, &["--all-targets"], ALL_FEATURES, &deny].concat())?;
    let ours = ["--all-targets", "--package", "gptoss-page", "--package", "gptoss-worker", "--package", "gptoss-node"];
    let mut wasm = [WASM_TARGET, &ours].concat();
    wasm.extend(WASM_TESTED.iter().flat_map(|package| ["--package", package]));
    clippy(toolbox, &[wasm.as_slice(), &deny].concat())?;
    fuzz::lint(workspace, toolbox)?;
    document(toolbox)
}

/// Documentation of our crates: a link that leads nowhere is an error. With clippy's features, so that less of what it has
/// checked of dependencies is checked again.
fn document(toolbox: &Toolbox) -> Result<()> {
    let arguments = [NATIVE, &["--no-deps"], ALL_FEATURES].concat();
    process::run(toolbox.cargo(&["doc"]).args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

fn check_format(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    process::run(&mut toolbox.cargo(&["fmt", "--all", "--check"]))?;
    fuzz::check_format(workspace, toolbox)
}

fn clippy(toolbox: &Toolbox, arguments: &[&str]) -> Result<()> {
    process::run(toolbox.cargo(&["clippy"]).args(arguments))
}

fn run_step(step: Step, workspace: &Workspace, toolbox: &Toolbox) -> Ran {
    match step {
        Step::Format => without_tests(check_format(workspace, toolbox)),
        Step::Lint => without_tests(lint(workspace, toolbox)),
        Step::Page => without_tests(page::build(workspace, toolbox)),
        Step::Native => native_tests(toolbox),
        Step::Fuzz => fuzz::test(workspace, toolbox),
        Step::Wasm => wasm_tests(workspace, toolbox),
        Step::EndToEnd => end_to_end_tests(toolbox),
        Step::Clients => match clients::run_all(workspace, toolbox) {
            Ok(passed) => Ran::without_cases(Counts { passed, ..Counts::default() }, Ok(())),
            Err(error) => Ran::failed(error),
        },
    }
}

/// Documentation's examples come last: cargo compiles them one by one, and its runner is not for them.
fn native_tests(toolbox: &Toolbox) -> Ran {
    let [programs, documentation] = ["--tests", "--doc"].map(|kind| [NATIVE, &[kind]].concat());
    let selection = |cargo, packages, times| Selection { cargo, program: &[], environment: &[], packages, times };
    cargo_tests::run(toolbox, &selection(&programs, NATIVE_PACKAGES, Times::Reported))
        .and(|| cargo_tests::run(toolbox, &selection(&documentation, &[], Times::Unknown)))
}

fn wasm_tests(workspace: &Workspace, toolbox: &Toolbox) -> Ran {
    let environment = match wasm_test_environment(workspace) {
        Ok(environment) => environment,
        Err(error) => return without_tests(Err(error)),
    };
    let mut cargo = WASM_TARGET.to_vec();
    cargo.extend(WASM_TESTED.iter().flat_map(|package| ["--package", package]));
    let times = Times::BetweenLines;
    let selection = Selection { cargo: &cargo, program: &[], environment: &environment, packages: WASM_TESTED, times };
    parts::run(toolbox, &selection, &[WASM_RUNNER.to_owned()])
}

fn end_to_end_tests(toolbox: &Toolbox) -> Ran {
    let cargo = [NATIVE, &["--features", "gptoss-tests/e2e", "--test", "page"]].concat();
    // They wait for each other anyway; without the waiting, times are those of the tests.
    let program = &["--test-threads=1"];
    let packages = &["gptoss-tests"];
    let selection = Selection { cargo: &cargo, program, environment: &[], packages, times: Times::Reported };
    match test_program::words(toolbox) {
        Ok(runner) => parts::run(toolbox, &selection, &runner),
        Err(error) => without_tests(Err(error)),
    }
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

fn without_tests(result: Result<()>) -> Ran {
    Ran::without_cases(Counts::default(), result)
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
        Step::Clients => "clients",
    }
}

fn timed(step: &str, work: impl FnOnce() -> Ran) -> Outcome {
    println!("\n=== {step} ===");
    let start = Instant::now();
    let ran = work();
    Outcome { step: step.to_owned(), took: start.elapsed(), ran }
}

/// Lines for the tests that took longest, the longest first.
fn slowest(outcomes: &[Outcome]) -> Vec<String> {
    let of_step = |outcome: &'_ Outcome| -> Vec<(String, Case)> {
        outcome.ran.cases.iter().map(|case| (outcome.step.clone(), case.clone())).collect()
    };
    let mut cases: Vec<_> = outcomes.iter().flat_map(of_step).collect();
    cases.sort_by_key(|(_, case)| std::cmp::Reverse(case.took));
    let line = |(step, case): &(String, Case)| format!("{:>7.1} s  {step:<10} {}", case.took.as_secs_f64(), case.name);
    cases.iter().take(SLOWEST).map(line).collect()
}

/// Prints the summary and turns the first failure into this command's error.
fn conclude(outcomes: Vec<Outcome>) -> Result<()> {
    let slowest = slowest(&outcomes);
    if !slowest.is_empty() {
        println!("\n=== slowest tests ===\n{}", slowest.join("\n"));
    }
    println!("\n=== summary ===");
    for outcome in &outcomes {
        println!("{}", summary_line(outcome));
    }
    let total = totals(&outcomes);
    let failure = outcomes.into_iter().find_map(|outcome| Some((outcome.step, outcome.ran.result.err()?)));
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
    let state = if outcome.ran.result.is_ok() { "ok" } else { "FAILED" };
    let Counts { passed, failed, .. } = outcome.ran.counts;
    let counts = if passed + failed > 0 { format!("  {passed} passed, {failed} failed") } else { String::new() };
    format!("{:<12} {state:<7} {:>3} min {:02} s{counts}", outcome.step, seconds / 60, seconds % 60)
}

/// Sum of all tests. A step that failed without a failing test (a lint, a build, a dead runner) counts as one failure.
fn totals(outcomes: &[Outcome]) -> Counts {
    let mut total = Counts::default();
    for outcome in outcomes {
        total.add(outcome.ran.counts);
        if outcome.ran.result.is_err() && outcome.ran.counts.failed == 0 {
            total.failed += 1;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(step: &str, seconds: &[u64]) -> Outcome {
        let case = |&seconds: &u64| Case { name: format!("program test{seconds}"), took: Duration::from_secs(seconds) };
        let ran = Ran { cases: seconds.iter().map(case).collect(), ..without_tests(Ok(())) };
        Outcome { step: step.to_owned(), took: Duration::ZERO, ran }
    }

    #[test]
    fn the_slowest_tests_of_all_steps_are_listed_longest_first() {
        let many: Vec<_> = (0..SLOWEST as u64).collect();
        let lines = slowest(&[outcome("native", &many), outcome("wasm", &[100])]);
        assert_eq!(lines.len(), SLOWEST);
        assert_eq!(lines[0], "  100.0 s  wasm       program test100");
        assert_eq!(lines[1], "   14.0 s  native     program test14");
        assert!(slowest(&[outcome("format", &[])]).is_empty());
    }
}
