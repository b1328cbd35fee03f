//! GGUF files on disk with their header read: any architecture, one file or the parts of a split model.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use gptoss_gates::Reopen;
use gptoss_gates::determinism::Opening;
use gptoss_gguf::{Gguf, GgufError, Progress, TensorInfo, parse, part_paths};
use gptoss_model::{EngineError, Host};
use gptoss_source::{FileSource, Source};
use gptoss_text::Tokenizer;

use crate::error::CliError;

/// Size of the first read of a header; each later read brings four times as much as is there.
const FIRST_HEADER_BYTES: u64 = 64 << 10;
const HEADER_GROWTH: u64 = 4;

/// How many bytes of a tensor or a range a command holds at once.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// An open file with its header, or all files of a split model as one.
pub struct GgufFile {
    pub path: PathBuf,
    /// All parts in order; one unless the model is split.
    pub parts: Vec<Part>,
    /// All parts, laid one after the other.
    pub source: Rc<dyn Source>,
    /// The joint header: offsets count from the first byte of the first part.
    pub gguf: Gguf,
}

/// One file of a model.
pub struct Part {
    pub path: PathBuf,
    /// Where the part begins when all are laid one behind the other.
    pub first_byte: u64,
    /// Header of the part.
    pub gguf: Gguf,
}

impl GgufFile {
    /// Opens the file at `path`, as it is, and reads its header; no tensor data.
    ///
    /// # Errors
    /// The file cannot be read, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let source = FileSource::open(path)?;
        let gguf = checked_header(&source, path)?;
        let part = Part { path: path.to_owned(), first_byte: 0, gguf: gguf.clone() };
        Ok(Self { path: path.to_owned(), parts: vec![part], source: Rc::new(source), gguf })
    }

    /// Opens the model that the file at `path` belongs to: all parts, if its name is that of a part.
    ///
    /// # Errors
    /// As [`GgufFile::open`]; parts are missing or do not belong together.
    pub fn open_model(path: &Path) -> Result<Self, CliError> {
        let paths = part_paths(path);
        let source = FileSource::open_all(&paths)?;
        let (mut parts, mut first_byte) = (Vec::new(), 0);
        for path in paths {
            let gguf = checked_header(&FileSource::open(&path)?, &path)?;
            let len_bytes = gguf.file_len;
            parts.push(Part { path, first_byte, gguf });
            first_byte += len_bytes;
        }
        let named = parts.iter().map(|part| (part.path.display().to_string(), part.gguf.clone())).collect();
        let gguf = Gguf::join(named).map_err(EngineError::from)?;
        Ok(Self { path: path.to_owned(), parts, source, gguf })
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, CliError> {
        let missing = || CliError::NoTensor { path: self.path.clone(), tensor: name.to_owned() };
        self.gguf.tensor(name).ok_or_else(missing)
    }

    /// The tokenizer of the file's own vocabulary.
    ///
    /// # Errors
    /// The file has none, or one that is no byte-level BPE.
    pub fn tokenizer(&self) -> Result<Tokenizer, CliError> {
        Ok(gptoss_model::tokenizer(&self.gguf)?)
    }

    /// Reads a range, given in bytes of the file.
    ///
    /// # Errors
    /// The range is not in the file, or the file cannot be read or has changed.
    pub fn read(&self, offset_bytes: u64, len_bytes: u64) -> Result<Vec<u8>, CliError> {
        read(self.source.as_ref(), offset_bytes, len_bytes)
    }
}

/// Opens all files of the model at a path once more.
pub struct Again<'a>(pub &'a Path);

impl Reopen for Again<'_> {
    fn reopen<'a>(&'a self, _host: &'a dyn Host) -> Opening<'a> {
        Box::pin(async { FileSource::open_all(&part_paths(self.0)).map_err(EngineError::from) })
    }
}

fn checked_header(source: &dyn Source, path: &Path) -> Result<Gguf, CliError> {
    read_header(source)?.map_err(|error| CliError::gguf(path, error))
}

/// Reads the header of a file: the outer error is the file's, the inner one the header's.
///
/// # Errors
/// The file cannot be read.
pub fn read_header(source: &dyn Source) -> Result<Result<Gguf, GgufError>, CliError> {
    let file_bytes = source.len_bytes();
    let mut bytes = Vec::new();
    let mut wanted = FIRST_HEADER_BYTES.min(file_bytes);
    loop {
        let have = bytes.len() as u64;
        bytes.extend(read(source, have, wanted - have)?);
        match parse(&bytes, file_bytes) {
            Ok(Progress::Ready(gguf)) => return Ok(Ok(*gguf)),
            Ok(Progress::NeedMore { at_least }) => {
                wanted = at_least.max(HEADER_GROWTH * bytes.len() as u64).min(file_bytes);
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Goes through a range in chunks of at most `chunk_bytes`; `use_chunk` gets the offset of each in the file, and its
/// bytes.
///
/// # Errors
/// The range is not in the file, the file cannot be read or has changed; and whatever `use_chunk` returns.
pub fn read_chunks(
    source: &dyn Source,
    offset_bytes: u64,
    len_bytes: u64,
    chunk_bytes: u64,
    mut use_chunk: impl FnMut(u64, &[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut done = 0;
    while done < len_bytes {
        let len = chunk_bytes.min(len_bytes - done);
        use_chunk(offset_bytes + done, &read(source, offset_bytes + done, len)?)?;
        done += len;
    }
    Ok(())
}

fn read(source: &dyn Source, offset_bytes: u64, len_bytes: u64) -> Result<Vec<u8>, CliError> {
    let bytes = pollster::block_on(source.read(offset_bytes, len_bytes))?;
    Ok(bytes.to_vec(0..bytes.len()))
}
