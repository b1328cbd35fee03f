//! Runs `cargo test` and counts what it built and ran. Counted rather than trusted: a runner that executed nothing also
//! exits with 0.

mod output;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::{Toolbox, run_and_read, shown};
use crate::test_program;

pub use output::{BinaryOutcome, Case, Counts, Times, parse};

/// An executable that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    pub package: String,
    /// The package's own folder.
    pub folder: PathBuf,
    pub path: PathBuf,
    /// Whether it runs tests.
    pub is_test: bool,
}

/// Makes cargo say on its standard output what it built; what it says to people stays on standard error.
pub const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// Runs a cargo subcommand that builds (`build`, `test --no-run`) and gives back the executables it built.
pub fn build(toolbox: &Toolbox, subcommand: &str, arguments: &[&str]) -> Result<Vec<Executable>> {
    let mut cargo = toolbox.cargo(&[subcommand, MESSAGES]);
    cargo.args(arguments).stderr(Stdio::inherit());
    println!("$ {}", shown(&cargo));
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} failed with {}", shown(&cargo), output.status);
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// What a selection of tests brought.
#[derive(Debug)]
pub struct Ran {
    pub counts: Counts,
    /// Those whose time is known.
    pub cases: Vec<Case>,
    pub result: Result<()>,
}

impl Ran {
    /// Of work that runs no tests, or none with times of their own.
    pub fn without_cases(counts: Counts, result: Result<()>) -> Self {
        Self { counts, cases: Vec::new(), result }
    }

    pub fn failed(error: anyhow::Error) -> Self {
        Self::without_cases(Counts::default(), Err(error))
    }

    /// Both together; `other` need not have happened if this one failed.
    pub fn and(mut self, other: impl FnOnce() -> Self) -> Self {
        if self.result.is_ok() {
            let other = other();
            self.counts.add(other.counts);
            self.cases.extend(other.cases);
            self.result = other.result;
        }
        self
    }
}

/// Which tests are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// cargo's arguments.
    pub cargo: &'a [&'a str],
    /// The test programs' own.
    pub program: &'a [&'a str],
    /// Set for the test programs and what runs them.
    pub environment: &'a [(&'a str, String)],
    /// Those in which a test must run.
    pub packages: &'a [&'a str],
    pub times: Times,
}

/// Runs the tests that `selection` selects.
///
/// Its result is an error when a test fails or is ignored, or when one of its packages ran no test.
pub fn run(toolbox: &Toolbox, selection: &Selection) -> Ran {
    let runner = match selection.times {
        Times::Reported => match test_program::runner(toolbox) {
            Ok(runner) => runner,
            Err(error) => return Ran::failed(error),
        },
        Times::BetweenLines | Times::Unknown => Vec::new(),
    };
    let runner: Vec<_> = runner.iter().map(String::as_str).collect();
    // Documentation's examples cannot be built without being run.
    let built = match selection.packages {
        [] => Ok(Vec::new()),
        _ => build(toolbox, "test", &[selection.cargo, &["--no-run"]].concat()),
    };
    let result = built.and_then(|built| {
        let mut cargo = toolbox.cargo(&["test", "--no-fail-fast"]);
        cargo.args(selection.cargo).args(&runner);
        cargo.arg("--").args(selection.program);
        cargo.envs(selection.environment.iter().map(|(name, value)| (name, value)));
        let (status, lines) = run_and_read(&mut cargo)?;
        Ok((built, status, lines))
    });
    let (built, status, lines) = match result {
        Ok(ran) => ran,
        Err(error) => return Ran::failed(error),
    };
    let mut ran = judge(parse(&lines, selection.times), &built, selection.packages);
    if ran.result.is_ok() && !status.success() {
        ran.result = Err(anyhow::anyhow!("cargo test failed with {status}"));
    }
    ran
}

/// What `outcomes` come to: good only if in each of `packages` tests ran, and none failed or was ignored.
pub fn judge(outcomes: Vec<BinaryOutcome>, built: &[Executable], packages: &[&str]) -> Ran {
    let result = check(&outcomes, built, packages);
    let counts = total(&outcomes);
    Ran { counts, cases: outcomes.into_iter().flat_map(|outcome| outcome.cases).collect(), result }
}

/// Reads cargo's JSON messages.
pub fn executables(messages: &str) -> Vec<Executable> {
    #[derive(Deserialize)]
    struct Artifact {
        package_id: String,
        manifest_path: PathBuf,
        profile: Profile,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter_map(|Artifact { package_id, manifest_path, profile, executable }| {
            let (package, folder) = (package_name(&package_id), manifest_path.parent()?.to_owned());
            Some(Executable { package, folder, path: executable?, is_test: profile.test })
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

fn total(outcomes: &[BinaryOutcome]) -> Counts {
    let mut total = Counts::default();
    outcomes.iter().filter_map(|outcome| outcome.counts).for_each(|counts| total.add(counts));
    total
}

/// Checks that tests ran in every one of `packages`, that none failed and that none was ignored.
fn check(outcomes: &[BinaryOutcome], built: &[Executable], packages: &[&str]) -> Result<()> {
    let total = total(outcomes);
    if let Some(outcome) = outcomes.iter().find(|outcome| outcome.was_ended) {
        let hung: Vec<_> = outcome.unfinished.iter().map(String::as_str).collect();
        let hung = if hung.is_empty() { "none that it named".to_owned() } else { hung.join(", ") };
        bail!("{} took longer than it may and was ended; tests that had not come to an end: {hung}", outcome.name);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Line;
    use std::time::Duration;

    fn parse(text: &str) -> Vec<BinaryOutcome> {
        let lines: Vec<_> = text.lines().map(|line| Line { at: Duration::ZERO, text: line.to_owned() }).collect();
        output::parse(&lines, Times::Unknown)
    }

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

    const MESSAGES: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/gguf#gptoss-gguf@0.1.0","manifest_path":"/x/gguf/Cargo.toml","profile":{"test":true},"executable":"/x/target/debug/deps/gptoss_gguf-0123456789abcdef"}
{"reason":"compiler-artifact","package_id":"path+file:///x/gguf#gptoss-gguf@0.1.0","manifest_path":"/x/gguf/Cargo.toml","profile":{"test":true},"executable":"/x/target/debug/deps/fuzz-0123456789abcdef"}
{"reason":"compiler-artifact","package_id":"path+file:///x/kernels#gptoss-kernels@0.1.0","manifest_path":"/x/kernels/Cargo.toml","profile":{"test":true},"executable":"/x/target/wasm32-unknown-unknown/debug/deps/gptoss_kernels-0123456789abcdef.wasm"}
{"reason":"compiler-artifact","package_id":"registry+https://x#serde@1.0.0","manifest_path":"/y/serde/Cargo.toml","profile":{"test":true},"executable":null}
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
    fn a_program_that_was_ended_is_named_with_its_tests() {
        let text = format!(
            "     Running tests/a.rs (target/debug/deps/a-0123)\n\
             test hung has been running for over 60 seconds\n{} 9 s: a-0123\n",
            test_program::ENDED
        );
        let error = check(&parse(&text), &[], &[]).expect_err("ended").to_string();
        assert!(error.contains("deps/a-0123") && error.contains("hung"), "{error}");
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
