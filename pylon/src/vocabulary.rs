//! The file whose tokenizer a command uses.

use std::path::PathBuf;

use gptoss_gguf::part_paths;
use gptoss_text::Tokenizer;

use crate::environment::Environment;
use crate::error::CliError;
use crate::gguf_file::GgufFile;
use crate::model_args::ModelArgs;

/// A vocabulary, from any GGUF file that has one.
#[derive(Debug, clap::Args)]
pub struct Vocabulary {
    /// GGUF file whose tokenizer is used; its weights are not needed [env: GPT_OSS_GGUF_PATH]
    #[arg(long, value_name = "P")]
    gguf: Option<PathBuf>,
}

impl Vocabulary {
    /// Reads the file's header and builds its tokenizer.
    ///
    /// # Errors
    /// Nothing says which file, or it has no usable tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, CliError> {
        let model = ModelArgs { gguf: self.gguf.clone(), ..ModelArgs::default() };
        let path = model.path(&Environment::read()?)?;
        // The first part of a split model has the vocabulary; the others need not be there.
        GgufFile::open(&part_paths(&path)[0])?.tokenizer()
    }
}
