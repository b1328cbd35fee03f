//! Response bodies: nothing, or memory and stretches of a file in turn, read as the client takes them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use serve_kit::activity::Answering;
use tokio::task::JoinHandle;

use crate::access::PendingRecord;
use crate::buffers::{BUFFER_BYTES, Buffer};
use crate::content::{Content, OpenFile, Stamp, Version};
use crate::multipart::Multipart;
use crate::range::ByteRange;

/// How far ahead of a client that reads from a slow disk the system is asked to read.
const READ_AHEAD_BYTES: u64 = 4 << 20;

/// The bytes of a response.
#[derive(Default)]
pub(crate) struct Payload {
    pieces: VecDeque<Piece>,
    /// The file that the pieces come from, and the state that it must be in.
    file: Option<(Arc<OpenFile>, Stamp)>,
    unsent: u64,
    /// The next chunk, where it is read on another thread.
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
    /// about as long as doing it. What is not there is read where waiting disturbs nobody.
    fn read_cached(&mut self, range: Range<u64>) -> Option<io::Result<Bytes>> {
        let (file, stamp) = self.file.as_ref().expect("a piece of a file is from a file");
        let mut buffer = Buffer::take();
        let read = file.read_cached_at(buffer.space(chunk_bytes(&range)), range.start);
        if read == 0 {
            self.read_elsewhere(buffer, range);
            return None;
        }
        let chunk = unchanged(file, *stamp).map(|()| buffer.into_bytes(read));
        self.put_back(range.start + read as u64..range.end);
        Some(chunk)
    }

    /// Starts to read the next chunk on another core while this one sends the chunk before. A chunk that does not fill
    /// a buffer is not worth two changes of threads.
    fn read_ahead(&mut self) {
        let worth_it = |piece: &mut Piece| matches!(piece, Piece::File(range) if chunk_bytes(range) == BUFFER_BYTES);
        if let Some(Piece::File(range)) = self.pieces.pop_front_if(worth_it) {
            self.read_elsewhere(Buffer::take(), range);
        }
    }

    /// Starts to read the first chunk of `range` on a thread that may wait for a disk.
    fn read_elsewhere(&mut self, buffer: Buffer, range: Range<u64>) {
        let (file, stamp) = self.file.clone().expect("a piece of a file is from a file");
        let len = chunk_bytes(&range);
        self.put_back(range.start + len as u64..range.end);
        self.reading = Some(tokio::task::spawn_blocking(move || read_chunk(&file, stamp, buffer, range, len)));
    }

    /// What is left of a piece is the next one.
    fn put_back(&mut self, rest: Range<u64>) {
        if !rest.is_empty() {
            self.pieces.push_front(Piece::File(rest));
        }
    }
}

/// Length of the first chunk of a stretch of a file.
fn chunk_bytes(range: &Range<u64>) -> usize {
    (range.end - range.start).min(BUFFER_BYTES as u64) as usize
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

/// Reads the first `len` bytes of `range`; if the system did not have them, asks it for some of the rest.
fn read_chunk(file: &OpenFile, stamp: Stamp, mut buffer: Buffer, range: Range<u64>, len: usize) -> io::Result<Bytes> {
    let space = buffer.space(len);
    let cached = file.read_cached_at(space, range.start);
    if cached < len {
        file.read_exact_at(&mut space[cached..], range.start + cached as u64)?;
        let next = range.start + len as u64;
        file.will_need(next, (range.end - next).min(READ_AHEAD_BYTES));
    }
    unchanged(file, stamp)?;
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
    answering: Answering,
}

impl LoggedBody {
    pub(crate) fn new(payload: Payload, record: PendingRecord, answering: Answering) -> Self {
        let record = record.expecting(payload.unsent);
        Self { payload, record, answering }
    }
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let chunk = ready!(this.payload.poll_chunk(cx));
        match &chunk {
            Some(Ok(bytes)) => {
                this.record.sent(bytes.len() as u64);
                if this.answering.cores_are_idle() {
                    this.payload.read_ahead();
                }
            }
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

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::future::poll_fn;
    use std::io::Write;
    use std::time::Duration;

    use tempfile::NamedTempFile;

    use super::*;

    /// A file of `len` bytes that differ from place to place, its bytes, and a payload of all of them.
    fn whole_file(len: usize) -> (NamedTempFile, Vec<u8>, Payload) {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8 ^ (i >> 12) as u8).collect();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let open = OpenFile::open(file.path(), None).unwrap();
        let version = open.version().unwrap();
        let payload = Payload::stretch(&Content::File(Arc::new(open)), &version, 0, len as u64);
        (file, bytes, payload)
    }

    async fn next(payload: &mut Payload) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| payload.poll_chunk(cx)).await
    }

    #[tokio::test]
    async fn chunks_that_are_read_ahead_come_in_their_turn() {
        let (_file, bytes, mut payload) = whole_file(3 * BUFFER_BYTES + 7);
        let (mut sent, mut ahead) = (Vec::new(), 0);
        while let Some(chunk) = next(&mut payload).await {
            sent.extend_from_slice(&chunk.unwrap());
            assert_eq!(payload.unsent as usize, bytes.len() - sent.len());
            payload.read_ahead();
            ahead += usize::from(payload.reading.is_some());
        }
        assert!(sent == bytes);
        assert_eq!(ahead, 2, "all that fill a buffer but the first");
    }

    #[tokio::test]
    async fn what_was_read_ahead_of_a_change_is_sent_and_the_rest_is_not() {
        let (file, bytes, mut payload) = whole_file(4 * BUFFER_BYTES);
        let mut sent = next(&mut payload).await.unwrap().unwrap().to_vec();
        payload.read_ahead();
        while !payload.reading.as_ref().unwrap().is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // File times move in steps of a few milliseconds.
        tokio::time::sleep(Duration::from_millis(50)).await;
        OpenOptions::new().write(true).open(file.path()).unwrap().write_all(&vec![0; bytes.len()]).unwrap();
        sent.extend_from_slice(&next(&mut payload).await.unwrap().unwrap());
        assert!(sent.len() > BUFFER_BYTES && bytes.starts_with(&sent), "{} bytes", sent.len());
        payload.read_ahead();
        next(&mut payload).await.unwrap().unwrap_err();
        assert!(next(&mut payload).await.is_none());
    }
}
