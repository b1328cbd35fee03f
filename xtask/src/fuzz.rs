//! `cargo xtask fuzz`: looks for requests that gguf-serve decides wrongly, guided by the code that inputs reach.
//!
//! With the toolchain that everything else uses: what tells libFuzzer where an input got to is a pass of LLVM that any
//! rustc runs when told to. Only sanitizers need a nightly one, and what is fuzzed here has no unsafe code for them to
//! watch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::value_parser;

use crate::cargo_tests::{Counts, Ran};
use crate::process::{self, Toolbox};
use crate::setup;
use crate::workspace::Workspace;

/// The crate, and the only target in it.
const CRATE: &str = "range-server/fuzz";
const TARGET: &str = "plan";

const DEFAULT_SECONDS: u64 = 60;
/// How long it runs as a part of all tests, on every change; `--seconds` is for those who look for more.
const TEST_SECONDS: u64 = 20;

/// If there were fewer, something else took the time, and nothing was fuzzed.
const MIN_INPUTS: u64 = 10_000;

/// An input takes some 40 µs. One that takes this long, on however busy a machine, is a finding of its own.
const INPUT_TIMEOUT_SECONDS: u32 = 30;

const RUST_FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long to look for inputs that are decided wrongly.
    #[arg(long, default_value_t = DEFAULT_SECONDS, value_parser = value_parser!(u64).range(1..))]
    seconds: u64,
    /// Print one input and run it again, instead of looking for others.
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    replay: Option<PathBuf>,
}

pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    ensure_supported()?;
    setup::fuzzer(toolbox)?;
    let fuzzer = Fuzzer::build(workspace, toolbox)?;
    match &arguments.replay {
        Some(input) => fuzzer.replay(input),
        None => fuzzer.search(arguments.seconds),
    }
}

/// A moment of it, which counts as one test.
pub fn test(workspace: &Workspace, toolbox: &Toolbox) -> Ran {
    let result = ensure_supported()
        .and_then(|()| Fuzzer::build(workspace, toolbox))
        .and_then(|fuzzer| fuzzer.search(TEST_SECONDS));
    let passed = u64::from(result.is_ok());
    Ran::without_cases(Counts { passed, failed: 1 - passed, ignored: 0 }, result)
}

/// What rustfmt says about the crate, which is none of the workspace's and so left out there.
pub fn check_format(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    process::run(toolbox.cargo(&["fmt", "--check", "--manifest-path"]).arg(manifest(workspace)))
}

/// The same for clippy.
pub fn lint(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    // Its dependencies do not build elsewhere.
    if !is_supported() {
        return Ok(());
    }
    setup::fuzzer(toolbox)?;
    let mut cargo = cargo(workspace, toolbox, &host(toolbox)?, &["clippy", "--all-targets"]);
    process::run(cargo.args(["--", "-D", "warnings"]))
}

/// A cargo for the crate. Whatever it does has the same profile, target and flags, so that macros and what build scripts
/// make (libFuzzer and ring, in C++ and C) are compiled once.
fn cargo(workspace: &Workspace, toolbox: &Toolbox, host: &str, arguments: &[&str]) -> Command {
    let mut cargo = toolbox.cargo(arguments);
    cargo.arg("--manifest-path").arg(manifest(workspace)).arg("--target-dir").arg(folder(workspace));
    // With a target named, even if it is this machine, the flags are not for build scripts and macros.
    cargo.args(["--release", "--target", host]).env("CARGO_ENCODED_RUSTFLAGS", RUST_FLAGS.join("\x1f"));
    cargo
}

/// Whether libFuzzer runs on this system.
pub const fn is_supported() -> bool {
    cfg!(any(target_os = "linux", target_os = "macos"))
}

fn ensure_supported() -> Result<()> {
    let system = std::env::consts::OS;
    ensure!(is_supported(), "fuzzing needs libFuzzer, which is for Linux and macOS; this is {system}");
    Ok(())
}

fn manifest(workspace: &Workspace) -> PathBuf {
    workspace.root.join(CRATE).join("Cargo.toml")
}

/// Not the project's own target folder: another lock file, and no waiting for its builds.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

/// The built target, and where it works.
#[derive(Debug)]
struct Fuzzer<'a> {
    toolbox: &'a Toolbox,
    program: PathBuf,
    folder: PathBuf,
    seeds: PathBuf,
}

impl<'a> Fuzzer<'a> {
    fn build(workspace: &Workspace, toolbox: &'a Toolbox) -> Result<Self> {
        let folder = folder(workspace);
        let host = host(toolbox)?;
        process::run(&mut cargo(workspace, toolbox, &host, &["build", "--bin", TARGET]))?;
        let program = folder.join(host).join("release").join(TARGET);
        Ok(Self { toolbox, program, folder, seeds: workspace.root.join(CRATE).join("seeds") })
    }

    fn command(&self) -> Command {
        self.toolbox.command(&self.program)
    }

    /// Looks for `seconds`, beginning with what is in the corpus and the seeds; the corpus grows.
    fn search(&self, seconds: u64) -> Result<()> {
        let [corpus, artifacts] = ["corpus", "artifacts"].map(|name| self.folder.join(name));
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut command = self.command();
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={INPUT_TIMEOUT_SECONDS}"));
        // Not a folder but the beginning of a path, to libFuzzer.
        command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
        // Names of functions would need a symbolizer.
        command.arg("-print_funcs=0").arg(corpus).arg(&self.seeds);
        let (status, text) = process::run_and_read_where(&mut command, is_worth_showing)?;
        // A slow input is written to a file, too, and is no failure.
        if let Some(input) = found(&text).filter(|_| !status.success()) {
            println!("{}", self.describe(Path::new(input))?);
            bail!("what is printed above is decided wrongly; to run it again: cargo xtask fuzz --replay {input}");
        }
        ensure!(status.success(), "the fuzzer failed with {status}");
        let Statistics { inputs, coverage, features } = statistics(&text)?;
        println!(
            "fuzz: {inputs} inputs in {seconds} s, {coverage} edges and {features} features covered, nothing found"
        );
        ensure!(inputs >= MIN_INPUTS, "only {inputs} inputs were run, fewer than {MIN_INPUTS}: nothing was fuzzed");
        Ok(())
    }

    fn replay(&self, input: &Path) -> Result<()> {
        // Relative to where it was typed, which need not be where the fuzzer runs.
        let input = input.canonicalize().with_context(|| format!("cannot find {}", input.display()))?;
        println!("{}", self.describe(&input)?);
        process::run(self.command().arg(&input))
    }

    /// What the bytes of an input stand for.
    fn describe(&self, input: &Path) -> Result<String> {
        let description = self.folder.join("description.txt");
        // The target writes it there and does nothing else if this is set.
        let mut command = self.command();
        command.arg(input).env("RUST_LIBFUZZER_DEBUG_PATH", &description);
        let output = command.output().context("cannot run the fuzzer")?;
        ensure!(output.status.success(), "the fuzzer cannot describe {}", input.display());
        fs::read_to_string(&description).with_context(|| format!("cannot read {}", description.display()))
    }
}

/// The triple of this machine, as rustc names it.
pub fn host(toolbox: &Toolbox) -> Result<String> {
    let output = toolbox.command("rustc").args(["--print", "host-tuple"]).output().context("cannot run rustc")?;
    if !output.status.success() {
        bail!("rustc --print host-tuple failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// There is a line for every input that reached something new, thousands of them, and a dictionary of bytes at the end.
fn is_worth_showing(line: &str) -> bool {
    let is_step = line.starts_with('#') && ["\tNEW ", "\tREDUCE ", "\tRELOAD "].iter().any(|step| line.contains(step));
    let is_word = line.contains("# Uses:") || line.contains("ecommended dictionary.");
    let is_about_sanitizers = line.contains("Failed to find function");
    !(is_step || is_word || is_about_sanitizers)
}

/// The file with the input that was found.
fn found(output: &str) -> Option<&str> {
    output.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statistics {
    inputs: u64,
    coverage: u64,
    features: u64,
}

/// What libFuzzer says at the end. A build without counters would run as well, and cover nothing.
fn statistics(output: &str) -> Result<Statistics> {
    let last = |name: &str| {
        let (_, rest) = output.rsplit_once(name)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let inputs = last("stat::number_of_executed_units:").context("libFuzzer did not say how much it did")?;
    let (coverage, features) =
        last(" cov: ").zip(last(" ft: ")).context("libFuzzer saw no coverage: the build is not instrumented")?;
    Ok(Statistics { inputs, coverage, features })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
WARNING: Failed to find function \"__sanitizer_print_stack_trace\".
INFO: Loaded 1 modules   (150 inline 8-bit counters): 150 [0x56148644b948, 0x56148644b9de),
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 27Mb
#1839963\tREDUCE cov: 3132 ft: 13227 corp: 3094/627Kb lim: 3953 exec/s: 30666 rss: 34Mb L: 121/3853 MS: 1 EraseBytes-
#1840203\tDONE   cov: 3133 ft: 13228 corp: 3094/627Kb lim: 3953 exec/s: 30167 rss: 34Mb
###### Recommended dictionary. ######
\"gguf-serve-512g\" # Uses: 50
Done 1840203 runs in 61 second(s)
stat::number_of_executed_units: 1840203
stat::average_exec_per_sec:     30167
";

    #[test]
    fn statistics_are_those_of_the_end() {
        let expected = Statistics { inputs: 1_840_203, coverage: 3133, features: 13_228 };
        assert_eq!(statistics(OUTPUT).expect("both are there"), expected);
        let blind = OUTPUT.replace(" cov: ", " ");
        assert!(statistics(&blind).expect_err("no coverage").to_string().contains("not instrumented"));
        assert!(statistics("").is_err());
    }

    #[test]
    fn what_was_found_is_named() {
        assert_eq!(found(OUTPUT), None);
        let output = format!("{OUTPUT}artifact_prefix='/t/'; Test unit written to /t/crash-01ab\nBase64: AA==\n");
        assert_eq!(found(&output), Some("/t/crash-01ab"));
    }

    #[test]
    fn progress_is_shown_and_single_steps_are_not() {
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| is_worth_showing(line)).collect();
        assert_eq!(shown.len(), 6, "{shown:#?}");
        assert!(shown[1].contains("INITED") && shown[2].contains("DONE"), "{shown:#?}");
    }
}
