//! What test programs print, read.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use crate::process::Line;
use crate::test_program;

/// How a test's time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The program says it.
    Reported,
    /// The program runs one test after the other and says when each has ended.
    BetweenLines,
    /// Not at all: tests run side by side, or are compiled in between.
    Unknown,
}

/// A test that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name of the program, and of the test in it.
    pub name: String,
    pub took: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinaryOutcome {
    /// What cargo announced, such as `unittests src/lib.rs (target/debug/deps/gptoss_gguf-0123)`.
    pub name: String,
    /// `None` when no `test result:` line followed: the binary died, or ran no tests.
    pub counts: Option<Counts>,
    pub cases: Vec<Case>,
    /// It took longer than it may.
    pub was_ended: bool,
    /// Tests that it said were slow, and of which it did not say that they ended.
    pub unfinished: BTreeSet<String>,
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

impl BinaryOutcome {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// File name of the binary; `None` for documentation tests.
    pub fn file_name(&self) -> Option<&OsStr> {
        let (_, path) = self.name.rsplit_once('(')?;
        Path::new(path.trim_end_matches(')')).file_name()
    }

    /// The binary's name without cargo's hash.
    fn program(&self) -> &str {
        let stem = self.file_name().and_then(|name| Path::new(name).file_stem()).and_then(OsStr::to_str);
        stem.and_then(|stem| stem.rsplit_once('-')).map_or(self.name.as_str(), |(name, _)| name)
    }
}

/// Finds every binary that cargo announced, with the tests and counts that followed.
pub fn parse(lines: &[Line], times: Times) -> Vec<BinaryOutcome> {
    let mut outcomes: Vec<BinaryOutcome> = Vec::new();
    // When the test before ended, or the first one began.
    let mut last = Duration::ZERO;
    for Line { at, text } in lines {
        let line = text.trim();
        if let Some(name) = line.strip_prefix("Running ").filter(|name| name.ends_with(')')) {
            outcomes.push(BinaryOutcome::new(name));
        } else if line.starts_with("Doc-tests ") {
            outcomes.push(BinaryOutcome::new(line));
        } else if let Some(counts) = parse_result(line) {
            match outcomes.last_mut() {
                Some(BinaryOutcome { counts: last @ None, .. }) => *last = Some(counts),
                _ => outcomes.push(BinaryOutcome { counts: Some(counts), ..BinaryOutcome::new("unnamed") }),
            }
        } else if let Some(outcome) = outcomes.last_mut() {
            read_test(line, outcome, at.saturating_sub(last), times);
        }
        // A test may print what it likes.
        if ["test ", "running ", "Running "].iter().any(|begin| line.starts_with(begin)) {
            last = *at;
        }
    }
    outcomes
}

/// Reads what a line says of a single test, `since_last` after the line before.
fn read_test(line: &str, outcome: &mut BinaryOutcome, since_last: Duration, times: Times) {
    if line.starts_with(test_program::ENDED) {
        outcome.was_ended = true;
    }
    let Some(rest) = line.strip_prefix("test ") else { return };
    if let Some((name, _)) = rest.split_once(" has been running for over ") {
        outcome.unfinished.insert(name.to_owned());
        return;
    }
    let Some((name, verdict)) = rest.split_once(" ... ") else { return };
    outcome.unfinished.remove(name);
    let took = match times {
        Times::Reported => parse_time(verdict),
        Times::BetweenLines => Some(since_last),
        Times::Unknown => None,
    };
    let name = format!("{} {name}", outcome.program());
    outcome.cases.extend(took.map(|took| Case { name, took }));
}

/// `ok <0.012s>`
fn parse_time(verdict: &str) -> Option<Duration> {
    let (_, time) = verdict.rsplit_once('<')?;
    Duration::try_from_secs_f64(time.strip_suffix("s>")?.parse().ok()?).ok()
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

    /// A line every second.
    fn lines(text: &str) -> Vec<Line> {
        let line =
            |(second, text): (usize, &str)| Line { at: Duration::from_secs(second as u64), text: text.to_owned() };
        text.lines().enumerate().map(line).collect()
    }

    fn cases(text: &str, times: Times) -> Vec<(String, f64)> {
        let outcomes = parse(&lines(text), times);
        let cases = outcomes.into_iter().flat_map(|outcome| outcome.cases);
        cases.map(|case| (case.name, case.took.as_secs_f64())).collect()
    }

    #[test]
    fn times_are_those_that_the_program_reports() {
        let text = "     Running tests/a.rs (target/debug/deps/a_b-0123)\n\
                    test one ... ok <0.250s>\n\
                    test two - should panic ... FAILED <12.000s>\n\
                    test three ... ok";
        let expected = [("a_b one".to_owned(), 0.25), ("a_b two - should panic".to_owned(), 12.0)];
        assert_eq!(cases(text, Times::Reported), expected);
        assert_eq!(cases(text, Times::Unknown), []);
    }

    #[test]
    fn times_of_tests_in_turn_are_those_between_their_lines() {
        let text = "     Running unittests src/lib.rs (target/wasm32-unknown-unknown/debug/deps/x-0123.wasm)\n\
                    Running headless tests in Chrome on `http://127.0.0.1:1/`\n\
                    test one ... ok\n\
                    of test two\n\
                    test two ... ok";
        assert_eq!(cases(text, Times::BetweenLines), [("x one".to_owned(), 1.0), ("x two".to_owned(), 2.0)]);
    }

    #[test]
    fn what_hung_is_known_by_name() {
        let text = format!(
            "     Running tests/a.rs (target/debug/deps/a-0123)\n\
             test slow has been running for over 60 seconds\n\
             test hung has been running for over 60 seconds\n\
             test slow ... ok <61.000s>\n{} 9 s: a-0123",
            test_program::ENDED
        );
        let outcomes = parse(&lines(&text), Times::Reported);
        assert!(outcomes[0].was_ended && outcomes[0].counts.is_none());
        assert_eq!(outcomes[0].unfinished, BTreeSet::from(["hung".to_owned()]));
    }
}
