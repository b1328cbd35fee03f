//! A source whose chunks are cached in a store.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use web_time::Instant;

use super::{CachedChunk, CheckedStore, StoreFileError};
use crate::{Bytes, Place, ReadFuture, Source, SourceError, check_bounds};

/// How many chunks stay in memory, so that neighbouring reads do not fetch the chunk between them twice. Few reads are
/// under way at a time, and each ends in a chunk that the next begins with.
const RECENT_CHUNKS: usize = 8;
/// How many chunks are committed together: flushing a file takes longer than writing a chunk.
const CHUNKS_PER_COMMIT: usize = 4;
/// How long a chunk waits at most for others to be committed with, on a slow line.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Progress is reported again after this many reads of the store.
const READS_BETWEEN_NEWS: u32 = 16;

/// News about the cache. Numbers are those of [`CachingSource::progress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreNews {
    /// The numbers have changed.
    Progress(StoreProgress),
    /// A cached chunk has changed since it was written; it is fetched again.
    Damaged {
        /// Index of the chunk.
        chunk: u32,
        /// What differs, in words.
        detail: String,
    },
    /// A chunk came from the network with another SHA-256 than its host publishes; it is fetched once more.
    WrongOnTheWay {
        /// Index of the chunk.
        chunk: u32,
    },
    /// Bytes that arrived made no sense, so everything that no published hash vouches for was dropped.
    Distrusted {
        /// How many chunks were dropped.
        chunks: u32,
    },
    /// Nothing more can be cached. Reported once; reading goes on.
    NotCached(StoreFileError),
}

/// How much of a file is cached, and where its bytes came from since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreProgress {
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Bytes of the file that are cached.
    pub stored_bytes: u64,
    /// Cached bytes that were there when the file was opened.
    pub resumed_bytes: u64,
    /// Chunks that the file has.
    pub chunks: u32,
    /// Chunks that are cached.
    pub stored_chunks: u32,
    /// Chunks whose SHA-256 matched the one that the host published, now or in an earlier visit.
    pub verified_chunks: u32,
    /// Bytes read from the network since the file was opened.
    pub network_bytes: u64,
    /// Bytes read from the cache since the file was opened.
    pub store_bytes: u64,
    /// Whether the host's hashes are known by now.
    pub hashes_known: bool,
}

/// Reads from a store what is there; fetches the rest from another source, chunk by chunk, and caches it.
///
/// A read is put together from chunks. A chunk that several reads wait for is fetched once. What the store cannot keep
/// is delivered all the same.
pub struct CachingSource {
    inner: Rc<dyn Source>,
    store: Rc<CheckedStore>,
    news: Box<dyn Fn(StoreNews)>,
    recent: RefCell<VecDeque<(u32, Bytes)>>,
    /// Chunks that are being fetched, each with the tasks that wait for it.
    flights: RefCell<BTreeMap<u32, Vec<Waker>>>,
    resumed_bytes: u64,
    network_bytes: Cell<u64>,
    store_bytes: Cell<u64>,
    reads_untold: Cell<u32>,
    committed: Cell<Instant>,
    /// Whether bytes that arrived made no sense.
    distrusted: Cell<bool>,
}

impl CachingSource {
    /// Caches `inner` in `store`, whose chunks must be those of `inner`'s length.
    pub fn new(inner: Rc<dyn Source>, store: Rc<CheckedStore>, news: impl Fn(StoreNews) + 'static) -> Self {
        Self {
            inner,
            resumed_bytes: store.totals().stored_bytes,
            store,
            news: Box::new(news),
            recent: RefCell::default(),
            flights: RefCell::default(),
            network_bytes: Cell::new(0),
            store_bytes: Cell::new(0),
            reads_untold: Cell::new(0),
            committed: Cell::new(Instant::now()),
            distrusted: Cell::new(false),
        }
    }

    /// The store that this source reads first.
    pub fn store(&self) -> &Rc<CheckedStore> {
        &self.store
    }

    /// Counters since the file was opened.
    pub fn progress(&self) -> StoreProgress {
        let totals = self.store.totals();
        StoreProgress {
            file_bytes: totals.file_bytes,
            stored_bytes: totals.stored_bytes,
            resumed_bytes: self.resumed_bytes,
            chunks: totals.chunks,
            stored_chunks: totals.stored_chunks,
            verified_chunks: totals.verified_chunks.max(self.store.checked_chunks()),
            network_bytes: self.network_bytes.get(),
            store_bytes: self.store_bytes.get(),
            hashes_known: self.store.has_hashes(),
        }
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, SourceError> {
        let chunks = self.store.chunks();
        check_bounds(self.inner.name(), offset_bytes, len_bytes, chunks.file_bytes())?;
        if len_bytes == 0 {
            return Ok(Bytes::from_vec(Vec::new()));
        }
        let holding = chunks.holding(offset_bytes, len_bytes);
        if !self.gains_by_whole_chunks() && !holding.clone().any(|chunk| self.store.holds(chunk)) {
            return self.fetch(offset_bytes, len_bytes).await;
        }
        let mut parts = Vec::new();
        for chunk in holding {
            let begin = chunks.offset_bytes(chunk);
            let from = offset_bytes.saturating_sub(begin);
            let to = (offset_bytes + len_bytes - begin).min(chunks.len_bytes(chunk));
            parts.push(self.part(chunk, from..to).await?);
        }
        Ok(Bytes::joined(parts))
    }

    /// Some bytes of a chunk. The store reads only these; the network brings the whole chunk.
    async fn part(&self, chunk: u32, part: Range<u64>) -> Result<Bytes, SourceError> {
        let of_all = |bytes: &Bytes| bytes.slice(part.start as usize..part.end as usize);
        if let Some(bytes) = self.recent(chunk) {
            return Ok(of_all(&bytes));
        }
        if let Some(bytes) = self.stored(chunk, part.clone()).await? {
            return Ok(bytes);
        }
        self.chunk(chunk).await.map(|bytes| of_all(&bytes))
    }

    /// Some bytes of a cached chunk, which are counted.
    async fn stored(&self, chunk: u32, part: Range<u64>) -> Result<Option<Bytes>, SourceError> {
        match self.store.read_part(chunk, part).await? {
            CachedChunk::Bytes(bytes) => {
                self.store_bytes.set(self.store_bytes.get() + bytes.len() as u64);
                self.reads_untold.set(self.reads_untold.get() + 1);
                if self.reads_untold.get() >= READS_BETWEEN_NEWS {
                    self.tell_progress();
                }
                return Ok(Some(bytes));
            }
            CachedChunk::Damaged(detail) => (self.news)(StoreNews::Damaged { chunk, detail }),
            CachedChunk::Absent => {}
        }
        Ok(None)
    }

    /// Whether fetching whole chunks helps: only if they can be cached or checked.
    fn gains_by_whole_chunks(&self) -> bool {
        self.store.is_writable() || self.store.has_hashes()
    }

    /// A whole chunk, from the store or the network.
    async fn chunk(&self, chunk: u32) -> Result<Bytes, SourceError> {
        loop {
            if let Some(bytes) = self.recent(chunk) {
                return Ok(bytes);
            }
            // The first to come fetches the chunk for all. If that fails or is given up, the next in line tries.
            match Flight::take_off(self, chunk) {
                Some(_flight) => {
                    let bytes = self.get(chunk).await?;
                    self.remember(chunk, &bytes);
                    return Ok(bytes);
                }
                None => self.landing(chunk).await,
            }
        }
    }

    async fn get(&self, chunk: u32) -> Result<Bytes, SourceError> {
        // An earlier flight may have cached the chunk.
        if let Some(bytes) = self.stored(chunk, 0..self.store.chunks().len_bytes(chunk)).await? {
            return Ok(bytes);
        }
        let (bytes, verified) = self.fetch_checked(chunk).await?;
        self.keep(chunk, &bytes, verified);
        Ok(bytes)
    }

    /// Fetches a chunk; also whether its SHA-256 is the published one. A wrong chunk is fetched once more.
    async fn fetch_checked(&self, chunk: u32) -> Result<(Bytes, bool), SourceError> {
        let chunks = self.store.chunks();
        let (offset_bytes, len_bytes) = (chunks.offset_bytes(chunk), chunks.len_bytes(chunk));
        for attempt in [1, 2] {
            let bytes = self.fetch(offset_bytes, len_bytes).await?;
            match self.store.matches(chunk, &bytes).await? {
                Some(false) if attempt == 1 => (self.news)(StoreNews::WrongOnTheWay { chunk }),
                Some(false) => break,
                matches => return Ok((bytes, matches.is_some())),
            }
        }
        Err(SourceError::WrongContents {
            name: self.inner.name().to_owned(),
            chunk,
            first: offset_bytes,
            last: offset_bytes + len_bytes - 1,
        })
    }

    async fn fetch(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, SourceError> {
        let bytes = self.inner.read(offset_bytes, len_bytes).await?;
        self.network_bytes.set(self.network_bytes.get() + bytes.len() as u64);
        Ok(bytes)
    }

    /// Hands a chunk to the store, which may be unable to take it.
    fn keep(&self, chunk: u32, bytes: &Bytes, verified: bool) {
        if self.distrusted.get() && !verified {
            return;
        }
        let mut done = self.store.put(chunk, bytes, verified);
        let due = self.store.pending() >= CHUNKS_PER_COMMIT || self.committed.get().elapsed() >= LONGEST_WAIT;
        // If no other chunk is under way, nothing may follow for a while.
        let alone = self.flights.borrow().len() <= 1;
        if done.is_ok() && (due || alone) {
            done = self.store.commit();
            self.committed.set(Instant::now());
            self.tell_progress();
        }
        if let Err(error) = done {
            if self.store.totals().stored_chunks == 0 {
                // The store holds nothing and takes nothing, so its files can go.
                self.store.close();
            }
            (self.news)(StoreNews::NotCached(error));
            self.tell_progress();
        }
    }

    fn tell_progress(&self) {
        self.reads_untold.set(0);
        (self.news)(StoreNews::Progress(self.progress()));
    }

    fn recent(&self, chunk: u32) -> Option<Bytes> {
        let recent = self.recent.borrow();
        recent.iter().find(|(known, _)| *known == chunk).map(|(_, bytes)| bytes.slice(0..bytes.len()))
    }

    fn remember(&self, chunk: u32, bytes: &Bytes) {
        let mut recent = self.recent.borrow_mut();
        if recent.len() == RECENT_CHUNKS {
            recent.pop_front();
        }
        recent.push_back((chunk, bytes.slice(0..bytes.len())));
    }

    /// Completes when nobody is fetching `chunk` any more.
    async fn landing(&self, chunk: u32) {
        poll_fn(|context| match self.flights.borrow_mut().get_mut(&chunk) {
            None => Poll::Ready(()),
            Some(waiting) => {
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await;
    }
}

impl Source for CachingSource {
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

    /// Requests to the network; reads of the store are not counted.
    fn requests(&self) -> u32 {
        self.inner.requests()
    }

    /// Bytes from the network; those from the store are not counted.
    fn wire_bytes(&self) -> Option<u64> {
        self.inner.wire_bytes()
    }

    fn place(&self, offset_bytes: u64) -> Place {
        self.inner.place(offset_bytes)
    }

    /// Nobody can say which bytes are good, so only chunks with a published hash stay cached, and only such chunks are
    /// cached from now on.
    fn distrust(&self, offset_bytes: u64) {
        self.inner.distrust(offset_bytes);
        self.recent.borrow_mut().clear();
        let before = self.store.totals().stored_chunks;
        self.store.forget_unverified();
        self.distrusted.set(true);
        (self.news)(StoreNews::Distrusted { chunks: before - self.store.totals().stored_chunks });
        self.tell_progress();
    }
}

/// The task of fetching a chunk. When dropped, whatever its outcome, it wakes those who wait.
struct Flight<'a> {
    source: &'a CachingSource,
    chunk: u32,
}

impl<'a> Flight<'a> {
    /// `None` if somebody is fetching this chunk already.
    fn take_off(source: &'a CachingSource, chunk: u32) -> Option<Self> {
        let mut flights = source.flights.borrow_mut();
        if flights.contains_key(&chunk) {
            return None;
        }
        flights.insert(chunk, Vec::new());
        Some(Self { source, chunk })
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let waiting = self.source.flights.borrow_mut().remove(&self.chunk);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}
