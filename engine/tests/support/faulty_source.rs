//! A source that can be told to fail.

use std::cell::Cell;

use gptoss_source::{MemorySource, ReadFuture, Source};

/// What becomes of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Good,
    /// Each ends in an error of the real source.
    Fail,
    /// They never end.
    Hang,
}

pub struct FaultySource {
    inner: MemorySource,
    pub reads: Cell<Reads>,
    /// A read began that will not end.
    pub hangs: Cell<bool>,
}

impl FaultySource {
    /// One that is good so far.
    pub fn new(name: &str, file: &[u8]) -> Self {
        let inner = MemorySource::new(name, file.to_vec());
        Self { inner, reads: Cell::new(Reads::Good), hangs: Cell::new(false) }
    }
}

impl Source for FaultySource {
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
        match self.reads.get() {
            Reads::Good => self.inner.read(offset_bytes, len_bytes),
            Reads::Fail => self.inner.read(u64::MAX, len_bytes),
            Reads::Hang => {
                self.hangs.set(true);
                Box::pin(std::future::pending())
            }
        }
    }

    fn requests(&self) -> u32 {
        self.inner.requests()
    }
}
