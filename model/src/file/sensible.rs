//! A source whose tensors have to make sense: see [`gptoss_gguf::sense`].

use std::rc::Rc;

use gptoss_gguf::Gguf;
use gptoss_gguf::sense::{Nonsense, Sampling, Sense};
use gptoss_source::{Bytes, Place, ReadFuture, Source, SourceError};

/// A model file whose reads are checked against its header. When bytes make no sense, the read fails and the underlying
/// source is told to distrust what it cached.
pub struct SensibleSource {
    inner: Rc<dyn Source>,
    sense: Sense,
}

impl SensibleSource {
    /// Checks reads of `inner`, which `gguf` was read from.
    pub fn new(inner: Rc<dyn Source>, gguf: &Gguf) -> Self {
        Self { inner, sense: Sense::new(gguf) }
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, SourceError> {
        let bytes = self.inner.read(offset_bytes, len_bytes).await?;
        let range = offset_bytes..offset_bytes + len_bytes;
        // Only the samples are copied into the program's own memory.
        let copy = |at: u64, sample: &mut [u8]| bytes.copy_to((at - offset_bytes) as usize, sample);
        match self.sense.check(range, Sampling::STREAM, copy) {
            Ok(()) => Ok(bytes),
            Err(nonsense) => {
                self.inner.distrust(nonsense.offset_bytes);
                Err(nonsense_error(self.inner.place(nonsense.offset_bytes), *nonsense))
            }
        }
    }
}

/// The error for bytes at `place` that make no sense.
pub fn nonsense_error(place: Place, nonsense: Nonsense) -> SourceError {
    let Nonsense { tensor, kind, expected, got, .. } = nonsense;
    SourceError::Nonsense { place: Box::new(place), tensor: format!("{tensor} ({kind})"), expected, got }
}

impl Source for SensibleSource {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(self.read_now(offset_bytes, len_bytes))
    }

    fn requests(&self) -> u32 {
        self.inner.requests()
    }

    fn wire_bytes(&self) -> Option<u64> {
        self.inner.wire_bytes()
    }

    fn parts(&self) -> &[Rc<dyn Source>] {
        self.inner.parts()
    }

    fn place(&self, offset_bytes: u64) -> Place {
        self.inner.place(offset_bytes)
    }

    fn distrust(&self, offset_bytes: u64) {
        self.inner.distrust(offset_bytes);
    }
}
