//! `pylon harmony render`.

use gptoss_text::Tokenizer;
use gptoss_text::harmony::{Ending, RecipientPlace, Renderer};
use serde_json::{Value, json};

use super::conversation::conversation;
use crate::rows::{self, Row, RowError};
use crate::vocabulary::Vocabulary;

/// Render conversations as text and token ids
///
/// Reads JSON lines with "messages" as OpenAI's harmony library writes them (or with plain strings as "content"), and
/// adds "text" and "tokens". "op" says how a rendering ends: render_conversation_for_completion (the default: with
/// <|start|>assistant), render_conversation (after the last message), render_conversation_for_training (and the last
/// answer closed by <|return|>). "auto_drop_analysis": false keeps the reasoning of completed turns.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}' |
    pylon harmony render --gguf models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(flatten)]
    pub vocabulary: Vocabulary,
    /// Where a tool call names its recipient: in the role, as OpenAI's renderer writes it, or after the channel, as the
    /// model does and `pylon infer` renders it
    #[arg(long, value_enum, default_value_t = Recipient::InRole)]
    recipient: Recipient,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Recipient {
    InRole,
    AfterChannel,
}

/// Adds the rendering of a row's messages.
pub fn answer(tokenizer: &Tokenizer, args: &Args, row: &mut Row) -> Result<(), RowError> {
    let renderer = Renderer {
        recipient_place: match args.recipient {
            Recipient::InRole => RecipientPlace::InRole,
            Recipient::AfterChannel => RecipientPlace::AfterChannel,
        },
        drop_analysis: match row.get("auto_drop_analysis") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(drop)) => *drop,
            Some(other) => return Err(rows::wrong("auto_drop_analysis", other, "true or false")),
        },
        ending: ending(row)?,
    };
    if let Some(next) = row.get("next_role").and_then(Value::as_str).filter(|&role| role != "assistant") {
        return Err(RowError::new(
            format_args!("\"next_role\" is {next:?}"),
            "\"assistant\", the only role that is generated",
        ));
    }
    let conversation = conversation(row.get("messages"))?;
    row.insert("text".into(), renderer.text(tokenizer, &conversation).into());
    row.insert("tokens".into(), json!(renderer.tokens(tokenizer, &conversation)));
    Ok(())
}

fn ending(row: &Row) -> Result<Ending, RowError> {
    let expected = "render_conversation_for_completion, render_conversation or render_conversation_for_training";
    match row.get("op") {
        None | Some(Value::Null) => Ok(Ending::AwaitAssistant),
        Some(Value::String(op)) => match op.as_str() {
            "render_conversation_for_completion" => Ok(Ending::AwaitAssistant),
            "render_conversation" => Ok(Ending::Closed),
            "render_conversation_for_training" => Ok(Ending::Returned),
            other => Err(RowError::new(format_args!("\"op\" is {other:?}"), expected)),
        },
        Some(other) => Err(rows::wrong("op", other, expected)),
    }
}
