//! The file: a line of JSON that says what the model is, then one line for each batch.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use gptoss_cpu::BatchRoutes;
use gptoss_protocol::units::bytes;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// The model that the routes are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub model: String,
    pub layers: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    /// Bytes of one expert in the file, as the mean over layers.
    pub expert_bytes: u64,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, layers, experts, experts_per_token, expert_bytes } = self;
        write!(f, "{model}: {layers} layers, {experts_per_token} of {experts} experts of {}", bytes(*expert_bytes))
    }
}

/// The routes of one batch, by layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Chosen experts of each layer, [rows, experts_per_token].
    pub chosen: Vec<Vec<u32>>,
    /// Experts that the next layer's router chose for the residual stream before this layer's experts, [rows,
    /// experts_per_token]; empty for the last layer.
    pub likely_next: Vec<Vec<u32>>,
}

impl From<BatchRoutes> for Batch {
    fn from(routes: BatchRoutes) -> Self {
        let (chosen, likely_next) = routes.layers.into_iter().map(|layer| (layer.chosen, layer.likely_next)).unzip();
        Self { chosen, likely_next }
    }
}

/// A recording of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub header: Header,
    pub batches: Vec<Batch>,
}

impl Trace {
    /// Reads a trace file.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is none of a trace.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let refuse = |source| CliError::File { path: path.to_owned(), action: "read", source };
        let file = File::open(path).map_err(refuse)?;
        let mut header = None;
        let mut batches = Vec::new();
        for (number, line) in (1..).zip(BufReader::new(file).lines()) {
            let wrong = |problem: String| no_trace(path, format_args!("line {number}: {problem}"));
            let line = line.map_err(|error| wrong(error.to_string()))?;
            let Some(header) = &header else {
                header = Some(serde_json::from_str::<Header>(&line).map_err(|error| wrong(error.to_string()))?);
                continue;
            };
            let batch: Batch = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            check(header, &batch).map_err(|problem| wrong(problem.to_owned()))?;
            batches.push(batch);
        }
        let header = header.ok_or_else(|| no_trace(path, format_args!("it is empty")))?;
        Ok(Self { header, batches })
    }
}

/// A file that routes are appended to.
pub struct TraceFile {
    path: PathBuf,
    file: File,
}

impl TraceFile {
    /// Creates a file, or opens one with routes of the same model; called before an answer is waited for.
    ///
    /// # Errors
    /// It cannot be written, or is none for this model.
    pub fn open(path: &Path, header: &Header) -> Result<Self, CliError> {
        let is_new = std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
        if !is_new {
            let known = Trace::read(path)?.header;
            if known != *header {
                return Err(CliError::Argument {
                    what: "--record-routes".into(),
                    got: format!("{}, which has routes of {known}", path.display()),
                    expected: format!("a new file, or one with routes of {header}"),
                });
            }
        }
        let refuse = |source| CliError::File { path: path.to_owned(), action: "write", source };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(refuse)?;
        let mut this = Self { path: path.to_owned(), file };
        if is_new {
            this.line(header)?;
        }
        Ok(this)
    }

    /// Appends batches.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, batches: &[Batch]) -> Result<(), CliError> {
        batches.iter().try_for_each(|batch| self.line(batch))
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(io::Error::from);
        let written = text.and_then(|text| writeln!(self.file, "{text}"));
        written.map_err(|source| CliError::File { path: self.path.clone(), action: "write", source })
    }
}

fn no_trace(path: &Path, problem: fmt::Arguments<'_>) -> CliError {
    CliError::Argument {
        what: "the trace".into(),
        got: format!("{}: {problem}", path.display()),
        expected: "a file that `pylon infer --record-routes` wrote".into(),
    }
}

/// Refuses a batch that a replay cannot index.
fn check(header: &Header, batch: &Batch) -> Result<(), &'static str> {
    let Header { layers, experts, experts_per_token, .. } = *header;
    if batch.chosen.len() != layers as usize || batch.likely_next.len() != layers as usize {
        return Err("another number of layers than the header says");
    }
    let routes = batch.chosen[0].len();
    let per_token = experts_per_token as usize;
    if routes == 0 || !routes.is_multiple_of(per_token) || batch.chosen.iter().any(|chosen| chosen.len() != routes) {
        return Err("experts that do not come out even");
    }
    if batch.likely_next.iter().any(|likely| !likely.is_empty() && likely.len() != routes) {
        return Err("likely experts that do not come out even");
    }
    if batch.chosen.iter().chain(&batch.likely_next).flatten().any(|expert| *expert >= experts) {
        return Err("an expert that the model does not have");
    }
    Ok(())
}
