//! Standard output: buffered lines and JSON lines. A reader that stops reading (`pylon … | head -1`) ends the command
//! quietly instead of with a panic or an error.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::error::CliError;

/// Standard output, locked for the time the command runs.
///
/// What was written arrives at the latest with [`Output::finish`]; a command that streams calls [`Output::flush`].
pub struct Output {
    writer: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub fn new() -> Self {
        Self { writer: BufWriter::new(io::stdout().lock()) }
    }

    /// Writes text as it is: `output.text(format_args!("{a} {b}"))`.
    ///
    /// # Errors
    /// [`CliError::ReaderGone`] when nobody reads any more, [`CliError::Output`] for any other failure; so for all
    /// below.
    pub fn text(&mut self, text: impl fmt::Display) -> Result<(), CliError> {
        write!(self.writer, "{text}").map_err(CliError::from_output)
    }

    /// Writes one line.
    pub fn line(&mut self, line: impl fmt::Display) -> Result<(), CliError> {
        writeln!(self.writer, "{line}").map_err(CliError::from_output)
    }

    /// Writes `value` as one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.writer, value).map_err(|error| CliError::from_output(error.into()))?;
        self.line("")
    }

    /// Makes what was written so far visible.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(CliError::from_output)
    }

    /// Writes out what is buffered. A full disk or a closed pipe shows here at the latest.
    pub fn finish(mut self) -> Result<(), CliError> {
        self.flush()
    }
}

/// Ignores that nobody reads the output, for commands whose exit status is a verdict: it stands even if the report is
/// not read to its end.
///
/// # Errors
/// Any other failure of writing.
pub fn unless_reader_gone(written: Result<(), CliError>) -> Result<(), CliError> {
    match written {
        Err(CliError::ReaderGone) => Ok(()),
        other => other,
    }
}

/// Whether a person watches standard error: only then progress is drawn.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Writes a line to standard error; ignores a failure to do so.
pub fn note(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
