//! `pylon gguf meta`: the key-value pairs.

use std::path::PathBuf;
use std::process::ExitCode;

use gptoss_gguf::{Array, Value as GgufValue};
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::exit;
use crate::gguf_file::GgufFile;
use crate::output::Output;

/// How many elements of an array a summary shows.
const SUMMARY_ELEMENTS: usize = 4;
/// How many characters of a string a line shows.
const LINE_CHARACTERS: usize = 100;

/// List the metadata of a file; arrays and long texts are summarised
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gguf meta models/nano/gpt-oss-nano.gguf
  pylon gguf meta models/nano/gpt-oss-nano.gguf --key tokenizer.ggml.merges | head -3")]
pub struct Args {
    /// GGUF file
    path: PathBuf,
    /// Print the whole value of this key only; of an array one element to a line
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// One JSON object: of each key its type and value, of arrays the length and the first elements; with --key the
    /// value
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    let file = GgufFile::open(&args.path)?;
    let mut output = Output::new();
    match &args.key {
        Some(key) => {
            let value = file.gguf.metadata.get(key).ok_or_else(|| CliError::Argument {
                what: "--key".into(),
                got: key.clone(),
                expected: format!("a key of {}; without --key all are listed", file.path.display()),
            })?;
            print_value(&mut output, value, args.json)?;
        }
        None if args.json => {
            let entries = file.gguf.metadata.iter().map(|(key, value)| (key.to_owned(), summary(value)));
            output.json(&entries.collect::<Map<_, _>>())?;
        }
        None => {
            let width = file.gguf.metadata.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
            for (key, value) in file.gguf.metadata.iter() {
                output.line(format_args!("{key:width$}  {}", line(value)))?;
            }
        }
    }
    output.finish()?;
    Ok(exit::SUCCESS)
}

fn print_value(output: &mut Output, value: &GgufValue, as_json: bool) -> Result<(), CliError> {
    match (value, to_json(value, usize::MAX)) {
        (_, json) if as_json => output.json(&json),
        (_, Value::Array(elements)) => elements.iter().try_for_each(|element| output.line(bare(element))),
        (_, json) => output.line(bare(&json)),
    }
}

/// Strings without quotes and escapes.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn summary(value: &GgufValue) -> Value {
    match value {
        GgufValue::Array(array) => {
            json!({"type": array.to_string(), "length": array.len(), "first": to_json(value, SUMMARY_ELEMENTS)})
        }
        _ => json!({"type": type_name(value), "value": to_json(value, usize::MAX)}),
    }
}

fn line(value: &GgufValue) -> String {
    let json = to_json(value, SUMMARY_ELEMENTS);
    match (value, &json) {
        (GgufValue::Array(array), Value::Array(first)) => {
            let first: Vec<String> = first.iter().map(Value::to_string).collect();
            let more = if array.len() > first.len() { ", …" } else { "" };
            format!("{array}: [{}{more}]", first.join(", "))
        }
        (GgufValue::String(text), json) => match text.char_indices().nth(LINE_CHARACTERS) {
            Some((end, _)) => format!("string of {} bytes: {}…", text.len(), json!(text[..end])),
            None => format!("string  {json}"),
        },
        (value, json) => format!("{:7} {json}", type_name(value)),
    }
}

fn type_name(value: &GgufValue) -> &'static str {
    match value {
        GgufValue::U8(_) => "u8",
        GgufValue::I8(_) => "i8",
        GgufValue::U16(_) => "u16",
        GgufValue::I16(_) => "i16",
        GgufValue::U32(_) => "u32",
        GgufValue::I32(_) => "i32",
        GgufValue::F32(_) => "f32",
        GgufValue::Bool(_) => "bool",
        GgufValue::String(_) => "string",
        GgufValue::NotUtf8(_) => "string that is not UTF-8",
        GgufValue::Array(_) => "array",
        GgufValue::U64(_) => "u64",
        GgufValue::I64(_) => "i64",
        GgufValue::F64(_) => "f64",
    }
}

/// The value in JSON; only the first `limit` elements of an array. Numbers that JSON cannot express become text.
fn to_json(value: &GgufValue, limit: usize) -> Value {
    match value {
        GgufValue::U8(v) => json!(v),
        GgufValue::I8(v) => json!(v),
        GgufValue::U16(v) => json!(v),
        GgufValue::I16(v) => json!(v),
        GgufValue::U32(v) => json!(v),
        GgufValue::I32(v) => json!(v),
        GgufValue::U64(v) => json!(v),
        GgufValue::I64(v) => json!(v),
        GgufValue::F32(v) => float(*v),
        GgufValue::F64(v) => double(*v),
        GgufValue::Bool(v) => json!(v),
        GgufValue::String(v) | GgufValue::NotUtf8(v) => json!(v),
        GgufValue::Array(array) => array_to_json(array, limit),
    }
}

fn array_to_json(array: &Array, limit: usize) -> Value {
    fn all<T: serde::Serialize>(elements: &[T], limit: usize) -> Value {
        json!(elements[..limit.min(elements.len())])
    }
    match array {
        Array::U8(v) => all(v, limit),
        Array::I8(v) => all(v, limit),
        Array::U16(v) => all(v, limit),
        Array::I16(v) => all(v, limit),
        Array::U32(v) => all(v, limit),
        Array::I32(v) => all(v, limit),
        Array::U64(v) => all(v, limit),
        Array::I64(v) => all(v, limit),
        Array::Bool(v) => all(v, limit),
        Array::F32(v) => v.iter().take(limit).map(|&v| float(v)).collect(),
        Array::F64(v) => v.iter().take(limit).map(|&v| double(v)).collect(),
        Array::String(v) | Array::NotUtf8 { lossy: v, .. } => v.iter().take(limit).collect(),
        Array::Array(v) => v.iter().take(limit).map(|inner| array_to_json(inner, limit)).collect(),
    }
}

/// The shortest decimal that is this F32: widened to F64 first, 0.1 would read 0.10000000149011612.
fn float(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or_else(|_| double(f64::from(value)), double)
}

fn double(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
}
