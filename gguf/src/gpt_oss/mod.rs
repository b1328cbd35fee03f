//! What makes a file a gpt-oss model that this project runs, as far as a header tells: its role, architecture, keys,
//! tokenizer, the names and types of its tensors. The engine asks the same questions and then looks at shapes and
//! numbers; whoever lists files asks [`Gguf::gpt_oss_obstacle`] alone.

mod keys;
mod tensors;
mod tokenizer;

use thiserror::Error;

use crate::Gguf;
pub use keys::{check_keys, unknown_keys};
pub use tensors::{TensorUse, runs};
pub use tokenizer::check_tokenizer;

/// Values of `general.architecture`: llama.cpp's, and the one that Ollama writes.
pub const GPT_OSS_ARCHITECTURES: [&str; 2] = ["gpt-oss", OLLAMA];

/// The architecture of Ollama's gpt-oss files.
pub(crate) const OLLAMA: &str = "gptoss";

/// A key whose value, or whose absence, contradicts what this engine computes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} is {got}; this engine needs {expected}")]
pub struct WrongKey {
    /// Full name of the key, such as `gpt-oss.attention.sliding_window`.
    pub key: String,
    /// Values that the engine accepts, in words.
    pub expected: String,
    /// The file's value in words, or that there is none.
    pub got: String,
}

impl Gguf {
    /// Why no gpt-oss engine of this project can run the model with this header (for a split model, the joined header).
    /// `None` if nothing in the header speaks against it.
    pub fn gpt_oss_obstacle(&self) -> Option<String> {
        if let Some(role) = self.role() {
            return Some(format!("it is no model but {role}. {}", role.advice()));
        }
        let architecture = match self.metadata.str("general.architecture") {
            Ok(architecture) if GPT_OSS_ARCHITECTURES.contains(&architecture) => architecture,
            Ok(architecture) => return Some(format!("architecture {architecture:?}, expected \"gpt-oss\"")),
            Err(error) => return Some(error.to_string()),
        };
        let wrong_key = check_keys(&self.metadata, architecture).and_then(|()| check_tokenizer(&self.metadata)).err();
        wrong_key
            .map(|wrong| wrong.to_string())
            .or_else(|| self.unsupported_type(architecture))
            .or_else(|| self.missing_part(architecture))
    }

    fn unsupported_type(&self, architecture: &str) -> Option<String> {
        let mut foreign = self.unsupported_for_gpt_oss(architecture);
        let (first, expected) = foreign.next()?;
        let (name, kind) = (&first.name, first.kind);
        let others = match foreign.count() {
            0 => " is".to_owned(),
            others => format!(" and {others} more are"),
        };
        let expected: Vec<&str> = expected.iter().map(|kind| kind.name()).collect();
        Some(format!("tensor {name:?}{others} {kind}, expected one of {}", expected.join(", ")))
    }

    fn missing_part(&self, architecture: &str) -> Option<String> {
        let missing = self.missing_for_gpt_oss(architecture);
        let first = missing.first()?;
        let others = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
        Some(format!("it is not a whole gpt-oss model: {first}{others} missing"))
    }
}
