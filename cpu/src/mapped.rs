//! The model's files in memory, by the page.
#![expect(unsafe_code, reason = "memory maps are unsafe")]

use std::fs::File;
use std::path::{Path, PathBuf};

use gptoss_gguf::Gguf;
use gptoss_gguf::sense::{Sampling, Sense};
use gptoss_model::{EngineError, MatrixTensor, PlainTensor, nonsense_error};
use gptoss_source::{Place, SourceError};
use memmap2::Mmap;

/// Read-only maps of all files of a model. The files must not be cut short while they are used: the operating system
/// then ends the process (the same holds for every engine that maps its weights).
pub(crate) struct Mapped {
    parts: Vec<Part>,
}

/// One file.
struct Part {
    /// Where the file begins when all files are laid one behind the other, as the joined header counts.
    first_byte: u64,
    map: Mmap,
}

impl Mapped {
    /// Maps files whose header, read before, says that they have `file_bytes` together.
    pub fn open(paths: &[PathBuf], file_bytes: u64) -> Result<Self, EngineError> {
        let (mut parts, mut end) = (Vec::with_capacity(paths.len()), 0);
        for path in paths {
            let map = map(path)?;
            let first_byte = end;
            end += map.len() as u64;
            parts.push(Part { first_byte, map });
        }
        if end != file_bytes {
            let name = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let detail = format!("the header was read from {file_bytes} bytes, now there are {end}");
            return Err(SourceError::FileChanged { name, detail }.into());
        }
        Ok(Self { parts })
    }

    pub fn matrix(&self, tensor: &MatrixTensor) -> &[u8] {
        self.bytes(tensor.offset_bytes, tensor.size_bytes)
    }

    /// A plain tensor in F32, copied: small ones are used often and may lie at any offset.
    pub fn plain(&self, tensor: &PlainTensor) -> Vec<f32> {
        tensor.decode(self.bytes(tensor.offset_bytes, tensor.size_bytes))
    }

    /// Checks samples of every tensor.
    ///
    /// # Errors
    /// [`SourceError::Nonsense`] where one makes no sense.
    pub fn check_sense(&self, gguf: &Gguf, paths: &[PathBuf]) -> Result<(), EngineError> {
        let copy = |at: u64, sample: &mut [u8]| sample.copy_from_slice(self.bytes(at, sample.len() as u64));
        let checked = Sense::new(gguf).check(0..gguf.file_len, Sampling::MAPPED, copy);
        checked.map_err(|nonsense| {
            let part = self.part_of(nonsense.offset_bytes);
            let offset_bytes = nonsense.offset_bytes - self.parts[part].first_byte;
            let place = Place { file: paths[part].display().to_string(), host: None, offset_bytes };
            nonsense_error(place, *nonsense).into()
        })
    }

    /// The bytes of a tensor. The header was checked against the files' lengths before, and no tensor extends into the
    /// next file.
    fn bytes(&self, offset_bytes: u64, len_bytes: u64) -> &[u8] {
        let part = &self.parts[self.part_of(offset_bytes)];
        &part.map[(offset_bytes - part.first_byte) as usize..][..len_bytes as usize]
    }

    /// Index of the file that a byte is in.
    fn part_of(&self, offset_bytes: u64) -> usize {
        self.parts.partition_point(|part| part.first_byte <= offset_bytes) - 1
    }
}

fn map(path: &Path) -> Result<Mmap, EngineError> {
    let name = path.display().to_string();
    let failed = |source| EngineError::Source(SourceError::Io { name: name.clone(), action: "map", source });
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is read-only. Bytes that another process changes meanwhile give wrong numbers, not undefined
    // values: they are only ever read as integers and floats, of which every bit pattern is valid.
    unsafe { Mmap::map(&file) }.map_err(failed)
}
