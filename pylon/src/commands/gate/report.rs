//! What a gate found: facts, comparisons with their numbers, and a verdict.

use std::process::ExitCode;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::exit;
use crate::output::{Output, unless_reader_gone};

/// How a gate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
    CouldNotRun,
}

impl Verdict {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Pass => exit::SUCCESS,
            Self::Fail => ExitCode::from(exit::FAILED),
            Self::CouldNotRun => ExitCode::from(exit::COULD_NOT_RUN),
        }
    }
}

/// What one gate looked at and found. It passes if it checked something and every check held.
#[derive(Debug)]
pub struct Report {
    gate: char,
    title: &'static str,
    path: String,
    /// Names and values, in the order in which they were found.
    facts: Vec<(&'static str, Value)>,
    comparisons: Vec<Comparison>,
    checks: Vec<Check>,
    /// Why the gate could not run.
    not_run: Option<String>,
}

/// A statement that holds or does not.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    ok: bool,
    found: String,
}

impl Report {
    pub fn new(gate: char, title: &'static str, path: String) -> Self {
        Self { gate, title, path, facts: Vec::new(), comparisons: Vec::new(), checks: Vec::new(), not_run: None }
    }

    pub fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    pub fn check(&mut self, check: impl Into<String>, ok: bool, found: impl Into<String>) {
        self.checks.push(Check { check: check.into(), ok, found: found.into() });
    }

    pub fn compare(&mut self, comparison: Comparison) {
        self.comparisons.push(comparison);
    }

    pub fn could_not_run(&mut self, why: impl Into<String>) {
        self.not_run = Some(why.into());
    }

    pub fn verdict(&self) -> Verdict {
        let failed = self.checks.iter().any(|check| !check.ok) || self.comparisons.iter().any(|c| !c.pass());
        let looked = !self.checks.is_empty() || !self.comparisons.is_empty();
        match (failed, &self.not_run) {
            (true, _) => Verdict::Fail,
            (false, None) if looked => Verdict::Pass,
            _ => Verdict::CouldNotRun,
        }
    }

    /// Prints the report and gives the exit status of its verdict.
    pub fn print(&self, as_json: bool) -> Result<ExitCode, CliError> {
        unless_reader_gone(self.write(as_json))?;
        Ok(self.verdict().exit_code())
    }

    fn write(&self, as_json: bool) -> Result<(), CliError> {
        let mut output = Output::new();
        if as_json {
            output.json(&self.to_json())?;
        } else {
            self.print_text(&mut output)?;
        }
        output.finish()
    }

    fn to_json(&self) -> Value {
        let comparisons = self.comparisons.iter().map(|comparison| {
            let mut json = json!(comparison);
            json["ok"] = comparison.pass().into();
            json
        });
        json!({
            "gate": self.gate,
            "title": self.title,
            "path": self.path,
            "facts": self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Map<_, _>>(),
            "checks": self.checks,
            "comparisons": comparisons.collect::<Value>(),
            "verdict": self.verdict(),
            "not_run": self.not_run,
        })
    }

    fn print_text(&self, output: &mut Output) -> Result<(), CliError> {
        output.line(format_args!("gate {}: {}", self.gate, self.title))?;
        output.line(format_args!("  file: {}", self.path))?;
        for (name, value) in &self.facts {
            print_fact(output, name, value)?;
        }
        for check in &self.checks {
            output.line(format_args!("  {} {}: {}", mark(check.ok), check.check, check.found))?;
        }
        for comparison in &self.comparisons {
            comparison.print(output)?;
        }
        let end = match (self.verdict(), &self.not_run) {
            (Verdict::Pass, _) => "PASS".to_owned(),
            (Verdict::Fail, _) => "FAIL".to_owned(),
            (Verdict::CouldNotRun, Some(why)) => format!("COULD NOT RUN: {why}"),
            (Verdict::CouldNotRun, None) => "COULD NOT RUN: there was nothing to look at".to_owned(),
        };
        output.line(format_args!("gate {}: {end}", self.gate))
    }
}

fn mark(ok: bool) -> &'static str {
    if ok { "ok  " } else { "FAIL" }
}

/// Lists one element to a line.
fn print_fact(output: &mut Output, name: &str, value: &Value) -> Result<(), CliError> {
    let bare = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Array(elements) => {
            output.line(format_args!("  {name}:"))?;
            elements.iter().try_for_each(|element| output.line(format_args!("    {}", bare(element))))
        }
        _ => output.line(format_args!("  {name}: {}", bare(value))),
    }
}

/// The right outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The relative error is at most the tolerance.
    Equal,
    /// The relative error is above the tolerance: a control, which shows that the comparison beside it can fail.
    Different,
}

/// Values compared with the ones expected.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What was computed.
    pub what: String,
    /// What it is compared with.
    pub against: String,
    pub shape: Vec<u64>,
    pub expect: Expect,
    /// Largest `relative_error` that counts as equal.
    pub tolerance: f64,
    #[serde(flatten)]
    pub difference: Difference,
}

impl Comparison {
    pub fn new(what: impl Into<String>, against: impl Into<String>, shape: &[u64], tolerance: f64) -> Self {
        Self {
            what: what.into(),
            against: against.into(),
            shape: shape.to_vec(),
            expect: Expect::Equal,
            tolerance,
            difference: Difference::default(),
        }
    }

    /// Compares whole vectors.
    pub fn with(mut self, got: &[f32], expected: &[f32]) -> Self {
        self.difference.add(got, expected);
        self
    }

    /// Turns it into a control.
    pub fn must_differ(mut self) -> Self {
        self.expect = Expect::Different;
        self
    }

    /// Whether the outcome is the expected one. Values that are not finite, too few of them, or an expectation of zeros
    /// alone never pass.
    pub fn pass(&self) -> bool {
        let Difference { values, not_finite, .. } = self.difference;
        let relative = self.difference.relative_error();
        let sound = values == self.shape.iter().product::<u64>() && not_finite == 0 && relative.is_finite();
        sound
            && match self.expect {
                Expect::Equal => relative <= self.tolerance,
                Expect::Different => relative > self.tolerance,
            }
    }

    fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let Difference { max_abs, largest_expected, not_finite, .. } = self.difference;
        let relation = match self.expect {
            Expect::Equal => "at most",
            Expect::Different => "control, must be above",
        };
        output.line(format_args!("  {} {}", mark(self.pass()), self.what))?;
        output.line(format_args!("       against {}", self.against))?;
        output.line(format_args!(
            "       shape {:?}; max abs {max_abs:.3e} (values up to {largest_expected:.3e}); relative error {:.3e}, {relation} {:e}",
            self.shape,
            self.difference.relative_error(),
            self.tolerance
        ))?;
        if not_finite > 0 {
            output.line(format_args!("       {not_finite} values are not finite"))?;
        }
        Ok(())
    }
}

/// Statistics of differences from expected values, added up as they come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Difference {
    pub values: u64,
    /// Number of values, computed or expected, that are NaN or infinite; they count in nothing else.
    pub not_finite: u64,
    pub max_abs: f64,
    pub largest_expected: f64,
    squared_difference: f64,
    squared_expected: f64,
}

impl Difference {
    /// Adds more values. If one slice is shorter, it ends the comparison, and the shape does not fit.
    pub fn add(&mut self, got: &[f32], expected: &[f32]) {
        for (&got, &expected) in got.iter().zip(expected) {
            self.values += 1;
            if !(got.is_finite() && expected.is_finite()) {
                self.not_finite += 1;
                continue;
            }
            let (got, expected) = (f64::from(got), f64::from(expected));
            let difference = (got - expected).abs();
            self.max_abs = self.max_abs.max(difference);
            self.largest_expected = self.largest_expected.max(expected.abs());
            self.squared_difference += difference * difference;
            self.squared_expected += expected * expected;
        }
    }

    /// ‖got − expected‖ / ‖expected‖, Euclidean; NaN if everything expected is zero.
    pub fn relative_error(&self) -> f64 {
        match self.squared_expected > 0.0 {
            true => (self.squared_difference / self.squared_expected).sqrt(),
            false => f64::NAN,
        }
    }
}

impl Serialize for Difference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([
            ("values", Value::from(self.values)),
            ("not_finite", self.not_finite.into()),
            ("max_abs", self.max_abs.into()),
            ("largest_expected", self.largest_expected.into()),
            ("relative_error", self.relative_error().into()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_passes_only_for_what_was_expected() {
        let compare = |got: &[f32], expected: &[f32]| Comparison::new("a", "b", &[3], 1e-3).with(got, expected);
        assert!(compare(&[1.0, 2.0, 2.0], &[1.0, 2.0, 2.001]).pass());
        assert!(!compare(&[1.0, 2.0, 2.0], &[1.0, 2.0, 2.1]).pass());
        assert!(compare(&[1.0, 2.0, 2.0], &[1.0, 2.0, 2.1]).must_differ().pass());
        assert!(!compare(&[1.0, 2.0, f32::NAN], &[1.0, 2.0, 2.0]).pass(), "not finite");
        assert!(!compare(&[1.0, f32::NAN, 2.0], &[1.0, 2.0, 9.0]).must_differ().pass(), "nor as a control");
        assert!(!compare(&[0.0; 3], &[0.0; 3]).pass(), "nothing was expected");
        assert!(!compare(&[1.0, 2.0], &[1.0, 2.0]).pass(), "a value is missing");
    }

    #[test]
    fn a_report_without_checks_does_not_pass() {
        let mut report = Report::new('x', "nothing", String::new());
        assert_eq!(report.verdict(), Verdict::CouldNotRun);
        report.check("one", true, "");
        assert_eq!(report.verdict(), Verdict::Pass);
        report.could_not_run("no GPU for the rest");
        assert_eq!(report.verdict(), Verdict::CouldNotRun);
        report.check("two", false, "");
        assert_eq!(report.verdict(), Verdict::Fail);
    }
}
