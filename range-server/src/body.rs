//! Response bodies: nothing, or memory and stretches of a file in turn, read as the client takes them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::access::PendingRecord;
use crate::activity::Answering;
use crate::buffers::{BUFFER_BYTES, Buffer};
use crate::content::{Content, OpenFile, Stamp, Version};
use crate::multipart::Multipart;
use crate::range::ByteRange;

/// How far ahead of a client that reads from a slow disk the system is asked to read.
const READ_AHEAD_BYTES: u64 = 4 << 20;

/// How much is read from the page cache without leaving the thread if an answer is longer than a buffer. This much
/// stays in the innermost cache until it is sent, and keeps the client from falling asleep: waking it takes as long as
/// copying this much.
const CACHED_BYTES: usize = 40 << 10;

/// The bytes of a response.
#[derive(Default)]
pub(crate) struct Payload {
    pieces: VecDeque<Piece>,
    /// The file that the pieces come from, and the state that it must be in.
    file: Option<(Arc<OpenFile>, Stamp)>,
    unsent: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

enum Piece {
    Memory(Bytes),
    File(Range<u64>),
}

impl Payload {
    pub(crate) fn memory(bytes: Bytes) -> Self {
        let mut payload = Self::default();
        payload.push(Piece::Memory(bytes));
        payload
    }

    /// `len` bytes of `content` from `offset` on; `version` is the one that the headers describe.
    pub(crate) fn stretch(content: &Content, version: &Version, offset: u64, len: u64) -> Self {
        let mut payload = Self { file: file_of(content, version), ..Self::default() };
        payload.push(piece(content, offset..offset + len));
        payload
    }

    /// Several ranges of `content`.
    pub(crate) fn multipart(content: &Content, version: &Version, layout: Multipart) -> Self {
        let mut payload = Self { file: file_of(content, version), ..Self::default() };
        for (head, ByteRange { first, last }) in layout.parts {
            payload.push(Piece::Memory(head));
            payload.push(piece(content, first..last + 1));
        }
        payload.push(Piece::Memory(layout.tail));
        payload
    }

    fn push(&mut self, piece: Piece) {
        let len = match &piece {
            Piece::Memory(bytes) => bytes.len() as u64,
            Piece::File(range) => range.end - range.start,
        };
        self.unsent += len;
        if len > 0 {
            self.pieces.push_back(piece);
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let chunk = match &mut self.reading {
            Some(reading) => {
                let chunk = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other).flatten();
                self.reading = None;
                chunk
            }
            None => match self.pieces.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Memory(bytes)) => Ok(bytes),
                Some(Piece::File(range)) => match self.read_cached(range) {
                    Some(chunk) => chunk,
                    // Now there is a task to wait for.
                    None => return self.poll_chunk(cx),
                },
            },
        };
        match &chunk {
            Ok(bytes) => self.unsent -= bytes.len() as u64,
            Err(_) => self.pieces.clear(),
        }
        Poll::Ready(Some(chunk))
    }

    /// Takes the next chunk of `range` from the page cache, on the spot: handing that to another thread would take
    /// longer than doing it. What is not there is read where waiting disturbs nobody.
    fn read_cached(&mut self, range: Range<u64>) -> Option<io::Result<Bytes>> {
        let (file, stamp) = self.file.clone().expect("a piece of a file is from a file");
        let most = (range.end - range.start).min(BUFFER_BYTES as u64) as usize;
        let len = if range.end - range.start > BUFFER_BYTES as u64 { CACHED_BYTES } else { most };
        let mut buffer = Buffer::take();
        let read = file.read_cached_at(buffer.space(len), range.start);
        let taken = if read == 0 { most } else { read };
        let rest = range.start + taken as u64..range.end;
        if !rest.is_empty() {
            self.pieces.push_front(Piece::File(rest));
        }
        if read == 0 {
            self.reading = Some(tokio::task::spawn_blocking(move || read_chunk(&file, stamp, buffer, range, most)));
            return None;
        }
        Some(unchanged(&file, stamp).map(|()| buffer.into_bytes(read)))
    }
}

fn file_of(content: &Content, version: &Version) -> Option<(Arc<OpenFile>, Stamp)> {
    match content {
        Content::Memory { .. } => None,
        Content::File(file) => Some((Arc::clone(file), version.stamp?)),
    }
}

fn piece(content: &Content, range: Range<u64>) -> Piece {
    match content {
        // The plan keeps ranges inside the content, and what is in memory has lengths that fit a usize.
        Content::Memory { bytes, .. } => Piece::Memory(bytes.slice(range.start as usize..range.end as usize)),
        Content::File(_) => Piece::File(range),
    }
}

/// Reads the first `len` bytes of `range` and asks for some of the rest.
fn read_chunk(file: &OpenFile, stamp: Stamp, mut buffer: Buffer, range: Range<u64>, len: usize) -> io::Result<Bytes> {
    file.read_exact_at(buffer.space(len), range.start)?;
    unchanged(file, stamp)?;
    let next = range.start + len as u64;
    file.will_need(next, (range.end - next).min(READ_AHEAD_BYTES));
    Ok(buffer.into_bytes(len))
}

/// Fails if the file has changed. Called after a read, so that the bytes are of the version that the headers promised.
fn unchanged(file: &OpenFile, stamp: Stamp) -> io::Result<()> {
    if file.stamp()? == stamp { Ok(()) } else { Err(io::Error::other("the file changed while it was being sent")) }
}

/// A payload that reports what became of it when it is dropped, and until then keeps its connection from being idle.
pub(crate) struct LoggedBody {
    payload: Payload,
    record: PendingRecord,
    _answering: Answering,
}

impl LoggedBody {
    pub(crate) fn new(payload: Payload, record: PendingRecord, answering: Answering) -> Self {
        let record = record.expecting(payload.unsent);
        Self { payload, record, _answering: answering }
    }
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let chunk = ready!(this.payload.poll_chunk(cx));
        match &chunk {
            Some(Ok(bytes)) => this.record.sent(bytes.len() as u64),
            // The connection is then cut, so that the client cannot take what it got for the whole.
            Some(Err(error)) => this.record.failed(error),
            None => {}
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.payload.unsent == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.payload.unsent)
    }
}
