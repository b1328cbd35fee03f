//! What is known of gates: a fold over events.

use gptoss_protocol::{Command, Event, GateProgress, GateTensor, GateVerdict, ModelLocation};
use serde_json::Value;

use super::report::{Report, outcome};

/// What gates were asked for, and what they told so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// Counts what was asked for.
    pub number: u32,
    /// The file that was looked at last.
    pub model: Option<ModelLocation>,
    /// Whether gates are under way.
    pub running: bool,
    /// Tensors of the file; empty before its header was read.
    pub tensors: Vec<GateTensor>,
    /// How far the slice is that is on its way.
    pub progress: Option<GateProgress>,
    /// Reports of gates that ended, in the order in which they did.
    pub reports: Vec<Value>,
    /// Worst verdict and time of all of them, once they ended.
    pub ended: Option<(GateVerdict, f64)>,
}

impl Gates {
    /// The user asked for gates.
    fn ask(&mut self, model: &ModelLocation) {
        // The list of tensors is for choosing from, as long as the file is the same.
        let is_same = self.model.as_ref() == Some(model);
        let tensors = std::mem::take(&mut self.tensors);
        *self = Self {
            number: self.number + 1,
            model: Some(model.clone()),
            running: true,
            tensors: if is_same { tensors } else { Vec::new() },
            ..Self::default()
        };
    }

    /// Takes in what the worker tells, and what is asked of it.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Asked { command: Command::Gate { model, .. } } => self.ask(model),
            Event::GateTensors { tensors } => self.tensors.clone_from(tensors),
            Event::GateProgress(progress) => self.progress = Some(progress.clone()),
            Event::GateReport { report } => {
                self.progress = None;
                self.reports.push(report.clone());
            }
            Event::GatesEnded { verdict, elapsed_ms } => {
                self.ended = Some((*verdict, *elapsed_ms));
                self.end();
            }
            Event::Stopped { .. } | Event::Failed { .. } | Event::HostEnded | Event::HostDied(_) => self.end(),
            _ => {}
        }
    }

    fn end(&mut self) {
        (self.running, self.progress) = (false, None);
    }

    /// All reports.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = Report<'_>> {
        self.reports.iter().map(Report)
    }

    /// The report of the gate with this letter that was told last.
    pub fn last(&self, gate: &str) -> Option<Report<'_>> {
        self.all().rev().find(|report| report.text("gate") == gate)
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&GateTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The first report that is not one of success, and why in words.
    pub fn why(&self) -> Option<(Report<'_>, String)> {
        let is = |verdict: &'static str| self.all().find(|report| report.verdict() == verdict);
        let report = is("fail").or_else(|| is("could_not_run"))?;
        let check = report.all("checks").find(|check| !check.is("ok"));
        let comparison = report.all("comparisons").find(|comparison| !comparison.is("ok"));
        let why = match (check, comparison) {
            (Some(check), _) => format!("{}: {}", check.text("check"), check.text("found")),
            (None, Some(comparison)) => outcome(comparison),
            (None, None) => report.0["not_run"].as_str().unwrap_or("there was nothing to look at").to_owned(),
        };
        Some((report, why))
    }

    /// All that was told, as somebody takes it elsewhere: `gates` has what `pylon gate … --json` prints.
    pub fn to_json(&self) -> String {
        let gates = Value::Array(self.reports.clone());
        match self.ended {
            Some((verdict, ms)) => {
                format!("{{\"verdict\":\"{}\",\"elapsed_ms\":{ms},\"gates\":{gates}}}", verdict.name())
            }
            None => format!("{{\"verdict\":null,\"elapsed_ms\":null,\"gates\":{gates}}}"),
        }
    }
}
