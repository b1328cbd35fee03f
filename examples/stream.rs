//! Prints an answer while it is being written: reasoning to standard error, the answer itself to standard output.
//!
//! ```text
//! cargo run --release -p gptoss-examples --bin stream -- models/nano/gpt-oss-nano.gguf "Spell metal."
//! ```
//!
//! Everything that an engine reports reaches its [`Host`] as an [`Event`]. The host also decides when to stop.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use gptoss_cpu::{CpuModel, CpuOptions};
use gptoss_model::{Engine, Host, tokenizer};
use gptoss_protocol::{Channel, Event, Prompt, TokenInfo};

/// Prints the text of each token on its channel, and the rate at the end.
struct Terminal;

impl Host for Terminal {
    fn emit(&self, event: Event) {
        match event {
            Event::Token(TokenInfo { text, channel: Some(Channel::Final), .. }) => {
                print!("{text}");
                // Whoever closed standard output reads no more.
                std::io::stdout().flush().ok();
            }
            Event::Token(TokenInfo { text, .. }) => eprint!("{text}"),
            Event::Finished { new_tokens, decode_tokens_per_second: Some(rate), .. } => {
                println!();
                eprintln!("\n{new_tokens} tokens, {rate:.1} tokens/s");
            }
            Event::Finished { .. } => println!(),
            // Stages of loading, the plan, the cache: the page shows all of it, this program does not.
            _ => {}
        }
    }

    /// A program with a STOP button returns what the button says.
    fn cancelled(&self) -> bool {
        false
    }
}

async fn stream(file: &Path, prompt: &Prompt) -> Result<(), Box<dyn Error>> {
    let model = CpuModel::open(file, &CpuOptions::default(), &Terminal).await?;
    let tokenizer = tokenizer(model.gguf())?;
    Engine::new(model, tokenizer).answer(prompt, &Terminal).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, question] = &arguments[..] else { return Err("expected FILE and PROMPT".into()) };
    let prompt = Prompt { user: question.clone(), max_new_tokens: 512, ..Prompt::default() };
    pollster::block_on(stream(file.as_ref(), &prompt))
}
