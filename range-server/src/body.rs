//! Response bodies: nothing, memory, or a stretch of a file read as the client takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::access::PendingRecord;
use crate::content::{Content, OpenFile, Version};

/// Large enough that system calls do not matter, small enough that a client that stopped reading costs about 1 MiB:
/// one chunk being sent, one already read.
const CHUNK_BYTES: u64 = 512 << 10;

/// The bytes of a response.
pub(crate) enum Payload {
    Empty,
    Memory(Bytes),
    File(FileStretch),
}

impl Payload {
    /// `len` bytes of `content` from `offset` on; `version` is the one that the headers describe.
    pub(crate) fn stretch(content: &Content, version: Version, offset: u64, len: u64) -> Self {
        match content {
            // The plan keeps ranges inside the content, and what is in memory has lengths that fit a usize.
            Content::Memory { bytes, .. } => Self::Memory(bytes.slice(offset as usize..(offset + len) as usize)),
            Content::File(file) => {
                let file = Arc::clone(file);
                Self::File(FileStretch { file, version, to_read: offset..offset + len, unsent: len, reading: None })
            }
        }
    }

    fn remaining(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(stretch) => stretch.unsent,
        }
    }
}

/// Part of a file, read chunk by chunk on the blocking pool, one chunk ahead of the client.
pub(crate) struct FileStretch {
    file: Arc<OpenFile>,
    version: Version,
    to_read: std::ops::Range<u64>,
    unsent: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileStretch {
    fn read_ahead(&mut self) {
        let offset = self.to_read.start;
        let len = CHUNK_BYTES.min(self.to_read.end - offset);
        if self.reading.is_some() || len == 0 {
            return;
        }
        self.to_read.start += len;
        let (file, version) = (Arc::clone(&self.file), self.version.clone());
        self.reading = Some(tokio::task::spawn_blocking(move || read_chunk(&file, &version, offset, len)));
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.read_ahead();
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let chunk = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other).flatten();
        self.reading = None;
        match &chunk {
            Ok(bytes) => {
                self.unsent -= bytes.len() as u64;
                self.read_ahead();
            }
            Err(_) => self.to_read = 0..0,
        }
        Poll::Ready(Some(chunk))
    }
}

fn read_chunk(file: &OpenFile, version: &Version, offset: u64, len: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; len as usize];
    file.read_exact_at(&mut buffer, offset)?;
    // Asked after the read: then these bytes are of the version that the headers promised.
    if file.version()? != *version {
        return Err(io::Error::other("the file changed while it was being sent"));
    }
    Ok(buffer.into())
}

/// A payload that reports what became of it when it is dropped.
pub(crate) struct LoggedBody {
    payload: Payload,
    record: PendingRecord,
}

impl LoggedBody {
    pub(crate) fn new(payload: Payload, record: PendingRecord) -> Self {
        let record = record.expecting(payload.remaining());
        Self { payload, record }
    }
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let chunk = match &mut this.payload {
            Payload::File(stretch) => ready!(stretch.poll_chunk(cx)),
            rest => match std::mem::replace(rest, Payload::Empty) {
                Payload::Memory(bytes) if !bytes.is_empty() => Some(Ok(bytes)),
                _ => None,
            },
        };
        match &chunk {
            Some(Ok(bytes)) => this.record.sent(bytes.len() as u64),
            // The connection is then cut, so that the client cannot take what it got for the whole.
            Some(Err(error)) => this.record.failed(error),
            None => {}
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.payload.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.payload.remaining())
    }
}
