//! The tokenizer of a file, from its own vocabulary and merges.

use std::borrow::Cow;

use gptoss_gguf::{Gguf, StringArray};
use gptoss_text::{Tokenizer, TokenizerError};

use crate::error::EngineError;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// Names of o200k's way to split text before merging. llama.cpp takes `llama4` for the same; files of Ollama's converter say
/// `default` or nothing, and mean it.
const O200K: [&str; 7] = ["gpt-4o", "gpt-oss", "o200k", "o200k_harmony", "llama4", "default", ""];

/// ggml's types of tokens: of text, and markers.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// Builds the tokenizer.
///
/// # Errors
/// A file that is no model, another kind of tokenizer, another way to split text, an array that is missing or that contradicts another.
pub fn tokenizer(gguf: &Gguf) -> Result<Tokenizer, EngineError> {
    let metadata = &gguf.metadata;
    let wrong = |key: &str, expected: &str, got: String| EngineError::Hyperparameter {
        key: key.into(),
        expected: expected.into(),
        got,
    };
    let kind = match (metadata.str(MODEL), gguf.role()) {
        (Err(_), Some(role)) => return Err(EngineError::NotAModel { role }),
        (kind, _) => kind?,
    };
    if kind != "gpt2" {
        return Err(wrong(MODEL, "gpt2 (byte-level BPE)", kind.to_owned()));
    }
    let pre: Option<&str> = metadata.optional(PRE)?;
    if let Some(other) = pre.filter(|pre| !O200K.contains(pre)) {
        return Err(wrong(PRE, "gpt-4o, by which gpt-oss splits text", other.to_owned()));
    }
    let tokens = metadata.string_array(TOKENS)?;
    let merges: &StringArray = metadata.optional(MERGES)?.ok_or_else(|| {
        // The specification takes tokens for atomic then, which would make other tokens of every text.
        wrong(MERGES, "the merges that make tokens of bytes, which this file lacks", "missing".to_owned())
    })?;
    let types: Option<Cow<'_, [i32]>> = metadata.optional(TOKEN_TYPE)?;
    let lacks_types = types.is_none();
    let types = types.unwrap_or_else(|| types_by_name(tokens).into());
    Tokenizer::new(tokens.iter(), &types, merges.iter()).map_err(|error| match error {
        TokenizerError::MissingSpecial { name } if lacks_types => wrong(
            TOKEN_TYPE,
            &format!("types of the tokens, which this file lacks, or a token named {name}"),
            "missing".to_owned(),
        ),
        other => other.into(),
    })
}

/// Types for a file without any, which the specification allows: in o200k's vocabulary and those made after it, what is
/// written `<|name|>` is a marker, and no merge makes such a token of text.
fn types_by_name(tokens: &StringArray) -> Vec<i32> {
    let is_marker = |token: &str| {
        let name = token.strip_prefix("<|").and_then(|rest| rest.strip_suffix("|>"));
        name.is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    tokens.iter().map(|token| if is_marker(token) { CONTROL } else { NORMAL }).collect()
}
