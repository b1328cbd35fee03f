//! Test programs in parts that run side by side. A browser with a software adapter keeps little more than one core busy, and a
//! test that waits for a host or for a patience to end keeps none.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo_tests::{self, BinaryOutcome, Executable, Ran, Selection};
use crate::process::{self, Line, Toolbox};

/// Parts that run at the same time.
const LANES: usize = 2;

/// A program with at least so many tests is run in a part for each lane. With fewer, another start of a browser takes longer.
const MANY_TESTS: usize = 25;

/// Some of the tests of a program.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    program: &'a Executable,
    tests: usize,
    /// The program's tests that are another part's.
    left_out: Vec<&'a str>,
}

/// Builds the tests that `selection` selects and runs them, each program by `runner`. As in [`cargo_tests::run`], a test that
/// fails or is ignored is an error, and a package that ran none; so is a part that ran other tests than its own.
pub fn run(toolbox: &Toolbox, selection: &Selection, runner: &[String]) -> Ran {
    let ran = || {
        let mut built = cargo_tests::build(toolbox, "test", &[selection.cargo, &["--no-run"]].concat())?;
        built.retain(|program| program.is_test);
        let names: Vec<_> = built.iter().map(|program| names(toolbox, program, runner)).collect::<Result<_>>()?;
        let mut parts: Vec<_> = built.iter().zip(&names).flat_map(|(program, names)| parts(program, names)).collect();
        // The largest first, so that none of them begins when all others have ended.
        parts.sort_by_key(|part| std::cmp::Reverse(part.tests));
        let outcomes = side_by_side(parts, |part| run_part(toolbox, selection, runner, &part));
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(cargo_tests::judge(outcomes, &built, selection.packages))
    };
    ran().unwrap_or_else(Ran::failed)
}

/// The command that runs `program`, in the folder where cargo would.
fn command(toolbox: &Toolbox, program: &Executable, runner: &[String]) -> Result<Command> {
    let (first, rest) = runner.split_first().context("no runner")?;
    let mut command = toolbox.command(first);
    command.current_dir(&program.folder).args(rest).arg(&program.path);
    Ok(command)
}

/// The names of all tests of `program`.
fn names(toolbox: &Toolbox, program: &Executable, runner: &[String]) -> Result<Vec<String>> {
    let mut command = command(toolbox, program, runner)?;
    let output = command.arg("--list").output().with_context(|| format!("cannot run {}", process::shown(&command)))?;
    if !output.status.success() {
        bail!("{}: {}\n{}", process::shown(&command), output.status, String::from_utf8_lossy(&output.stderr));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Neighbours are of one kind and take about as long, so they are dealt out in turn.
fn parts<'a>(program: &'a Executable, names: &'a [String]) -> Vec<Part<'a>> {
    let count = match names.len() {
        0 => 0,
        MANY_TESTS.. => LANES,
        _ => 1,
    };
    let part = |part| {
        let is_left_out = |(index, name): (usize, &'a String)| (index % count != part).then_some(name.as_str());
        let left_out: Vec<_> = names.iter().enumerate().filter_map(is_left_out).collect();
        Part { program, tests: names.len() - left_out.len(), left_out }
    };
    (0..count).map(part).collect()
}

/// What `work` gives for each of `items`, in the order in which it came.
fn side_by_side<I: Send, O: Send>(items: Vec<I>, work: impl Fn(I) -> O + Sync) -> Vec<O> {
    let (waiting, done) = (Mutex::new(VecDeque::from(items)), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let lane = || {
        while let Some(item) = next() {
            let outcome = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    thread::scope(|scope| (0..LANES).for_each(|_| drop(scope.spawn(lane))));
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a part. Of two programs at once only the verdicts are shown as they come; what else one said, when it has ended and
/// something was wrong.
fn run_part(toolbox: &Toolbox, selection: &Selection, runner: &[String], part: &Part) -> Result<BinaryOutcome> {
    let mut command = command(toolbox, part.program, runner)?;
    command.args(selection.program).arg("--exact");
    command.args(part.left_out.iter().flat_map(|name| ["--skip", name]));
    command.envs(selection.environment.iter().map(|(name, value)| (name, value)));
    let title = format!("Running {} tests of {} ({})", part.tests, part.program.package, file_name(part.program));
    println!("     {title}");
    let (status, mut lines) = process::read_lines(&mut command, is_verdict)?;
    let outcome = outcome(title, &mut lines, selection)?;
    let ran = outcome.counts.map_or(0, |counts| counts.passed + counts.failed + counts.ignored);
    let is_good = status.success() && ran == part.tests as u64;
    if !is_good {
        let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        println!("\n{}\n", text.join("\n"));
    }
    // A failing test says more than the status does.
    let has_failed = outcome.was_ended || outcome.counts.is_some_and(|counts| counts.failed > 0);
    ensure!(is_good || has_failed, "{}: {status}, and {ran} of {} tests ran", file_name(part.program), part.tests);
    Ok(outcome)
}

fn file_name(program: &Executable) -> std::borrow::Cow<'_, str> {
    program.path.file_name().unwrap_or_default().to_string_lossy()
}

/// `test a::b ... ok`
fn is_verdict(line: &str) -> bool {
    line.starts_with("test ") && line.contains(" ... ")
}

/// What came of the one program that said `lines`, to which its title is added, as cargo would print it.
fn outcome(title: String, lines: &mut Vec<Line>, selection: &Selection) -> Result<BinaryOutcome> {
    lines.insert(0, Line { at: Duration::ZERO, text: title });
    cargo_tests::parse(lines, selection.times).pop().context("a program's output was lost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("test{index}")).collect()
    }

    #[test]
    fn each_test_is_in_one_part() {
        let program = Executable { package: "a".into(), folder: "/a".into(), path: "/t/a-0".into(), is_test: true };
        assert_eq!(parts(&program, &[]), []);
        for count in [1, MANY_TESTS - 1, MANY_TESTS, MANY_TESTS + 2] {
            let names = names(count);
            let parts = parts(&program, &names);
            assert_eq!(parts.len(), if count < MANY_TESTS { 1 } else { LANES });
            for name in &names {
                let runs = parts.iter().filter(|part| !part.left_out.contains(&name.as_str()));
                assert_eq!(runs.count(), 1, "{name} of {count}");
            }
            assert_eq!(parts.iter().map(|part| part.tests).sum::<usize>(), count);
        }
    }

    #[test]
    fn all_is_done_and_two_at_a_time() {
        let at_once = Mutex::new((0, 0));
        let count = |step: i32| {
            let mut at_once = at_once.lock().expect("no panic");
            at_once.0 += step;
            at_once.1 = at_once.1.max(at_once.0);
        };
        let mut done = side_by_side((0..6).collect(), |item| {
            count(1);
            thread::sleep(Duration::from_millis(30));
            count(-1);
            item
        });
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2, 3, 4, 5]);
        assert_eq!(at_once.into_inner().expect("no panic"), (0, LANES as i32));
    }

    #[test]
    fn verdicts_are_shown() {
        assert!(is_verdict("test a::b ... ok\n") && is_verdict("test a::b ... FAILED <0.100s>"));
        assert!(!is_verdict("test result: ok. 3 passed") && !is_verdict("running 3 tests"));
    }
}
