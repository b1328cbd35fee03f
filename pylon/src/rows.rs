//! JSON Lines in, JSON Lines out: every row comes back with fields added, in its own order of fields.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader};

use serde_json::{Map, Value};

use crate::error::CliError;
use crate::output::Output;
use crate::text_input::{UTF16_EXPECTED, UTF16_PROBLEM, is_utf16, without_mark};

/// One row of the input: a JSON object.
pub type Row = Map<String, Value>;

/// Why a row cannot be used.
#[derive(Debug)]
pub struct RowError {
    pub problem: String,
    pub expected: String,
}

impl RowError {
    pub fn new(problem: impl Display, expected: impl Display) -> Self {
        Self { problem: problem.to_string(), expected: expected.to_string() }
    }
}

/// Runs `answer` on each row of standard input and writes the row to standard output. Empty lines are passed over.
/// Rows are written out whenever the input has no more at hand, so the command can be talked to through pipes.
///
/// # Errors
/// The first row that is no object or that `answer` refuses, by its line; input or output that fails.
pub fn answer_each(mut answer: impl FnMut(&mut Row) -> Result<(), RowError>) -> Result<(), CliError> {
    let mut output = Output::new();
    let mut input = BufReader::new(io::stdin().lock());
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).map_err(CliError::Input)? == 0 {
            break;
        }
        // Files that were joined with their byte-order marks have one in the middle, too.
        let row = without_mark(&bytes);
        if row.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let answered = parse(row).and_then(|mut row| answer(&mut row).map(|()| row));
        match answered {
            Ok(row) => output.json(&row)?,
            Err(RowError { problem, expected }) => {
                output.finish()?;
                return Err(CliError::InputLine { line, problem, expected });
            }
        }
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.finish()
}

fn parse(line: &[u8]) -> Result<Row, RowError> {
    if is_utf16(line) {
        return Err(RowError::new(UTF16_PROBLEM, UTF16_EXPECTED));
    }
    match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err(RowError::new(format_args!("it is {}", kind_of(&other)), "a JSON object")),
        Err(error) => Err(RowError::new(format_args!("it is not JSON ({error})"), "one JSON object to a line")),
    }
}

/// The text of `field`.
pub fn text<'a>(row: &'a Row, field: &str) -> Result<&'a str, RowError> {
    match row.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(field, other, "a string")),
        None => Err(missing(row, field, "a string")),
    }
}

/// The token ids of `field`.
pub fn token_ids(row: &Row, field: &str) -> Result<Vec<u32>, RowError> {
    let expected = "an array of token ids, whole numbers below 2^32";
    match row.get(field) {
        Some(Value::Array(ids)) => ids
            .iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .zip(ids)
            .map(|(id, written)| id.ok_or_else(|| wrong(field, written, expected)))
            .collect(),
        Some(other) => Err(wrong(field, other, expected)),
        None => Err(missing(row, field, expected)),
    }
}

/// The error for a `field` that does not have the expected type.
pub fn wrong(field: &str, got: &Value, expected: &str) -> RowError {
    RowError::new(format_args!("{field:?} holds {}", kind_of(got)), expected)
}

fn missing(row: &Row, field: &str, expected: &str) -> RowError {
    let fields: Vec<&str> = row.keys().map(String::as_str).collect();
    RowError::new(format_args!("it has no field {field:?}, only {fields:?}"), expected)
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "a boolean".into(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}
