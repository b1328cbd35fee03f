//! What the headers of a model's files say about it.

use std::collections::BTreeMap;
use std::io;

use gptoss_gguf::{Gguf, GgufError, Progress, SplitError, arrange_parts};

use crate::content::{Content, Version};

/// Names of `general.file_type`, by llama.cpp's enumeration `llama_ftype`; numbers that were given up are left out.
const FILE_TYPES: [(u32, &str); 33] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4"),
];

/// The facts from the headers that help to choose a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// `general.architecture`; `None` if the header cannot be read.
    pub(crate) architecture: Option<String>,
    /// How the weights are stored.
    pub(crate) quantisation: Option<String>,
    /// Why the page cannot run the model; `None` if nothing speaks against it.
    pub(crate) obstacle: Option<String>,
}

impl Summary {
    /// Reads the headers of all files of a model, given with their names and versions. Blocks.
    pub(crate) fn read(files: &[(String, Content, Version)]) -> Self {
        match read_model(files) {
            Ok(gguf) => {
                let architecture = gguf.metadata.str("general.architecture").map(str::to_owned).ok();
                Self { obstacle: gguf.gpt_oss_obstacle(), quantisation: quantisation(&gguf), architecture }
            }
            Err(error) => Self { architecture: None, quantisation: None, obstacle: Some(error.to_string()) },
        }
    }

    /// The summary of a model with a file that cannot be opened.
    pub(crate) fn unreadable(error: &io::Error) -> Self {
        let obstacle = Some(HeaderError::Unreadable(error.to_string()).to_string());
        Self { architecture: None, quantisation: None, obstacle }
    }
}

/// Why the headers could not be read.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    #[error("{0}. {advice}", advice = .0.advice())]
    Gguf(GgufError),
    #[error("{name}: {source}")]
    Part { name: String, source: Box<HeaderError> },
    #[error("{0}. {advice}", advice = .0.advice())]
    Split(#[from] SplitError),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The headers as one, checked against each other.
fn read_model(files: &[(String, Content, Version)]) -> Result<Gguf, HeaderError> {
    let names: Vec<&str> = files.iter().map(|(name, ..)| name.as_str()).collect();
    arrange_parts(&names)?;
    let of_several = files.len() > 1;
    let headers = files.iter().map(|(name, content, version)| match read_header(name, content, version.len) {
        Ok(gguf) => Ok((name.clone(), gguf)),
        Err(source) if of_several => Err(HeaderError::Part { name: name.clone(), source: Box::new(source) }),
        Err(error) => Err(error),
    });
    Ok(Gguf::join(headers.collect::<Result<Vec<_>, _>>()?)?)
}

fn read_header(name: &str, content: &Content, file_len: u64) -> Result<Gguf, HeaderError> {
    let mut header = Vec::new();
    loop {
        match gptoss_gguf::parse(&header, file_len).map_err(|error| HeaderError::Gguf(error.of_file(name)))? {
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

fn quantisation(gguf: &Gguf) -> Option<String> {
    // llama.cpp sets this bit where the type was guessed from the tensors, as below.
    const GUESSED: u32 = 1024;
    let told = gguf.metadata.u32("general.file_type").ok();
    let named = told.and_then(|told| FILE_TYPES.iter().find(|(id, _)| *id == told & !GUESSED));
    if let Some((_, name)) = named {
        return Some((*name).to_owned());
    }
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in &gguf.tensors {
        *bytes.entry(tensor.kind.name()).or_default() += tensor.size_bytes;
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name.to_owned())
}
