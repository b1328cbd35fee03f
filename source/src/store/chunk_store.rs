//! The cached chunks of one file: which there are, where they are, and whether they are unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::block_hashes::{BLOCKS, block_hashes};
use super::journal::{self, Header, HeaderFault, Journal, RECORD_BYTES, Record, RecordKind};
use super::{CachedFile, Chunks, StoreError, StoreFile, StoreFileError, StoreFiles};
use crate::Bytes;

/// Records that change nothing about which chunks are cached may wait for others, up to this many.
const MOST_PENDING_RECORDS: usize = 64;

/// A cached chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    slot: u32,
    /// Hashes of the chunk's blocks.
    hashes: [u64; BLOCKS],
    verified: bool,
}

/// The chunks of one file, stored in two files. Not shared: whoever opens it must make sure that nobody else does.
pub struct ChunkStore {
    files: StoreFiles,
    file: CachedFile,
    chunks: Chunks,
    held: BTreeMap<u32, Held>,
    /// Slots below `end_slot` that hold no chunk.
    free_slots: BTreeSet<u32>,
    end_slot: u32,
    seed: u64,
    header_bytes: u64,
    records: u64,
    /// Records to be written with the next commit, in this order.
    pending: Vec<Record>,
    /// Chunks that the next commit makes permanent.
    uncommitted: BTreeSet<u32>,
    /// Whether writing still works; a file that failed once is not written again.
    writable: bool,
}

/// What was found when a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Nothing was cached of this file.
    New,
    /// What was cached is still good: see [`ChunkStore::totals`].
    Resumed {
        /// Bytes of the journal that a crash left half written.
        torn_bytes: u64,
        /// Number of chunks that the journal names but the data file does not have.
        lost_chunks: u32,
    },
    /// The cache was of another version of the file and was discarded.
    Changed {
        /// What differs, in words.
        what: &'static str,
        /// Its value in the cache.
        cached: String,
        /// Its value now.
        now: String,
    },
    /// The cache was unreadable and was discarded.
    Unreadable,
}

/// The outcome of reading a chunk.
#[derive(Debug)]
pub enum ChunkRead {
    /// The chunk is not cached.
    Absent,
    /// The chunk is cached and unchanged.
    Bytes {
        /// The bytes that were asked for.
        bytes: Bytes,
        /// Whether the chunk's SHA-256 is known to be the one that the host published.
        verified: bool,
    },
    /// The chunk was cached but has changed, and has been dropped.
    Damaged(String),
}

/// Counters of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreTotals {
    /// Chunks that the file has.
    pub chunks: u32,
    /// Chunks that are cached.
    pub stored_chunks: u32,
    /// Cached chunks whose SHA-256 is the one that the host published.
    pub verified_chunks: u32,
    /// Bytes of the cached chunks.
    pub stored_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}

impl ChunkStore {
    /// Opens the cache of `file`, or starts a new one. A cache of another version of the file is discarded.
    ///
    /// # Errors
    /// [`StoreError::Version`] for files of another format, which are left alone; whatever keeps the files from being
    /// read or written.
    pub fn open(
        files: StoreFiles,
        file: &CachedFile,
        chunk_bytes: u64,
        now_ms: u64,
    ) -> Result<(Self, Opening), StoreError> {
        let header = Header { file: file.clone(), chunk_bytes, created_ms: now_ms };
        let chunks = chunks_of(&header)?;
        let journal = read_all(files.journal.as_ref())?;
        let opening = match journal::parse(&journal) {
            Ok(cached) => match difference(&cached.header, &header) {
                None => return Ok(Self::resume(files, chunks, cached, journal.len() as u64)?),
                Some(changed) => changed,
            },
            Err(HeaderFault::Version(got)) => return Err(StoreError::Version { url: file.url.clone(), got }),
            Err(HeaderFault::Unreadable) if journal.is_empty() => Opening::New,
            Err(HeaderFault::Unreadable) => Opening::Unreadable,
        };
        Ok((Self::begin(files, chunks, header)?, opening))
    }

    /// Opens a cache of whatever file it is of; `None` if that is unreadable.
    pub fn open_as_cached(files: StoreFiles) -> Result<Option<Self>, StoreError> {
        let journal = read_all(files.journal.as_ref())?;
        match journal::parse(&journal) {
            Ok(cached) => {
                let chunks = chunks_of(&cached.header)?;
                Ok(Some(Self::resume(files, chunks, cached, journal.len() as u64)?.0))
            }
            Err(_) => Ok(None),
        }
    }

    /// Empties both files, the journal first: without it the data mean nothing.
    fn begin(files: StoreFiles, chunks: Chunks, header: Header) -> Result<Self, StoreFileError> {
        files.journal.truncate(0)?;
        files.journal.flush()?;
        files.data.truncate(0)?;
        let (bytes, seed) = header.encode();
        let header_bytes = bytes.len() as u64;
        files.journal.write_at(0, &Bytes::from_vec(bytes))?;
        files.journal.flush()?;
        Ok(Self {
            files,
            file: header.file,
            chunks,
            held: BTreeMap::new(),
            free_slots: BTreeSet::new(),
            end_slot: 0,
            seed,
            header_bytes,
            records: 0,
            pending: Vec::new(),
            uncommitted: BTreeSet::new(),
            writable: true,
        })
    }

    fn resume(
        files: StoreFiles,
        chunks: Chunks,
        journal: Journal,
        journal_bytes: u64,
    ) -> Result<(Self, Opening), StoreFileError> {
        let Journal { header, seed, records, valid_bytes } = journal;
        let mut held = replay(&chunks, &records);
        let data_bytes = files.data.len_bytes()?;
        let named = held.len();
        held.retain(|&chunk, held| slot_end(&chunks, chunk, held.slot) <= data_bytes);
        let lost_chunks = (named - held.len()) as u32;
        // Space that was written but never recorded is given back.
        let used_bytes = held.iter().map(|(&chunk, held)| slot_end(&chunks, chunk, held.slot)).max().unwrap_or(0);
        if used_bytes < data_bytes {
            files.data.truncate(used_bytes)?;
        }
        let torn_bytes = journal_bytes - valid_bytes;
        if torn_bytes > 0 {
            files.journal.truncate(valid_bytes)?;
            files.journal.flush()?;
        }
        let used: BTreeSet<u32> = held.values().map(|held| held.slot).collect();
        let end_slot = used.last().map_or(0, |last| last + 1);
        let store = Self {
            files,
            file: header.file,
            chunks,
            free_slots: (0..end_slot).filter(|slot| !used.contains(slot)).collect(),
            held,
            end_slot,
            seed,
            header_bytes: valid_bytes - records.len() as u64 * RECORD_BYTES,
            records: records.len() as u64,
            pending: Vec::new(),
            uncommitted: BTreeSet::new(),
            writable: true,
        };
        Ok((store, Opening::Resumed { torn_bytes, lost_chunks }))
    }

    /// The file that this is a cache of.
    pub fn file(&self) -> &CachedFile {
        &self.file
    }

    /// How the file is cut.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// Whether a chunk is cached, committed or not.
    pub fn holds(&self, chunk: u32) -> bool {
        self.held.contains_key(&chunk)
    }

    /// Whether the journal says that the SHA-256 of a chunk is the one that the host published.
    pub fn is_verified(&self, chunk: u32) -> bool {
        self.held.get(&chunk).is_some_and(|held| held.verified)
    }

    /// Indices of the cached chunks, in ascending order.
    pub fn held(&self) -> Vec<u32> {
        self.held.keys().copied().collect()
    }

    /// Whether chunks can be written. False after a failed write; cached chunks can still be read.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Number of records that wait for [`ChunkStore::commit`].
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Counts the cached chunks and their bytes.
    pub fn totals(&self) -> StoreTotals {
        StoreTotals {
            chunks: self.chunks.count(),
            stored_chunks: self.held.len() as u32,
            verified_chunks: self.held.values().filter(|held| held.verified).count() as u32,
            stored_bytes: self.held.keys().map(|&chunk| self.chunks.len_bytes(chunk)).sum(),
            file_bytes: self.chunks.file_bytes(),
        }
    }

    /// Reads some bytes of a chunk, if it is cached and its blocks still have their hashes; otherwise the chunk is
    /// dropped. Only whole blocks are read from the file.
    ///
    /// # Panics
    /// If `part` does not lie inside the chunk.
    pub fn read(&mut self, chunk: u32, part: Range<u64>) -> ChunkRead {
        let Some(&Held { slot, hashes, verified }) = self.held.get(&chunk) else { return ChunkRead::Absent };
        let (block_bytes, len_bytes) = (self.chunks.block_bytes(), self.chunks.len_bytes(chunk));
        assert!(
            part.start <= part.end && part.end <= len_bytes,
            "{part:?} of chunk {chunk}, which has {len_bytes} bytes"
        );
        let first = part.start / block_bytes;
        let begin = first * block_bytes;
        let end = part.end.next_multiple_of(block_bytes).min(len_bytes);
        let read = self.files.data.read_at(self.slot_offset(slot) + begin, end - begin);
        let detail = match read {
            Ok(bytes) if hashes[first as usize..].starts_with(&block_hashes(&bytes, block_bytes)) => {
                let bytes = bytes.slice((part.start - begin) as usize..(part.end - begin) as usize);
                return ChunkRead::Bytes { bytes, verified };
            }
            Ok(_) => "its bytes are not those that were written".to_owned(),
            Err(error) => error.to_string(),
        };
        self.forget(chunk);
        ChunkRead::Damaged(detail)
    }

    /// Writes a chunk's bytes; [`ChunkStore::commit`] makes them permanent. Does nothing if the chunk is cached, or
    /// after a failure.
    ///
    /// # Errors
    /// What the file said. Nothing more is written then; what was there before stays.
    ///
    /// # Panics
    /// If `bytes` is not as long as the chunk.
    pub fn put(&mut self, chunk: u32, bytes: &Bytes, verified: bool) -> Result<(), StoreFileError> {
        if !self.writable || self.holds(chunk) {
            return Ok(());
        }
        assert_eq!(bytes.len() as u64, self.chunks.len_bytes(chunk), "bytes of chunk {chunk}");
        let slot = self.free_slots.first().copied().unwrap_or(self.end_slot);
        if let Err(error) = self.files.data.write_at(self.slot_offset(slot), bytes) {
            self.end_writing();
            return Err(error);
        }
        if !self.free_slots.remove(&slot) {
            self.end_slot += 1;
        }
        let mut hashes = [0; BLOCKS];
        for (place, hash) in hashes.iter_mut().zip(block_hashes(bytes, self.chunks.block_bytes())) {
            *place = hash;
        }
        let held = Held { slot, hashes, verified };
        self.held.insert(chunk, held);
        self.uncommitted.insert(chunk);
        self.pending.push(self.record(chunk, held));
        Ok(())
    }

    /// Records that the SHA-256 of a cached chunk is the one that the host published; written with the next commit.
    pub fn mark_verified(&mut self, chunk: u32) {
        let Some(held) = self.held.get_mut(&chunk).filter(|held| !held.verified) else { return };
        held.verified = true;
        let held = *held;
        self.pending.push(self.record(chunk, held));
        if self.pending.len() >= MOST_PENDING_RECORDS {
            // Whether the record was written makes no difference to what is read.
            let _ = self.commit();
        }
    }

    /// Drops a chunk immediately and permanently.
    pub fn forget(&mut self, chunk: u32) {
        let Some(held) = self.held.remove(&chunk) else { return };
        self.pending.retain(|record| record.chunk != chunk);
        if self.uncommitted.remove(&chunk) {
            self.free_slots.insert(held.slot);
            return;
        }
        self.pending.push(Record { kind: RecordKind::Forgotten, ..self.record(chunk, held) });
        // The slot is reused only after the journal says that it is free.
        if self.commit().is_ok() && self.writable {
            self.free_slots.insert(held.slot);
        }
    }

    /// Drops every chunk whose SHA-256 was never compared with a published one, immediately and permanently, and gives
    /// back the space at the end.
    pub fn forget_unverified(&mut self) {
        let unverified: Vec<u32> =
            self.held.iter().filter(|(_, held)| !held.verified).map(|(&chunk, _)| chunk).collect();
        let mut on_record = Vec::new();
        for chunk in unverified {
            let Some(held) = self.held.remove(&chunk) else { continue };
            self.pending.retain(|record| record.chunk != chunk);
            if self.uncommitted.remove(&chunk) {
                self.free_slots.insert(held.slot);
            } else {
                self.pending.push(Record { kind: RecordKind::Forgotten, ..self.record(chunk, held) });
                on_record.push(held.slot);
            }
        }
        // The order is that of `forget`: the journal first, then the slots.
        if self.commit().is_ok() && self.writable {
            self.free_slots.extend(on_record);
        }
        // This helps even if the journal can no longer be written: a chunk that the data file does not have is not
        // cached.
        if self.files.data.truncate(self.used_bytes()).is_ok() {
            self.end_slot = self.held.values().map(|held| held.slot + 1).max().unwrap_or(0);
            self.free_slots.retain(|&slot| slot < self.end_slot);
        }
    }

    /// Where the last chunk in the data file ends.
    fn used_bytes(&self) -> u64 {
        self.held.iter().map(|(&chunk, held)| slot_end(&self.chunks, chunk, held.slot)).max().unwrap_or(0)
    }

    /// Makes everything that was put so far permanent: bytes first, then the records that name them.
    ///
    /// # Errors
    /// What the file said. What was not committed before is held no more, and nothing more is written.
    pub fn commit(&mut self) -> Result<(), StoreFileError> {
        if !self.writable || self.pending.is_empty() {
            return Ok(());
        }
        let written = self.write_pending();
        if written.is_err() {
            self.give_up();
        }
        written
    }

    fn write_pending(&mut self) -> Result<(), StoreFileError> {
        if !self.uncommitted.is_empty() {
            self.files.data.flush()?;
        }
        let numbers = self.records..;
        let lines: Vec<u8> =
            numbers.zip(&self.pending).flat_map(|(number, record)| record.encode(self.seed, number)).collect();
        let end = self.header_bytes + self.records * RECORD_BYTES;
        self.files.journal.write_at(end, &Bytes::from_vec(lines))?;
        self.files.journal.flush()?;
        self.records += self.pending.len() as u64;
        self.pending.clear();
        self.uncommitted.clear();
        Ok(())
    }

    /// Drops everything that is not on record.
    fn give_up(&mut self) {
        self.writable = false;
        self.pending.clear();
        for chunk in std::mem::take(&mut self.uncommitted) {
            self.held.remove(&chunk);
        }
    }

    /// Cleans up after a chunk could not be written: gives back its half, so that earlier chunks may still be cached.
    fn end_writing(&mut self) {
        // The caller learns of the underlying trouble in any case.
        let _ = self.files.data.truncate(self.used_bytes());
        let _ = self.commit();
        self.writable = false;
    }

    fn record(&self, chunk: u32, held: Held) -> Record {
        let kind = if held.verified { RecordKind::Verified } else { RecordKind::Kept };
        Record { chunk, slot: held.slot, len_bytes: self.chunks.len_bytes(chunk) as u32, kind, hashes: held.hashes }
    }

    fn slot_offset(&self, slot: u32) -> u64 {
        u64::from(slot) * self.chunks.chunk_bytes()
    }
}

impl Drop for ChunkStore {
    fn drop(&mut self) {
        // Nobody is left to report to.
        let _ = self.commit();
    }
}

/// The cached chunks that the records amount to. A slot belongs to the last record that names it.
fn replay(chunks: &Chunks, records: &[Record]) -> BTreeMap<u32, Held> {
    let mut held: BTreeMap<u32, Held> = BTreeMap::new();
    let mut owners: BTreeMap<u32, u32> = BTreeMap::new();
    for record in records {
        if let Some(before) = held.remove(&record.chunk) {
            owners.remove(&before.slot);
        }
        let makes_sense =
            record.chunk < chunks.count() && u64::from(record.len_bytes) == chunks.len_bytes(record.chunk);
        if record.kind == RecordKind::Forgotten || !makes_sense {
            continue;
        }
        if let Some(owner) = owners.insert(record.slot, record.chunk) {
            held.remove(&owner);
        }
        let verified = record.kind == RecordKind::Verified;
        held.insert(record.chunk, Held { slot: record.slot, hashes: record.hashes, verified });
    }
    held
}

/// Where a chunk's bytes end in the data file.
fn slot_end(chunks: &Chunks, chunk: u32, slot: u32) -> u64 {
    u64::from(slot) * chunks.chunk_bytes() + chunks.len_bytes(chunk)
}

fn chunks_of(header: &Header) -> Result<Chunks, StoreError> {
    let CachedFile { url, len_bytes, .. } = &header.file;
    Chunks::new(*len_bytes, header.chunk_bytes)
        .filter(|_| Header::fits(&header.file) && u32::try_from(header.chunk_bytes).is_ok())
        .ok_or_else(|| StoreError::TooLong { url: url.clone(), len_bytes: *len_bytes })
}

fn read_all(file: &dyn StoreFile) -> Result<Vec<u8>, StoreFileError> {
    let bytes = file.read_at(0, file.len_bytes()?)?;
    Ok(bytes.to_vec(0..bytes.len()))
}

/// What tells a cached file from the wanted one, if they differ.
fn difference(cached: &Header, wanted: &Header) -> Option<Opening> {
    let changed = |what, cached: &dyn ToString, now: &dyn ToString| {
        Some(Opening::Changed { what, cached: cached.to_string(), now: now.to_string() })
    };
    if cached.file.url != wanted.file.url {
        return changed("its address", &cached.file.url, &wanted.file.url);
    }
    if cached.file.len_bytes != wanted.file.len_bytes {
        return changed("its length in bytes", &cached.file.len_bytes, &wanted.file.len_bytes);
    }
    if cached.file.etag != wanted.file.etag {
        return changed("its ETag", &cached.file.etag, &wanted.file.etag);
    }
    if cached.chunk_bytes != wanted.chunk_bytes {
        return changed("the size of its chunks", &cached.chunk_bytes, &wanted.chunk_bytes);
    }
    None
}
