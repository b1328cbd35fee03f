//! What a GGUF file says about itself.

use std::io;

use gptoss_gguf::{GPT_OSS_TYPES, Gguf, GgufError, Progress, TensorType};

use crate::content::{Content, Version};

/// Architecture names of gpt-oss: llama.cpp's, and the one Ollama writes.
const ARCHITECTURES: [&str; 2] = ["gpt-oss", "gptoss"];

/// The part of a header that helps to choose a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// `general.architecture`; `None` if the header cannot be read.
    pub(crate) architecture: Option<String>,
    /// Why the page cannot run the model; `None` if nothing speaks against it.
    pub(crate) obstacle: Option<String>,
}

impl Summary {
    /// Reads the header. Blocks.
    pub(crate) fn read(content: &Content, version: &Version) -> Self {
        match read_header(content, version.len) {
            Ok(gguf) => {
                let architecture = gguf.metadata.str("general.architecture").map(str::to_owned);
                Self { obstacle: obstacle(&gguf), architecture: architecture.ok() }
            }
            Err(error) => Self { architecture: None, obstacle: Some(error.to_string()) },
        }
    }
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

fn read_header(content: &Content, file_len: u64) -> Result<Gguf, HeaderError> {
    let mut header = Vec::new();
    loop {
        match gptoss_gguf::parse(&header, file_len)? {
            Progress::Ready(gguf) => return Ok(*gguf),
            Progress::NeedMore { at_least } => {
                let at_hand = header.len();
                // The reader never asks for more than its header limit, far below what a usize holds.
                header.resize(at_least as usize, 0);
                content.read_exact_at(&mut header[at_hand..], at_hand as u64)?;
            }
        }
    }
}

fn obstacle(gguf: &Gguf) -> Option<String> {
    // Of a split model the first part has the metadata, and the page finds the others by their names.
    if let Some(split) = gguf.split().filter(|split| split.no > 0) {
        return Some(format!("part {} of {} of a split model; load part 1", split.no + 1, split.count));
    }
    match gguf.metadata.str("general.architecture") {
        Ok(architecture) if ARCHITECTURES.contains(&architecture) => {}
        Ok(architecture) => return Some(format!("architecture {architecture:?}, expected \"gpt-oss\"")),
        Err(error) => return Some(error.to_string()),
    }
    let foreign = gguf.tensors.iter().find(|tensor| !GPT_OSS_TYPES.contains(&tensor.kind))?;
    let others = gguf.tensors.iter().filter(|tensor| !GPT_OSS_TYPES.contains(&tensor.kind)).count() - 1;
    let known = GPT_OSS_TYPES.map(TensorType::name).join(", ");
    Some(format!("tensor {:?} and {others} more are {}, expected one of {known}", foreign.name, foreign.kind))
}
