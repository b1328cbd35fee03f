//! Reads the header of a GGUF file and prints its metadata and tensors. No weight is read.
//!
//! ```text
//! cargo run --release -p gptoss-examples --bin header -- models/nano/gpt-oss-nano.gguf
//! ```

use std::error::Error;
use std::fs::File;
use std::io::Read;

use gptoss_gguf::{Gguf, Progress, Value, parse};

/// Reads as much of the file as the parser asks for.
fn read_header(path: &str) -> Result<Gguf, Box<dyn Error>> {
    let mut file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let mut header = Vec::new();
    loop {
        match parse(&header, file_bytes)? {
            Progress::Ready(gguf) => return Ok(*gguf),
            Progress::NeedMore { at_least } => {
                file.by_ref().take(at_least - header.len() as u64).read_to_end(&mut header)?;
            }
        }
    }
}

/// Short values as they are, arrays by their length.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Array(array) => array.to_string(),
        other => format!("{other:?}"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("expected FILE")?;
    let gguf = read_header(&path)?;
    println!("GGUF version {}, {} keys, {} tensors", gguf.version, gguf.metadata.len(), gguf.tensors.len());
    for (key, value) in gguf.metadata.iter() {
        println!("{key} = {}", shown(value));
    }
    for tensor in &gguf.tensors {
        println!(
            "{} {} {:?} at {}, {} bytes",
            tensor.name, tensor.kind, tensor.shape, tensor.offset, tensor.size_bytes
        );
    }
    Ok(())
}
