//! The tokenizer of a file, from its own vocabulary and merges.

use std::borrow::Cow;

use gptoss_gguf::{Gguf, StringArray, WrongKey, check_tokenizer};
use gptoss_text::{Tokenizer, TokenizerError};

use crate::error::EngineError;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// ggml's token types: ordinary text, and markers.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// Builds the tokenizer.
///
/// # Errors
/// A file that is no model, another kind of tokenizer, another way to split text, an array that is missing or that
/// contradicts another.
pub fn tokenizer(gguf: &Gguf) -> Result<Tokenizer, EngineError> {
    let metadata = &gguf.metadata;
    if let (Err(_), Some(role)) = (metadata.str(MODEL), gguf.role()) {
        return Err(EngineError::NotAModel { role });
    }
    check_tokenizer(metadata)?;
    let (tokens, merges) = (metadata.string_array(TOKENS)?, metadata.string_array(MERGES)?);
    let types: Option<Cow<'_, [i32]>> = metadata.optional(TOKEN_TYPE)?;
    let lacks_types = types.is_none();
    let types = types.unwrap_or_else(|| types_by_name(tokens).into());
    Tokenizer::new(tokens.iter(), &types, merges.iter()).map_err(|error| match error {
        TokenizerError::MissingSpecial { name } if lacks_types => WrongKey {
            key: TOKEN_TYPE.to_owned(),
            expected: format!("types of the tokens, which this file lacks, or a token named {name}"),
            got: "missing".to_owned(),
        }
        .into(),
        other => other.into(),
    })
}

/// Token types for a file without any, which the specification allows: in o200k and vocabularies derived from it,
/// `<|name|>` is a marker, and no merge makes such a token of text.
fn types_by_name(tokens: &StringArray) -> Vec<i32> {
    let is_marker = |token: &str| {
        let name = token.strip_prefix("<|").and_then(|rest| rest.strip_suffix("|>"));
        name.is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    tokens.iter().map(|token| if is_marker(token) { CONTROL } else { NORMAL }).collect()
}
