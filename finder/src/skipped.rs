//! What a search passed over, and why.

use std::path::PathBuf;

use gptoss_gguf::{is_unfinished_name, piece_stem};

/// A file or folder that a search met and did not take.
#[derive(Debug)]
pub struct Skipped {
    /// Its path below the folder that was searched, with forward slashes.
    pub name: String,
    /// Why the search did not take it.
    pub reason: SkipReason,
}

/// Why a search did not take a file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SkipReason {
    /// A link whose target lies outside the searched folder, and [`Links::Inside`](crate::Links) was asked for.
    #[error("it is a link that leads out of the folder, to {}", .target.display())]
    LeadsOut { target: PathBuf },
    /// A link to a folder; only [`Links::Anywhere`](crate::Links) follows those.
    #[error("it is a link to a folder, {}", .target.display())]
    LinkedFolder { target: PathBuf },
    /// A link whose target does not exist.
    #[error("it is a link to {}, which does not exist", .target.display())]
    Dangling { target: PathBuf },
    /// A link to a folder that was searched before, which would go round in a circle.
    #[error("it is a link to a folder that it lies in, or that was searched under another name")]
    SearchedAlready,
    /// A folder below the depth limit.
    #[error("it lies more than {limit} folders deep")]
    TooDeep { limit: u32 },
    /// A path that cannot be written as text, and therefore not offered by name.
    #[error("its name is not UTF-8; rename it")]
    NameNotUtf8,
    /// A download that another program has not finished.
    #[error("by its name it is a download that did not end; let it finish in the program that began it")]
    Unfinished,
    /// A piece of a file that was cut by bytes; it is no GGUF file by itself.
    #[error("by its name it is a piece of {whole}, which was cut into pieces; put them together into one file")]
    Piece { whole: String },
    /// An Ollama manifest that cannot be read or parsed.
    #[error("Ollama's list of its files cannot be read: {detail}")]
    Manifest { detail: String },
    /// An Ollama model whose weights are not on this machine.
    #[error("Ollama has not downloaded it: {} is not there", .blob.display())]
    NoBlob { blob: PathBuf },
    /// The file system refused to list or open it.
    #[error("{0}")]
    Io(std::io::Error),
}

impl SkipReason {
    /// Following links wherever they lead would take it.
    pub fn is_unfollowed_link(&self) -> bool {
        matches!(self, Self::LeadsOut { .. } | Self::LinkedFolder { .. })
    }

    /// The reason to skip a file whose name says that it was to become a GGUF file and is none; `None` for other files,
    /// which nobody misses.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        if let Some(whole) = piece_stem(name).filter(|whole| whole.to_ascii_lowercase().contains(".gguf")) {
            return Some(Self::Piece { whole: whole.to_owned() });
        }
        let is_model = name.to_ascii_lowercase().contains(".gguf");
        (is_model && is_unfinished_name(name)).then_some(Self::Unfinished)
    }
}
