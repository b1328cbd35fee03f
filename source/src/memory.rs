use std::cell::Cell;

use crate::{Bytes, ReadFuture, Source, check_bounds};

/// A file that is already in memory.
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    identity: String,
    bytes: Bytes,
    requests: Cell<u32>,
}

impl MemorySource {
    /// Wraps `bytes`; messages call them `name`.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let name = name.into();
        let identity = format!("memory {name} {} bytes", bytes.len());
        Self { name, identity, bytes: Bytes::from_vec(bytes), requests: Cell::new(0) }
    }
}

impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(async move {
            check_bounds(&self.name, offset_bytes, len_bytes, self.len_bytes())?;
            self.requests.set(self.requests.get() + 1);
            // Inside the block, so both ends are below its length, which is a `usize`.
            Ok(self.bytes.slice(offset_bytes as usize..(offset_bytes + len_bytes) as usize))
        })
    }

    fn requests(&self) -> u32 {
        self.requests.get()
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::SourceError;

    #[test]
    fn reads_exactly_what_is_asked() {
        let source = MemorySource::new("m", (0..=99).collect());
        assert_eq!((source.name(), source.len_bytes()), ("m", 100));
        let got = pollster::block_on(source.read(95, 5)).expect("inside");
        assert_eq!(got.as_slice(), [95, 96, 97, 98, 99]);
        assert!(pollster::block_on(source.read(100, 0)).expect("empty at the end").is_empty());
    }

    #[test]
    fn reads_outside_are_refused_with_the_numbers() {
        let source = MemorySource::new("m", vec![0; 100]);
        for (offset_bytes, len_bytes) in [(96, 5), (101, 0), (u64::MAX, 2), (0, 101)] {
            let error = pollster::block_on(source.read(offset_bytes, len_bytes)).expect_err("outside");
            let SourceError::OutOfBounds { offset_bytes: at, len_bytes: len, file_bytes, .. } = error else {
                panic!("{offset_bytes}+{len_bytes}: {error}")
            };
            assert_eq!((at, len, file_bytes), (offset_bytes, len_bytes, 100));
        }
        assert_eq!(source.requests(), 0);
    }
}
