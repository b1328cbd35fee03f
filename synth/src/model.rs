//! A model that is described in full, and its way into a file.

use std::io::Write;
use std::ops::Range;
use std::sync::mpsc;

use gptoss_gguf::write::{self, Pairs};

use crate::metadata;
use crate::split::Part;
use crate::tensors::{self, ALIGNMENT, Tensor, entries};
use crate::weights::Rows;
use crate::{Spec, SynthError};

/// Weights that are made and written at a time, in bytes: far above a write's own cost, far below any memory limit.
const CHUNK_BYTES: usize = 4 << 20;

/// Chunks that exist at once: one being made, one being written, one waiting.
const CHUNKS: usize = 3;

/// Everything about a synthetic model but its weights, which are made while they are written.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) pairs: Pairs,
    pub(crate) tensors: Vec<Tensor>,
    seed: u64,
}

impl Model {
    pub(crate) fn new(spec: &Spec) -> Result<Self, SynthError> {
        spec.check()?;
        let vocabulary = spec.vocabulary.arrays()?;
        let tensors = match spec.vocabulary_only {
            true => Vec::new(),
            false => tensors::tensors(spec, vocabulary.tokens.len() as u64)?,
        };
        // Refuses, before a byte is written, types that no weights can be made in.
        for tensor in &tensors {
            tensor.generator(spec.seed)?;
        }
        let pairs = metadata::pairs(spec, &vocabulary, &tensors)?;
        Ok(Self { pairs, tensors, seed: spec.seed })
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The header of the model in one file, padded to where tensor data begin.
    pub fn header(&self) -> Vec<u8> {
        write::header(&self.pairs, &entries(&self.tensors), ALIGNMENT)
    }

    /// Where tensor data begin in the model's one file, in bytes.
    pub fn data_offset(&self) -> u64 {
        write::header_bytes(&self.pairs, &entries(&self.tensors)).next_multiple_of(ALIGNMENT)
    }

    /// Length of the model's one file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.data_offset() + data_bytes(&self.tensors)
    }

    /// The data of one tensor, the same as in the file.
    ///
    /// # Errors
    /// The model has no such tensor.
    pub fn tensor_bytes(&self, name: &str) -> Result<Vec<u8>, SynthError> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        let tensor = found.ok_or_else(|| SynthError::NoSuchTensor { name: name.to_owned() })?;
        let mut bytes = Vec::new();
        self.write_tensors(std::slice::from_ref(tensor), &mut bytes)?;
        bytes.truncate(tensor.size_bytes as usize);
        Ok(bytes)
    }

    /// Writes the model as one file.
    ///
    /// # Errors
    /// `out` fails.
    pub fn write(&self, out: &mut impl Write) -> Result<(), SynthError> {
        out.write_all(&self.header())?;
        self.write_tensors(&self.tensors, out)?;
        Ok(out.flush()?)
    }

    /// The model in `parts` files of about the same size, as llama.cpp's `gguf-split` writes them.
    ///
    /// # Errors
    /// There are fewer tensors than parts.
    pub fn split(&self, parts: usize) -> Result<Vec<Part<'_>>, SynthError> {
        Part::split(self, parts)
    }

    /// Writes the data of `tensors`, each padded to the alignment. One thread makes what another one writes.
    pub(crate) fn write_tensors(&self, tensors: &[Tensor], out: &mut impl Write) -> Result<(), SynthError> {
        let (full_sender, full) = mpsc::sync_channel::<Vec<u8>>(CHUNKS);
        let (empty_sender, empty) = mpsc::sync_channel::<Vec<u8>>(CHUNKS);
        for _ in 0..CHUNKS {
            empty_sender.send(Vec::new()).expect("its receiver is in this function");
        }
        std::thread::scope(|scope| {
            let maker =
                scope.spawn(move || tensors.iter().try_for_each(|tensor| self.make(tensor, &empty, &full_sender)));
            let written = full.iter().try_for_each(|chunk| {
                out.write_all(&chunk)?;
                // The maker may have finished, and then needs no more of them.
                let _ = empty_sender.send(chunk);
                Ok(())
            });
            // Both channels end here, and with them the maker, wherever it waits.
            drop((full, empty_sender));
            let made = maker.join().expect("making weights cannot panic");
            written.and(made)
        })
    }

    /// Makes one tensor's data in chunks of whole rows. Ends early when nobody takes them any more.
    fn make(
        &self,
        tensor: &Tensor,
        empty: &mpsc::Receiver<Vec<u8>>,
        full: &mpsc::SyncSender<Vec<u8>>,
    ) -> Result<(), SynthError> {
        let rows = tensor.generator(self.seed)?;
        for range in chunks(&rows, tensor.rows()) {
            let Ok(mut chunk) = empty.recv() else { return Ok(()) };
            let bytes = (range.end - range.start) as usize * rows.row_bytes();
            // Every byte is overwritten: rows by weights, and only the padding's zeros matter.
            chunk.resize(bytes, 0);
            rows.write(range.start, &mut chunk);
            if range.end == tensor.rows() {
                let padding = tensor.size_bytes.next_multiple_of(ALIGNMENT) - tensor.size_bytes;
                chunk.resize(bytes + padding as usize, 0);
            }
            if full.send(chunk).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Bytes of these tensors' data with their padding.
pub(crate) fn data_bytes(tensors: &[Tensor]) -> u64 {
    tensors.iter().map(|tensor| tensor.size_bytes.next_multiple_of(ALIGNMENT)).sum()
}

/// The rows `0..count` in runs of about [`CHUNK_BYTES`].
fn chunks(rows: &Rows, count: u64) -> impl Iterator<Item = Range<u64>> {
    let step = (CHUNK_BYTES / rows.row_bytes()).max(1);
    (0..count).step_by(step).map(move |first| first..count.min(first + step as u64))
}
