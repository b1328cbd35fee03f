//! Whether a sound file is a gpt-oss model: its tensors and its vocabulary.

use gptoss_gguf::Gguf;
use gptoss_model::{EngineError, Inventory, ModelConfig};

use super::Check;

/// Checks that the file holds all tensors of a gpt-oss model in its shapes, in types that the engine runs, and no
/// others.
pub fn check_model(gguf: &Gguf) -> Check {
    let found = ModelConfig::from_gguf(gguf).and_then(|config| Ok((Inventory::from_gguf(gguf, &config)?, config)));
    match found {
        Ok((inventory, config)) => {
            let used = inventory.names();
            let unused = gguf.tensors.iter().filter(|tensor| !used.contains(tensor.name.as_str()));
            let extra = unused.filter(|tensor| !tensor.is_empty());
            let problems = extra.map(|tensor| format!("{} does not belong to gpt-oss", tensor.name)).collect();
            let detail = format!("{}, {} layers, {} tensors", config.architecture, config.layers, used.len());
            Check::new("model", detail, problems)
        }
        Err(EngineError::Tensors { problems }) => Check::new("model", "not a whole gpt-oss model".into(), problems),
        Err(error) => Check::new("model", "not a gpt-oss model".into(), vec![error.to_string()]),
    }
}

/// Checks that the vocabulary makes a tokenizer that Harmony can work with.
pub fn check_tokenizer(gguf: &Gguf) -> Check {
    match gptoss_model::tokenizer(gguf) {
        Ok(tokenizer) => {
            Check::new("tokenizer", format!("{} tokens, all of Harmony's specials", tokenizer.vocab_size()), Vec::new())
        }
        Err(error) => Check::new("tokenizer", "not usable".into(), vec![error.to_string()]),
    }
}
