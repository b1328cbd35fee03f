//! A gate's report on standard output, and the exit status of its verdict.

use std::process::ExitCode;

use gptoss_protocol::{Expect, GateComparison, GateReport, GateVerdict};
use serde_json::Value;

use crate::error::CliError;
use crate::exit;
use crate::output::{Output, unless_reader_gone};

/// Prints a report and gives the exit status of its verdict.
pub fn print(report: &GateReport, as_json: bool) -> Result<ExitCode, CliError> {
    unless_reader_gone(write(report, as_json))?;
    Ok(match report.verdict {
        GateVerdict::Pass => exit::SUCCESS,
        GateVerdict::Fail => ExitCode::from(exit::FAILED),
        GateVerdict::CouldNotRun => ExitCode::from(exit::COULD_NOT_RUN),
    })
}

fn write(report: &GateReport, as_json: bool) -> Result<(), CliError> {
    let mut output = Output::new();
    if as_json {
        output.json(report)?;
    } else {
        print_text(report, &mut output)?;
    }
    output.finish()
}

fn print_text(report: &GateReport, output: &mut Output) -> Result<(), CliError> {
    let gate = report.gate;
    output.line(format_args!("gate {gate}: {}", report.title))?;
    output.line(format_args!("  file: {}", report.path))?;
    for (name, value) in &report.facts.0 {
        print_fact(output, name, value)?;
    }
    for check in &report.checks {
        output.line(format_args!("  {} {}: {}", mark(check.ok), check.check, check.found))?;
    }
    for comparison in &report.comparisons {
        print_comparison(comparison, output)?;
    }
    let end = match (report.verdict, &report.not_run) {
        (GateVerdict::Pass, _) => "PASS".to_owned(),
        (GateVerdict::Fail, _) => "FAIL".to_owned(),
        (GateVerdict::CouldNotRun, Some(why)) => format!("COULD NOT RUN: {why}"),
        (GateVerdict::CouldNotRun, None) => "COULD NOT RUN: there was nothing to look at".to_owned(),
    };
    output.line(format_args!("gate {gate}: {end}"))
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

fn print_comparison(comparison: &GateComparison, output: &mut Output) -> Result<(), CliError> {
    let GateComparison { max_abs, largest_expected, not_finite, .. } = *comparison;
    let relation = match comparison.expect {
        Expect::Equal => "at most",
        Expect::Different => "control, must be above",
    };
    output.line(format_args!("  {} {}", mark(comparison.ok), comparison.what))?;
    output.line(format_args!("       against {}", comparison.against))?;
    output.line(format_args!(
        "       shape {:?}; max abs {max_abs:.3e} (values up to {largest_expected:.3e}); relative error {:.3e}, {relation} {:e}",
        comparison.shape,
        comparison.relative_error.unwrap_or(f64::NAN),
        comparison.tolerance
    ))?;
    if not_finite > 0 {
        output.line(format_args!("       {not_finite} values are not finite"))?;
    }
    Ok(())
}
