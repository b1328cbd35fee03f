//! The model file in memory, by the page.
#![allow(unsafe_code)] // memory maps are

use std::fs::File;
use std::path::Path;

use gptoss_engine::{EngineError, MatrixTensor, PlainTensor};
use gptoss_source::SourceError;
use memmap2::Mmap;

/// A read-only map of a whole file. The file must not be cut short while it is used: the operating system then ends the
/// process (the same holds for every engine that maps its weights).
pub(crate) struct Mapped {
    map: Mmap,
}

impl Mapped {
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let name = path.display().to_string();
        let failed = |source| EngineError::Source(SourceError::Io { name: name.clone(), action: "map", source });
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the map is read-only. Bytes that another process changes meanwhile give wrong numbers, not undefined
        // values: they are only ever read as integers and floats, of which every bit pattern is valid.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Self { map })
    }

    pub fn matrix(&self, tensor: &MatrixTensor) -> &[u8] {
        self.bytes(tensor.offset_bytes, tensor.size_bytes)
    }

    /// An F32 tensor, copied: small ones are used often and may lie at any offset.
    pub fn plain(&self, tensor: &PlainTensor) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(self.bytes(tensor.offset_bytes, tensor.size_bytes))
    }

    /// The header was checked against the file's length before.
    fn bytes(&self, offset_bytes: u64, len_bytes: u64) -> &[u8] {
        &self.map[offset_bytes as usize..][..len_bytes as usize]
    }
}
