//! What `cargo test` built and printed, as numbers. Counted rather than trusted: a runner that executed nothing also
//! exits with 0.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::{Toolbox, run_and_read, shown};

/// An executable that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    pub package: String,
    pub path: PathBuf,
}

/// Runs a cargo subcommand that builds (`build`, `test --no-run`) and gives back the executables it built.
pub fn build(toolbox: &Toolbox, subcommand: &str, arguments: &[&str]) -> Result<Vec<Executable>> {
    let mut cargo = toolbox.cargo(&[subcommand, "--message-format=json-render-diagnostics"]);
    cargo.args(arguments).stderr(Stdio::inherit());
    println!("$ {}", shown(&cargo));
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} failed with {}", shown(&cargo), output.status);
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// Runs the tests that `selection` selects; `extra_env` is set for the test binaries and their runner.
///
/// # Errors
/// When a test fails or is ignored, or when one of `packages` ran no test.
pub fn run(
    toolbox: &Toolbox,
    selection: &[&str],
    extra_env: &[(&str, String)],
    packages: &[&str],
) -> (Counts, Result<()>) {
    let result = build(toolbox, "test", &[selection, &["--no-run"]].concat()).and_then(|built| {
        let mut cargo = toolbox.cargo(&["test", "--no-fail-fast"]);
        cargo.args(selection).envs(extra_env.iter().map(|(name, value)| (name, value)));
        let (status, text) = run_and_read(&mut cargo)?;
        Ok((built, status, text))
    });
    let (built, status, text) = match result {
        Ok(ran) => ran,
        Err(error) => return (Counts::default(), Err(error)),
    };
    let outcomes = parse(&text);
    let checked = check(&outcomes, &built, packages);
    let result = match checked {
        Ok(()) if !status.success() => Err(anyhow::anyhow!("cargo test failed with {status}")),
        other => other,
    };
    (total(&outcomes), result)
}

/// Reads cargo's JSON messages.
fn executables(messages: &str) -> Vec<Executable> {
    #[derive(Deserialize)]
    struct Artifact {
        package_id: String,
        executable: Option<PathBuf>,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter_map(|Artifact { package_id, executable }| {
            Some(Executable { package: package_name(&package_id), path: executable? })
        })
        .collect()
}

/// `path+file:///x/kernels#gptoss-kernels@0.1.0` and, where folder and package have one name, `path+file:///x/xtask#0.1.0`.
fn package_name(package_id: &str) -> String {
    let (location, fragment) = package_id.rsplit_once('#').unwrap_or((package_id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => location.rsplit('/').next().unwrap_or(location).to_owned(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct BinaryOutcome {
    /// What cargo announced, such as `unittests src/lib.rs (target/debug/deps/gptoss_gguf-0123)`.
    name: String,
    /// `None` when no `test result:` line followed: the binary died, or ran no tests.
    counts: Option<Counts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Finds every binary that cargo announced, with the counts that followed.
fn parse(output: &str) -> Vec<BinaryOutcome> {
    let mut outcomes: Vec<BinaryOutcome> = Vec::new();
    for line in output.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("Running ").filter(|name| name.ends_with(')')) {
            outcomes.push(BinaryOutcome { name: name.to_owned(), counts: None });
        } else if line.starts_with("Doc-tests ") {
            outcomes.push(BinaryOutcome { name: line.to_owned(), counts: None });
        } else if let Some(counts) = parse_result(line) {
            match outcomes.last_mut() {
                Some(BinaryOutcome { counts: last @ None, .. }) => *last = Some(counts),
                _ => outcomes.push(BinaryOutcome { name: "unnamed".to_owned(), counts: Some(counts) }),
            }
        }
    }
    outcomes
}

impl BinaryOutcome {
    /// File name of the binary; `None` for documentation tests.
    fn file_name(&self) -> Option<&OsStr> {
        let (_, path) = self.name.rsplit_once('(')?;
        Path::new(path.trim_end_matches(')')).file_name()
    }
}

fn total(outcomes: &[BinaryOutcome]) -> Counts {
    let mut total = Counts::default();
    outcomes.iter().filter_map(|outcome| outcome.counts).for_each(|counts| total.add(counts));
    total
}

/// Checks that tests ran in every one of `packages`, that none failed and that none was ignored.
fn check(outcomes: &[BinaryOutcome], built: &[Executable], packages: &[&str]) -> Result<()> {
    let total = total(outcomes);
    if total.failed > 0 {
        bail!("{} failed", tests(total.failed));
    }
    if total.ignored > 0 {
        bail!("{} ignored: nothing may be skipped silently, remove #[ignore] or the test", tests(total.ignored));
    }
    for package in packages {
        let ran = outcomes.iter().any(|outcome| {
            let of_package = |built: &&Executable| {
                built.package == *package
                    && built.path.file_name().is_some_and(|name| Some(name) == outcome.file_name())
            };
            outcome.counts.is_some_and(|counts| counts.passed > 0) && built.iter().any(|built| of_package(&built))
        });
        if !ran {
            bail!("no test of {package} was run: it has no test binary, or its binaries reported no tests");
        }
    }
    if total.passed == 0 {
        bail!("no test was run at all");
    }
    Ok(())
}

fn tests(count: u64) -> String {
    format!("{count} test{}", if count == 1 { "" } else { "s" })
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; …`
fn parse_result(line: &str) -> Option<Counts> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in rest.split(';') {
        let mut words = part.split_whitespace();
        let (Some(number), Some(word)) = (words.next().and_then(|word| word.parse().ok()), words.next()) else {
            continue;
        };
        match word {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.ignored = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
   Compiling gptoss-gguf v0.1.0 (/x/gguf)
    Finished `test` profile [optimized + debuginfo] target(s) in 1m 20s
     Running unittests src/lib.rs (target/debug/deps/gptoss_gguf-0123456789abcdef)

running 2 tests
test reader::tests::a ... ok
test reader::tests::b ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s

     Running tests/fuzz.rs (target/debug/deps/fuzz-0123456789abcdef)
no tests to run!
     Running unittests src/lib.rs (target/wasm32-unknown-unknown/debug/deps/gptoss_kernels-0123456789abcdef.wasm)
Running headless tests in Chrome on `http://127.0.0.1:40001/`
test result: ok. 3 passed; 0 failed; 0 ignored; 0 filtered out; finished in 2.00s
   Doc-tests gptoss_gguf

running 1 test
test gguf/src/lib.rs - (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    const MESSAGES: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/gguf#gptoss-gguf@0.1.0","executable":"/x/target/debug/deps/gptoss_gguf-0123456789abcdef"}
{"reason":"compiler-artifact","package_id":"path+file:///x/gguf#gptoss-gguf@0.1.0","executable":"/x/target/debug/deps/fuzz-0123456789abcdef"}
{"reason":"compiler-artifact","package_id":"path+file:///x/kernels#gptoss-kernels@0.1.0","executable":"/x/target/wasm32-unknown-unknown/debug/deps/gptoss_kernels-0123456789abcdef.wasm"}
{"reason":"compiler-artifact","package_id":"registry+https://x#serde@1.0.0","executable":null}
{"reason":"build-finished","success":true}"#;

    #[test]
    fn every_binary_is_found_with_its_counts() {
        let outcomes = parse(OUTPUT);
        let found: Vec<_> = outcomes.iter().map(|outcome| outcome.counts.map(|counts| counts.passed)).collect();
        assert_eq!(found, [Some(2), None, Some(3), Some(1)]);
        assert_eq!(total(&outcomes).passed, 6);
        check(&outcomes, &executables(MESSAGES), &["gptoss-gguf", "gptoss-kernels"]).expect("both ran");
    }

    #[test]
    fn a_package_without_tests_is_named() {
        let error =
            check(&parse(OUTPUT), &executables(MESSAGES), &["gptoss-gguf", "gptoss-engine"]).expect_err("no engine");
        assert!(error.to_string().contains("gptoss-engine"), "{error}");
        // A binary that was announced and said nothing does not count either.
        let silent = OUTPUT.replace("test result: ok. 3 passed", "killed");
        let error = check(&parse(&silent), &executables(MESSAGES), &["gptoss-kernels"]).expect_err("silent");
        assert!(error.to_string().contains("gptoss-kernels"), "{error}");
    }

    #[test]
    fn packages_are_named_in_both_forms_of_id() {
        assert_eq!(package_name("path+file:///x/kernels#gptoss-kernels@0.1.0"), "gptoss-kernels");
        assert_eq!(package_name("path+file:///x/xtask#0.1.0"), "xtask");
    }

    #[test]
    fn failures_ignored_tests_and_silence_are_errors() {
        for (output, reason) in [
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured", "2 tests failed"),
            ("test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured", "1 test ignored"),
            ("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured", "no test was run"),
            ("no tests to run!", "no test was run"),
        ] {
            let error = check(&parse(output), &[], &[]).expect_err(output);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
