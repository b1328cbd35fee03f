//! `pylon tokenize`: text to token ids and back, row by row.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gptoss_text::Tokenizer;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit;
use crate::rows::{self, Row, RowError};
use crate::vocabulary::Vocabulary;

/// Turn text into token ids, or ids into text, with the tokenizer of a GGUF file
///
/// Reads JSON lines with a field "text" and adds "tokens". With --decode, reads rows with "tokens" and adds "bytes_b64"
/// (the bytes in base64) and "utf8" (the same as text, null where they are not UTF-8). All other fields are kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"id\":\"a\",\"text\":\"Hello\"}' |
    pylon tokenize --gguf models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    vocabulary: Vocabulary,
    /// Ids to text
    #[arg(long)]
    decode: bool,
    /// Let names of special tokens such as <|start|> stand for the tokens. For trusted text only; without it such text
    /// stays text. Decoding always spells specials by name
    #[arg(long)]
    specials: bool,
}

/// # Errors
/// The file has no usable tokenizer, or a row cannot be used.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let tokenizer = args.vocabulary.tokenizer()?;
    rows::answer_each(
        |row| if args.decode { decode(&tokenizer, row) } else { encode(&tokenizer, row, args.specials) },
    )?;
    Ok(exit::SUCCESS)
}

fn encode(tokenizer: &Tokenizer, row: &mut Row, specials: bool) -> Result<(), RowError> {
    let text = rows::text(row, "text")?;
    let ids = if specials { tokenizer.encode_with_specials(text) } else { tokenizer.encode_ordinary(text) };
    row.insert("tokens".into(), json!(ids));
    Ok(())
}

fn decode(tokenizer: &Tokenizer, row: &mut Row) -> Result<(), RowError> {
    let mut bytes = Vec::new();
    for id in rows::token_ids(row, "tokens")? {
        let token = tokenizer.token_bytes(id).map_err(|error| {
            RowError::new(
                error,
                format_args!("ids below {}, the size of this file's vocabulary", tokenizer.vocab_size()),
            )
        })?;
        bytes.extend_from_slice(token);
    }
    row.insert("bytes_b64".into(), STANDARD.encode(&bytes).into());
    row.insert("utf8".into(), String::from_utf8(bytes).map_or(Value::Null, Value::from));
    Ok(())
}
