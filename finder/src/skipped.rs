//! What a search passed over, and why.

use std::path::PathBuf;

use gptoss_gguf::{is_unfinished_name, piece_stem};

/// Something that a search met and did not take.
#[derive(Debug)]
pub struct Skipped {
    /// Its path below the folder that was searched, with forward slashes.
    pub name: String,
    pub reason: SkipReason,
}

/// Why it was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    #[error("it is a link that leads out of the folder, to {}", .target.display())]
    LeadsOut { target: PathBuf },
    #[error("it is a link to a folder, {}", .target.display())]
    LinkedFolder { target: PathBuf },
    #[error("it is a link to {}, which does not exist", .target.display())]
    Dangling { target: PathBuf },
    #[error("it is a link to a folder that it lies in, or that was searched under another name")]
    SearchedAlready,
    #[error("it lies more than {limit} folders deep")]
    TooDeep { limit: u32 },
    #[error("its name is not UTF-8; rename it")]
    NameNotUtf8,
    #[error("by its name it is a download that did not end; let it finish in the program that began it")]
    Unfinished,
    #[error("by its name it is a piece of {whole}, which was cut into pieces; put them together into one file")]
    Piece { whole: String },
    #[error("Ollama's list of its files cannot be read: {detail}")]
    Manifest { detail: String },
    #[error("Ollama has not downloaded it: {} is not there", .blob.display())]
    NoBlob { blob: PathBuf },
    #[error("{0}")]
    Io(std::io::Error),
}

impl SkipReason {
    /// Following links wherever they lead would take it.
    pub fn is_unfollowed_link(&self) -> bool {
        matches!(self, Self::LeadsOut { .. } | Self::LinkedFolder { .. })
    }

    /// Of a file that, by its name, was to become a GGUF file and is none; `None` for other files, which nobody misses.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        if let Some(whole) = piece_stem(name).filter(|whole| whole.to_ascii_lowercase().contains(".gguf")) {
            return Some(Self::Piece { whole: whole.to_owned() });
        }
        let is_model = name.to_ascii_lowercase().contains(".gguf");
        (is_model && is_unfinished_name(name)).then_some(Self::Unfinished)
    }
}
