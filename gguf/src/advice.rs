//! What the user can do about a file that cannot be used: the one place that says it, for the engine, the page, `pylon`
//! and `gguf-serve`.

use crate::identify::name::{FINISH_ADVICE, JOIN_ADVICE};
use crate::{ForeignFile, GgufError, SplitError, is_unfinished_name, piece_stem};

/// Advice for a file that is whole, but made in a way that cannot be used.
const UNUSUAL: &str =
    "Another download would bring the same bytes. Use a gpt-oss GGUF such as gpt-oss-20b-mxfp4.gguf from ggml-org.";

/// Advice for a file that cannot be what its maker wrote.
const DAMAGED: &str = "Download the file again and compare its size with the one its publisher states.";

impl GgufError {
    /// The same error, with what the file's name adds: a piece of a file that was cut, or an unfinished download, is
    /// not a damaged file.
    #[must_use]
    pub fn of_file(self, name: &str) -> Self {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        match self {
            Self::NotGguf { .. } if piece_stem(name).is_some() => Self::Foreign { what: ForeignFile::LaterPiece },
            Self::NotGguf { .. } if is_unfinished_name(name) => Self::Foreign { what: ForeignFile::Unfinished },
            Self::Foreign { what } if what.is_weak() && piece_stem(name).is_some() => {
                Self::Foreign { what: ForeignFile::LaterPiece }
            }
            Self::HeaderTruncated { file_len: 0, .. } => Self::Foreign { what: ForeignFile::Empty },
            cut @ (Self::HeaderTruncated { .. } | Self::FileTruncated { .. } | Self::CountTooLarge { .. }) => {
                let is_piece = piece_stem(name).is_some();
                match is_piece || is_unfinished_name(name) {
                    true => Self::Incomplete { is_piece, cut: Box::new(cut) },
                    false => cut,
                }
            }
            other => other,
        }
    }

    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Foreign { what } => what.advice(),
            Self::Incomplete { is_piece: true, .. } => JOIN_ADVICE,
            Self::Incomplete { is_piece: false, .. } => FINISH_ADVICE,
            Self::NotGguf { .. } => {
                "Check that this is the model's .gguf file. If it should be, download it again and compare its size with the one its \
                 publisher states."
            }
            Self::HeaderTruncated { .. } | Self::FileTruncated { .. } | Self::CountTooLarge { .. } => {
                "If it is the first of several pieces, put them together into one file; otherwise let the download finish, or download the \
                 file again and compare its size with the one its publisher states."
            }
            Self::BigEndian => "Use the little-endian file of the model, which nearly every publisher offers.",
            Self::UnsupportedVersion { .. } => {
                "Use a file of the model that was made with a current llama.cpp, such as gpt-oss-20b-mxfp4.gguf from ggml-org."
            }
            Self::HeaderTooLarge { .. }
            | Self::NameTooLong { .. }
            | Self::InvalidUtf8 { .. }
            | Self::InvalidBool { .. }
            | Self::UnknownValueType { .. }
            | Self::ShapeOverflow { .. }
            | Self::OffsetOverflow { .. }
            | Self::Overlap { .. } => DAMAGED,
            _ => UNUSUAL,
        }
    }
}

impl SplitError {
    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::JoinedWithCat { .. } => {
                "Keep the parts as they were published, each in its own file under its own name, in one folder; or make one file of them \
                 with llama-gguf-split --merge."
            }
            _ => {
                "Put all files of the model into one place, with the names they were published under, or pick all of them at once."
            }
        }
    }
}
