//! Loads a model and answers one prompt.
//!
//! ```text
//! cargo run --release -p gptoss-examples --bin answer -- cpu models/nano/gpt-oss-nano.gguf "What is 17 + 25?"
//! cargo run --release -p gptoss-examples --bin answer -- gpu models/nano/gpt-oss-nano.gguf "What is 17 + 25?"
//! ```

use std::error::Error;
use std::path::Path;

use gptoss_cpu::{CpuModel, CpuOptions};
use gptoss_engine::{GpuOptions, Loader, open_engine};
use gptoss_gguf::part_paths;
use gptoss_model::{Answer, Engine, Quiet, tokenizer};
use gptoss_protocol::{LoadOptions, Prompt};
use gptoss_source::FileSource;

async fn answer_on_cpu(file: &Path, prompt: &Prompt) -> Result<Answer, Box<dyn Error>> {
    let model = CpuModel::open(file, &CpuOptions::default(), &Quiet).await?;
    let tokenizer = tokenizer(model.gguf())?;
    Ok(Engine::new(model, tokenizer).answer(prompt, &Quiet).await?)
}

async fn answer_on_gpu(file: &Path, prompt: &Prompt) -> Result<Answer, Box<dyn Error>> {
    let source = FileSource::open_all(&part_paths(file))?;
    let (gpu, options) = (GpuOptions::default(), LoadOptions::default());
    let loader = Loader { source, gpu, options, all_logits: false, sequences: 1 };
    Ok(open_engine(loader, Some(prompt), &Quiet).await?.answer(prompt, &Quiet).await?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, file, question] = &arguments[..] else { return Err("expected cpu or gpu, FILE, PROMPT".into()) };
    let prompt = Prompt { user: question.clone(), max_new_tokens: 512, ..Prompt::default() };
    let answer = match device.as_str() {
        "cpu" => pollster::block_on(answer_on_cpu(file.as_ref(), &prompt))?,
        "gpu" => pollster::block_on(answer_on_gpu(file.as_ref(), &prompt))?,
        other => return Err(format!("expected cpu or gpu, got {other}").into()),
    };
    println!("{}", answer.final_text());
    Ok(())
}
