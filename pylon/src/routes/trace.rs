//! The file: a line of JSON that says what the model is, then one line for each batch.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use gptoss_cpu::BatchRoutes;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// Of what model the routes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub model: String,
    pub layers: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    /// Of one expert in the file, the mean over layers.
    pub expert_bytes: u64,
}

/// The routes of one batch, by layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// [rows, experts_per_token].
    pub chosen: Vec<Vec<u32>>,
    /// [rows, experts_per_token]: what the next layer's router made of the residual stream before this layer's experts; empty for
    /// the last layer.
    pub likely_next: Vec<Vec<u32>>,
}

impl From<BatchRoutes> for Batch {
    fn from(routes: BatchRoutes) -> Self {
        let (chosen, likely_next) = routes.layers.into_iter().map(|layer| (layer.chosen, layer.likely_next)).unzip();
        Self { chosen, likely_next }
    }
}

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub header: Header,
    pub batches: Vec<Batch>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is none of a trace.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let refuse = |source| CliError::File { path: path.to_owned(), action: "read", source };
        let file = std::fs::File::open(path).map_err(refuse)?;
        let mut header = None;
        let mut batches = Vec::new();
        for (number, line) in (1..).zip(BufReader::new(file).lines()) {
            let line = line.map_err(refuse)?;
            let wrong = |problem: String| {
                let text =
                    format!("line {number}: {problem}; expected a trace as `pylon infer --record-routes` writes it");
                refuse(io::Error::new(io::ErrorKind::InvalidData, text))
            };
            let Some(header) = &header else {
                header = Some(serde_json::from_str::<Header>(&line).map_err(|error| wrong(error.to_string()))?);
                continue;
            };
            let batch: Batch = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            check(header, &batch).map_err(|problem| wrong(problem.to_owned()))?;
            batches.push(batch);
        }
        let empty = || refuse(io::Error::new(io::ErrorKind::InvalidData, "it is empty; expected a trace"));
        Ok(Self { header: header.ok_or_else(empty)?, batches })
    }

    /// Writes the batches behind those that the file has, or a new file.
    ///
    /// # Errors
    /// It cannot be written, or is of another model.
    pub fn append_to(&self, path: &Path) -> Result<(), CliError> {
        if path.exists() {
            let known = Self::read(path)?.header;
            if known != self.header {
                return Err(CliError::Argument {
                    what: "--record-routes".into(),
                    got: format!("{}, with routes of {:?}", path.display(), known.model),
                    expected: format!("a new file, or one with routes of {:?}", self.header.model),
                });
            }
        }
        let refuse = |source| CliError::File { path: path.to_owned(), action: "write", source };
        let mut lines = Vec::new();
        if !path.exists() {
            lines.push(serde_json::to_string(&self.header));
        }
        lines.extend(self.batches.iter().map(serde_json::to_string));
        let text = lines.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| refuse(error.into()))?.join("\n");
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(refuse)?;
        writeln!(file, "{text}").map_err(refuse)
    }
}

/// Refuses what a replay cannot index.
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
