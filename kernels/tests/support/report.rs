//! A table of cases: every row runs, every failure is listed.

use super::compare::Difference;
use super::seam;

/// What became of the rows of one operation's table.
pub struct Report {
    operation: &'static str,
    failures: Vec<String>,
    rows: usize,
    worst: Difference,
}

impl Report {
    pub fn new(operation: &'static str) -> Self {
        Self { operation, failures: Vec::new(), rows: 0, worst: Difference::default() }
    }

    /// Notes the outcome of a row. `row` says its shape and its seed.
    pub fn row(&mut self, row: &str, outcome: Result<Difference, String>) {
        self.rows += 1;
        match outcome {
            Ok(difference) => {
                seam::print(&format!("{}: {row}: {difference}", self.operation));
                self.worst = self.worst.max(difference);
            }
            Err(failure) => self.failures.push(format!("{}: {row}: {failure}", self.operation)),
        }
    }

    /// Fails if any row did.
    pub fn finish(self) {
        assert!(self.rows > 0, "{}: the table is empty", self.operation);
        assert!(
            self.failures.is_empty(),
            "{} of {} rows failed\n{}",
            self.failures.len(),
            self.rows,
            self.failures.join("\n")
        );
        seam::print(&format!("{}: {} rows, {}", self.operation, self.rows, self.worst));
    }
}
