//! Whether a file's tokenizer is the one that gpt-oss has: byte-level BPE behind o200k's way to split text.

use super::WrongKey;
use crate::{FromValue, Metadata, StringArray};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

/// Names of o200k's way to split text before merging. llama.cpp treats `llama4` as the same; Ollama's converter writes
/// `default` or nothing and means it, too.
const O200K: [&str; 7] = ["gpt-4o", "gpt-oss", "o200k", "o200k_harmony", "llama4", "default", ""];

/// Checks that the file's tokenizer makes tokens as gpt-oss does.
///
/// # Errors
/// Another kind of tokenizer, another way to split text, no merges.
pub fn check_tokenizer(metadata: &Metadata) -> Result<(), WrongKey> {
    const KIND: &str = "gpt2 (byte-level BPE)";
    let kind: Option<&str> = optional(metadata, MODEL, KIND)?;
    if kind != Some("gpt2") {
        return Err(wrong(MODEL, KIND, kind.unwrap_or("missing")));
    }
    const SPLIT: &str = "gpt-4o, by which gpt-oss splits text";
    let pre: Option<&str> = optional(metadata, PRE, SPLIT)?;
    if let Some(other) = pre.filter(|pre| !O200K.contains(pre)) {
        return Err(wrong(PRE, SPLIT, other));
    }
    // The specification treats tokens without merges as atomic, which would tokenize every text differently.
    const PAIRS: &str = "the merges that make tokens of bytes, which this file lacks";
    match optional::<&StringArray>(metadata, MERGES, PAIRS)? {
        Some(_) => Ok(()),
        None => Err(wrong(MERGES, PAIRS, "missing")),
    }
}

fn optional<'a, T: FromValue<'a>>(metadata: &'a Metadata, key: &str, expected: &str) -> Result<Option<T>, WrongKey> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    T::from_value(value).map(Some).ok_or_else(|| wrong(key, expected, &value.describe()))
}

fn wrong(key: &str, expected: &str, got: &str) -> WrongKey {
    WrongKey { key: key.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}
