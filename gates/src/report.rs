//! What a gate finds, while it looks: facts, checks, comparisons with their numbers.

use gptoss_protocol::{
    Expect, GateCheck, GateComparison, GateFacts, GateReport, GateVerdict, SliceFigures, Tier, WorstValue,
};
use serde_json::Value;

/// What one gate looked at and found so far. It passes if it checked something and every check held.
#[derive(Debug)]
pub struct Report {
    gate: char,
    title: &'static str,
    path: String,
    facts: GateFacts,
    comparisons: Vec<GateComparison>,
    checks: Vec<GateCheck>,
    not_run: Option<String>,
    advice: Option<String>,
    slice: Option<SliceFigures>,
}

impl Report {
    /// A report on the file at `path` that has nothing in it.
    pub fn new(gate: char, title: &'static str, path: String) -> Self {
        Self {
            gate,
            title,
            path,
            facts: GateFacts::default(),
            comparisons: Vec::new(),
            checks: Vec::new(),
            not_run: None,
            advice: None,
            slice: None,
        }
    }

    /// Notes what was found.
    pub fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.0.push((name.to_owned(), value.into()));
    }

    /// Notes a statement, whether it holds, and what was found.
    pub fn check(&mut self, check: impl Into<String>, ok: bool, found: impl Into<String>) {
        self.checks.push(GateCheck { check: check.into(), ok, found: found.into() });
    }

    /// Notes a comparison that is complete.
    pub fn compare(&mut self, comparison: Comparison) {
        self.comparisons.push(comparison.finish());
    }

    /// Notes why the gate could not run.
    pub fn could_not_run(&mut self, why: impl Into<String>) {
        self.not_run = Some(why.into());
    }

    /// Notes what can be done about what went wrong.
    pub fn advise(&mut self, advice: String) {
        self.advice = Some(advice).filter(|advice| !advice.is_empty());
    }

    /// Notes the figures of the slice that was looked at.
    pub fn figures(&mut self, slice: SliceFigures) {
        self.slice = Some(slice);
    }

    /// What follows from all that was noted.
    pub fn verdict(&self) -> GateVerdict {
        let failed = self.checks.iter().any(|check| !check.ok) || self.comparisons.iter().any(|it| !it.ok);
        let looked = !self.checks.is_empty() || !self.comparisons.is_empty();
        match (failed, &self.not_run) {
            (true, _) => GateVerdict::Fail,
            (false, None) if looked => GateVerdict::Pass,
            _ => GateVerdict::CouldNotRun,
        }
    }

    /// The report as it is told.
    pub fn finish(self) -> GateReport {
        let verdict = self.verdict();
        let Self { gate, title, path, facts, comparisons, checks, not_run, advice, slice } = self;
        let title = title.to_owned();
        GateReport { gate, title, path, facts, checks, comparisons, verdict, not_run, advice, slice }
    }
}

/// Values that are being compared with the ones expected.
#[derive(Debug, Clone)]
pub struct Comparison {
    what: String,
    against: String,
    shape: Vec<u64>,
    expect: Expect,
    tolerance: f64,
    tier: Option<Tier>,
    in_detail: bool,
    /// What was compared so far.
    pub difference: Difference,
}

impl Comparison {
    /// A comparison of `shape` values, of which none was compared so far; equal if the relative error is at most
    /// `tolerance`.
    pub fn new(what: impl Into<String>, against: impl Into<String>, shape: &[u64], tolerance: f64) -> Self {
        Self {
            what: what.into(),
            against: against.into(),
            shape: shape.to_vec(),
            expect: Expect::Equal,
            tolerance,
            tier: None,
            in_detail: false,
            difference: Difference::default(),
        }
    }

    /// Compares whole vectors.
    #[must_use]
    pub fn with(mut self, got: &[f32], expected: &[f32]) -> Self {
        self.difference.add(got, expected);
        self
    }

    /// Turns it into a control.
    #[must_use]
    pub fn must_differ(mut self) -> Self {
        self.expect = Expect::Different;
        self
    }

    /// Has mean and place of the difference told.
    #[must_use]
    pub fn in_detail(mut self) -> Self {
        self.in_detail = true;
        self
    }

    /// Says which kernels computed it, and has mean and place of the difference told.
    #[must_use]
    pub fn of_tier(mut self, tier: Tier) -> Self {
        self.tier = Some(tier);
        self.in_detail()
    }

    /// Whether the outcome is the expected one. Values that are not finite, too few of them, or an expectation of zeros
    /// alone never pass.
    pub fn pass(&self) -> bool {
        let Difference { values, not_finite, .. } = self.difference;
        let relative = self.difference.relative_error();
        let sound = values == self.shape.iter().product::<u64>() && not_finite == 0;
        sound
            && relative.is_some_and(|relative| match self.expect {
                Expect::Equal => relative <= self.tolerance,
                Expect::Different => relative > self.tolerance,
            })
    }

    /// The comparison as it is told.
    pub fn finish(self) -> GateComparison {
        let ok = self.pass();
        let Self { what, against, shape, expect, tolerance, tier, in_detail, difference } = self;
        GateComparison {
            what,
            against,
            shape,
            expect,
            tolerance,
            values: difference.values,
            not_finite: difference.not_finite,
            max_abs: difference.max_abs,
            largest_expected: difference.largest_expected,
            relative_error: difference.relative_error(),
            ok,
            mean_abs: difference.mean_abs().filter(|_| in_detail),
            worst: difference.worst.filter(|_| in_detail),
            tier,
        }
    }
}

/// Statistics of differences from expected values, added up as they come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Difference {
    /// Values that were compared.
    pub values: u64,
    /// Number of values, computed or expected, that are NaN or infinite; they count in nothing else.
    pub not_finite: u64,
    /// Largest difference.
    pub max_abs: f64,
    /// Largest expected value, without its sign.
    pub largest_expected: f64,
    worst: Option<WorstValue>,
    absolute: f64,
    squared_difference: f64,
    squared_expected: f64,
}

impl Difference {
    /// Adds more values. If one slice is shorter, it ends the comparison, and the shape does not fit.
    pub fn add(&mut self, got: &[f32], expected: &[f32]) {
        for (&got, &expected) in got.iter().zip(expected) {
            let index = self.values;
            self.values += 1;
            if !(got.is_finite() && expected.is_finite()) {
                self.not_finite += 1;
                continue;
            }
            let (got, expected) = (f64::from(got), f64::from(expected));
            let difference = (got - expected).abs();
            if self.worst.is_none() || difference > self.max_abs {
                self.worst = Some(WorstValue { index, got, expected });
            }
            self.max_abs = self.max_abs.max(difference);
            self.largest_expected = self.largest_expected.max(expected.abs());
            self.absolute += difference;
            self.squared_difference += difference * difference;
            self.squared_expected += expected * expected;
        }
    }

    /// ‖got − expected‖ / ‖expected‖, Euclidean; `None` if everything expected is zero, or too large for F64.
    pub fn relative_error(&self) -> Option<f64> {
        let relative = (self.squared_difference / self.squared_expected).sqrt();
        (self.squared_expected > 0.0 && relative.is_finite()).then_some(relative)
    }

    /// Mean difference of the finite values; `None` where there are none.
    pub fn mean_abs(&self) -> Option<f64> {
        let finite = self.values - self.not_finite;
        (finite > 0).then(|| self.absolute / finite as f64)
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
    fn the_worst_value_is_told_with_its_place_and_the_mean() {
        let told = Comparison::new("a", "b", &[4], 1e-3)
            .with(&[1.0, f32::INFINITY], &[1.0, 2.0])
            .with(&[3.5, 4.0], &[3.0, 4.25])
            .of_tier(Tier::Baseline)
            .finish();
        assert_eq!(told.worst, Some(WorstValue { index: 2, got: 3.5, expected: 3.0 }));
        assert_eq!((told.max_abs, told.mean_abs, told.not_finite, told.ok), (0.5, Some(0.25), 1, false));
        let brief = Comparison::new("a", "b", &[1], 1e-3).with(&[1.0], &[1.5]).finish();
        assert_eq!((brief.worst, brief.mean_abs), (None, None));
    }

    #[test]
    fn a_report_without_checks_does_not_pass() {
        let mut report = Report::new('x', "nothing", String::new());
        assert_eq!(report.verdict(), GateVerdict::CouldNotRun);
        report.check("one", true, "");
        assert_eq!(report.verdict(), GateVerdict::Pass);
        report.could_not_run("no GPU for the rest");
        assert_eq!(report.verdict(), GateVerdict::CouldNotRun);
        report.check("two", false, "");
        assert_eq!(report.verdict(), GateVerdict::Fail);
    }
}
