//! `pylon harmony`: conversations to tokens, and the model's tokens to messages, row by row.

mod conversation;
mod parse;
mod render;

use std::process::ExitCode;

use clap::Subcommand;

use crate::error::CliError;
use crate::exit;
use crate::rows;

/// Render conversations in the Harmony format, or parse what a model wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}' |
    pylon harmony render --gguf models/nano/gpt-oss-nano.gguf")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Render(render::Args),
    Parse(parse::Args),
}

/// # Errors
/// The file has no usable tokenizer, or a row cannot be used.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    match args.action {
        Action::Render(args) => {
            let tokenizer = args.vocabulary.tokenizer()?;
            rows::answer_each(|row| render::answer(&tokenizer, &args, row))?;
        }
        Action::Parse(args) => {
            let tokenizer = args.vocabulary.tokenizer()?;
            rows::answer_each(|row| parse::answer(&tokenizer, &args, row))?;
        }
    }
    Ok(exit::SUCCESS)
}
