//! `pylon harmony parse`.

use gptoss_text::harmony::{Header, ParsedMessage, Parser, Role, Turn};
use gptoss_text::{Tokenizer, UnknownToken};
use serde_json::{Value, json};

use crate::rows::{self, Row, RowError};
use crate::vocabulary::Vocabulary;

/// Parse what a model wrote into reasoning, answer and tool calls
///
/// Reads JSON lines with "tokens", or with "text" in which names of special tokens stand for the tokens: a turn of the
/// model, from behind <|start|>assistant on. Adds "reasoning", "content" (null where there is none) and "tool_calls"
/// (with "name" and "arguments"; "malformed" where those are no JSON object though a function takes one).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"text\":\"<|channel|>final<|message|>Hi<|return|>\"}' |
    pylon harmony parse --gguf models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    pub vocabulary: Vocabulary,
    /// Add "messages" too: every message with its role, channel, recipient and content type; one that is not as the
    /// format has it with its header as it was written, its purpose, and "recovered", the rules of docs/HARMONY.md by
    /// which it was read.
    /// Headers without a message are in "fragments"
    #[arg(long)]
    messages: bool,
}

/// Adds what a row's tokens mean.
pub fn answer(tokenizer: &Tokenizer, args: &Args, row: &mut Row) -> Result<(), RowError> {
    let ids = if row.contains_key("tokens") {
        rows::token_ids(row, "tokens")?
    } else {
        let expected = "\"tokens\", an array of token ids, or \"text\", a string";
        let text = rows::text(row, "text").map_err(|error| RowError::new(error.problem, expected))?;
        tokenizer.encode_with_specials(text)
    };
    let turn = parse(tokenizer, &ids).map_err(|error| {
        RowError::new(error, format_args!("ids below {}, the size of this file's vocabulary", tokenizer.vocab_size()))
    })?;
    let calls = turn.tool_calls().map(|call| {
        let mut json = json!({"name": call.name, "arguments": call.arguments});
        if call.is_malformed {
            json["malformed"] = true.into();
        }
        json
    });
    row.insert("reasoning".into(), json!(turn.reasoning()));
    row.insert("content".into(), json!(turn.content()));
    row.insert("tool_calls".into(), calls.collect());
    if args.messages {
        row.insert("messages".into(), turn.messages.iter().map(message).collect());
        if !turn.fragments.is_empty() {
            row.insert("fragments".into(), turn.fragments.iter().map(|fragment| fragment.text.as_str()).collect());
        }
    }
    Ok(())
}

fn parse(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Turn, UnknownToken> {
    let mut parser = Parser::new(tokenizer);
    for &id in ids {
        parser.push(tokenizer, id)?;
    }
    Ok(parser.finish().1)
}

/// A message in the JSON of OpenAI's harmony library, which leaves out what is not set, except the name.
fn message(message: &ParsedMessage) -> Value {
    let Header { role, channel, recipient, content_type } = &message.header;
    let (role, name) = match role {
        Role::Tool(name) => ("tool", Some(name)),
        role => (role.name(), None),
    };
    let mut json = json!({"role": role, "name": name, "content": [{"type": "text", "text": message.text}]});
    let content_type =
        content_type.as_ref().map(|kind| (if kind.constrained { "<|constrain|>" } else { "" }).to_owned() + &kind.name);
    let channel = channel.as_ref().map(|channel| channel.name().to_owned());
    for (field, value) in [("channel", channel), ("recipient", recipient.clone()), ("content_type", content_type)] {
        if let Some(value) = value {
            json[field] = value.into();
        }
    }
    if !message.recoveries.is_empty() {
        json["purpose"] = message.purpose.name().into();
        json["header"] = message.header_text.as_str().into();
        json["recovered"] = message.recoveries.iter().map(|recovery| recovery.name()).collect();
    }
    json
}
