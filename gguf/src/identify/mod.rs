//! What a file is that is no GGUF file, told by its first bytes, its length and its name. People save the page about a
//! model, the pointer to it, or a piece of it, and then have a file whose name ends in `.gguf`.

mod binary;
pub(crate) mod name;
mod text;

use std::fmt;

pub use name::{is_unfinished_name, piece_stem};

/// How many bytes from the start of a file [`identify`] can use. Most kinds need fewer, many only four.
pub const IDENTIFY_BYTES: usize = 4096;

/// The kind of a file that does not begin as a GGUF file does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignFile {
    /// The file has no bytes.
    Empty,
    /// All bytes that were looked at are zero: space that a download tool allocated and did not fill.
    Zeros,
    /// HTML, or a page saved as MHTML.
    WebPage,
    /// A pointer of Git LFS to a file that is elsewhere.
    LfsPointer,
    /// Another text that stands for a file: a link stored as text, a pointer of git-annex, DVC or Xet.
    Pointer(&'static str),
    /// What a host said in place of the file, as JSON or XML.
    HostError(&'static str),
    /// JSON, without being an error of a host.
    Json,
    /// Some other text, with its beginning.
    Text(String),
    /// An archive or a compressed file, by the name of its format.
    Archive(&'static str),
    /// Weights in another format than GGUF, by the name of that format.
    OtherWeights(&'static str),
    /// A format that came before GGUF, by its name.
    BeforeGguf(&'static str),
    /// An adapter in the format before GGUF.
    OldAdapter,
    /// An importance matrix in the format before GGUF (`imatrix.dat`).
    OldImatrix,
    /// A saved session of llama.cpp.
    Session,
    /// A document, picture or program, by the name of its kind.
    Other(&'static str),
    /// What a download tool or a system keeps beside a file, by the name of its kind.
    Companion(&'static str),
    /// The name says that this is a piece, but not the first, of a file that was cut into pieces.
    LaterPiece,
    /// The name says that this is an unfinished download.
    Unfinished,
}

/// Recognises a file by its first bytes (at most [`IDENTIFY_BYTES`] are used), its length in bytes and its name (which
/// may be empty). `None` for a file that begins with the bytes `GGUF`, and for an unknown kind.
pub fn identify(start: &[u8], file_len: u64, name: &str) -> Option<ForeignFile> {
    let start = &start[..start.len().min(IDENTIFY_BYTES)];
    if file_len == 0 {
        return Some(ForeignFile::Empty);
    }
    if b"GGUF".starts_with(&start[..start.len().min(4)]) {
        return None;
    }
    let read = text::identify(start);
    if read.is_none() && piece_stem(name).is_some() {
        // Weights may begin with any bytes, including those of another format.
        return Some(ForeignFile::LaterPiece);
    }
    let known = binary::identify(start, file_len).or(read);
    known.or_else(|| is_unfinished_name(name).then_some(ForeignFile::Unfinished))
}

impl fmt::Display for ForeignFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Zeros => f.write_str("it begins with nothing but zeros, as a download that did not end"),
            Self::WebPage => f.write_str("it is a web page (HTML)"),
            Self::LfsPointer => f.write_str("it is a Git LFS pointer, a few lines of text that stand for the file"),
            Self::Pointer(kind) => write!(f, "it is {kind}, a text that stands for the file"),
            Self::HostError(format) => write!(f, "it is an error message of a host ({format})"),
            Self::Json => f.write_str("it is JSON"),
            Self::Text(beginning) => write!(f, "it is a text, which begins {beginning:?}"),
            Self::Archive(format) => write!(f, "it is {format}"),
            Self::OtherWeights(format) => write!(f, "it is a model file of another format, {format}"),
            Self::BeforeGguf(format) => write!(f, "it has the format {format}, which came before GGUF"),
            Self::OldAdapter => f.write_str("it is an adapter (LoRA) in the format GGLA, which came before GGUF"),
            Self::OldImatrix => f.write_str("it is an importance matrix (imatrix), not a model"),
            Self::Session => f.write_str("it is a session that llama.cpp saved, not a model"),
            Self::Other(kind) => write!(f, "it is {kind}"),
            Self::Companion(kind) => write!(f, "it is {kind}"),
            Self::LaterPiece => f.write_str("by its name it is a later piece of a file that was cut into pieces"),
            Self::Unfinished => f.write_str("by its name it is a download that did not end"),
        }
    }
}

impl ForeignFile {
    /// Whether the kind was guessed from a few bytes with which weights could begin, too.
    pub(crate) fn is_weak(&self) -> bool {
        use ForeignFile::{Empty, HostError, Json, LfsPointer, Pointer, Text, WebPage};
        !matches!(self, Empty | WebPage | LfsPointer | Pointer(_) | HostError(_) | Json | Text(_))
    }

    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Empty => "Nothing was downloaded. Download the file again.",
            Self::Zeros => "Let the download finish in the program that began it, or download the file again.",
            Self::WebPage => {
                "Download the file itself, not the page about it: on Hugging Face and its like the file's address has /resolve/ \
                 where the page's has /blob/."
            }
            Self::LfsPointer => "Run git lfs pull in that folder, or download the file itself from its page.",
            Self::Pointer(_) => {
                "Get the file that it stands for, with the tool that made it, or download the file itself."
            }
            Self::HostError(_) => {
                "Open the file to see what the host said. Some models need a login, or that their terms are accepted; then download \
                 the file."
            }
            Self::Json => {
                "It may describe a model, or be what a host said in place of one. Use the model's .gguf file."
            }
            Self::Text(_) => {
                "If that is what a host said in place of the file, see to it there; then download the file itself."
            }
            Self::Archive(_) => "Unpack it, and use the .gguf file that is in it.",
            Self::OtherWeights(_) | Self::BeforeGguf(_) => {
                "Use the GGUF file of the model, such as gpt-oss-20b-mxfp4.gguf from ggml-org, or convert it with a current \
                 llama.cpp."
            }
            Self::OldAdapter | Self::OldImatrix | Self::Session => {
                "Use the model itself: a gpt-oss GGUF such as gpt-oss-20b-mxfp4.gguf from ggml-org."
            }
            Self::Other(_) => "Use the model's .gguf file.",
            Self::Companion(_) => "Use the .gguf file that lies beside it.",
            Self::LaterPiece => name::JOIN_ADVICE,
            Self::Unfinished => name::FINISH_ADVICE,
        }
    }
}

#[cfg(test)]
mod tests;
