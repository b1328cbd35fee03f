//! The journal's format: a header that says what is cached, and records of equal length, each with a checksum.
//! Little-endian.
//!
//! | header | | record | |
//! |---|---|---|---|
//! | 0 | `gptossck` | 0 | chunk, u32 |
//! | 8 | format version, u32 | 4 | slot in the data file, u32 |
//! | 12 | length of this header, u32 | 8 | bytes of the chunk, u32 |
//! | 16 | bytes in a chunk, u64 | 12 | kind, u32 |
//! | 24 | bytes in the file, u64 | 16 | XXH3-64 of each sixteenth of a chunk's bytes, u64; 0 beyond the last |
//! | 32 | milliseconds since 1970, u64 | 144 | XXH3-64 of the above, u64 |
//! | 40 | lengths of URL and ETag, u32 each | | |
//! | 48 | URL, ETag; XXH3-64 of all above | | |
//!
//! A record's checksum is seeded with the header's and with the record's number, so that one of an earlier file, or one
//! that ended up in another place, is none.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::block_hashes::BLOCKS;
use super::{CachedFile, Chunks};

/// Version of the format, raised when it changes. Files of another version are left alone.
pub const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"gptossck";
const FIXED_BYTES: usize = 48;
const CHECKSUM_BYTES: usize = 8;
/// Limit for a header: more than any URL with its ETag.
const MOST_HEADER_BYTES: usize = 64 << 10;
pub(super) const RECORD_BYTES: u64 = (RECORD_CHECKSUM_AT + CHECKSUM_BYTES) as u64;
const HASHES_AT: usize = 16;
const RECORD_CHECKSUM_AT: usize = HASHES_AT + BLOCKS * 8;

/// What is cached, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub file: CachedFile,
    pub chunk_bytes: u64,
    pub created_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Kept,
    /// The chunk is cached, and its SHA-256 is the one that the host published.
    Verified,
    /// Earlier records about this chunk no longer hold.
    Forgotten,
}

/// One record of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub chunk: u32,
    pub slot: u32,
    pub len_bytes: u32,
    pub kind: RecordKind,
    pub hashes: [u64; BLOCKS],
}

/// Why a journal has no usable header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// The journal is empty, cut or damaged.
    Unreadable,
    Version(u32),
}

/// A journal, read up to its first invalid record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Journal {
    pub header: Header,
    pub seed: u64,
    pub records: Vec<Record>,
    /// Bytes of header and valid records. What follows is a torn tail.
    pub valid_bytes: u64,
}

impl Header {
    /// The header's bytes, and the seed of the records that belong to it.
    pub fn encode(&self) -> (Vec<u8>, u64) {
        let CachedFile { url, len_bytes, etag } = &self.file;
        let header_bytes = FIXED_BYTES + url.len() + etag.len() + CHECKSUM_BYTES;
        let mut bytes = Vec::with_capacity(header_bytes);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend((header_bytes as u32).to_le_bytes());
        bytes.extend(self.chunk_bytes.to_le_bytes());
        bytes.extend(len_bytes.to_le_bytes());
        bytes.extend(self.created_ms.to_le_bytes());
        bytes.extend((url.len() as u32).to_le_bytes());
        bytes.extend((etag.len() as u32).to_le_bytes());
        bytes.extend(url.as_bytes());
        bytes.extend(etag.as_bytes());
        let seed = xxh3_64(&bytes);
        bytes.extend(seed.to_le_bytes());
        (bytes, seed)
    }

    /// Whether a header of this file can be written and read back.
    pub fn fits(file: &CachedFile) -> bool {
        FIXED_BYTES + file.url.len() + file.etag.len() + CHECKSUM_BYTES <= MOST_HEADER_BYTES
    }

    /// Reads a header, with its length and the seed of its records.
    fn decode(bytes: &[u8]) -> Result<(Self, usize, u64), HeaderFault> {
        let unreadable = HeaderFault::Unreadable;
        if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err(unreadable);
        }
        let version = u32_at(bytes, 8).ok_or(unreadable.clone())?;
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        Self::decode_fields(bytes).ok_or(unreadable)
    }

    fn decode_fields(bytes: &[u8]) -> Option<(Self, usize, u64)> {
        let header_bytes = u32_at(bytes, 12)? as usize;
        let checked = bytes.get(..header_bytes.checked_sub(CHECKSUM_BYTES)?)?;
        let seed = u64_at(bytes, checked.len())?;
        if header_bytes > MOST_HEADER_BYTES || xxh3_64(checked) != seed {
            return None;
        }
        let (url_bytes, etag_bytes) = (u32_at(checked, 40)? as usize, u32_at(checked, 44)? as usize);
        let (url, etag) = checked.get(FIXED_BYTES..)?.split_at_checked(url_bytes)?;
        if etag.len() != etag_bytes {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let file = CachedFile { url: text(url)?, len_bytes: u64_at(checked, 24)?, etag: text(etag)? };
        let header = Self { file, chunk_bytes: u64_at(checked, 16)?, created_ms: u64_at(checked, 32)? };
        Some((header, header_bytes, seed))
    }
}

impl Record {
    pub fn encode(&self, seed: u64, number: u64) -> [u8; RECORD_BYTES as usize] {
        let kind: u32 = match self.kind {
            RecordKind::Kept => 0,
            RecordKind::Verified => 1,
            RecordKind::Forgotten => 2,
        };
        let mut bytes = [0; RECORD_BYTES as usize];
        for (at, value) in [(0, self.chunk), (4, self.slot), (8, self.len_bytes), (12, kind)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let (checked, checksum) = bytes.split_at_mut(RECORD_CHECKSUM_AT);
        for (hash, place) in self.hashes.iter().zip(checked[HASHES_AT..].chunks_exact_mut(8)) {
            place.copy_from_slice(&hash.to_le_bytes());
        }
        checksum.copy_from_slice(&xxh3_64_with_seed(checked, record_seed(seed, number)).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], seed: u64, number: u64) -> Option<Self> {
        let checked = bytes.get(..RECORD_CHECKSUM_AT)?;
        if u64_at(bytes, RECORD_CHECKSUM_AT)? != xxh3_64_with_seed(checked, record_seed(seed, number)) {
            return None;
        }
        let kind = match u32_at(bytes, 12)? {
            0 => RecordKind::Kept,
            1 => RecordKind::Verified,
            2 => RecordKind::Forgotten,
            _ => return None,
        };
        let (chunk, slot, len_bytes) = (u32_at(bytes, 0)?, u32_at(bytes, 4)?, u32_at(bytes, 8)?);
        let mut hashes = [0; BLOCKS];
        for (block, hash) in hashes.iter_mut().enumerate() {
            *hash = u64_at(checked, HASHES_AT + block * 8)?;
        }
        Some(Self { chunk, slot, len_bytes, kind, hashes })
    }
}

fn record_seed(seed: u64, number: u64) -> u64 {
    seed.wrapping_add(number)
}

/// Reads a journal. Everything after the first invalid record is ignored.
pub(super) fn parse(bytes: &[u8]) -> Result<Journal, HeaderFault> {
    let (header, header_bytes, seed) = Header::decode(bytes)?;
    let lines = bytes[header_bytes..].chunks_exact(RECORD_BYTES as usize).enumerate();
    let records: Vec<Record> = lines.map_while(|(number, line)| Record::decode(line, seed, number as u64)).collect();
    let valid_bytes = header_bytes as u64 + records.len() as u64 * RECORD_BYTES;
    Ok(Journal { header, seed, records, valid_bytes })
}

/// Summary of a journal, without opening its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSummary {
    /// The file that is cached.
    pub file: CachedFile,
    /// Chunks that the file has.
    pub chunks: u32,
    /// Chunks that are cached.
    pub stored_chunks: u32,
    /// Cached chunks whose SHA-256 is the one that the host published.
    pub verified_chunks: u32,
    /// Bytes of the cached chunks.
    pub stored_bytes: u64,
    /// When the cache was begun, in milliseconds since 1970.
    pub created_ms: u64,
}

/// Sums a journal up; `None` if this version cannot read it.
pub fn summarise(journal: &[u8]) -> Option<JournalSummary> {
    let Journal { header, records, .. } = parse(journal).ok()?;
    let chunks = Chunks::new(header.file.len_bytes, header.chunk_bytes)?;
    let mut held = std::collections::BTreeMap::new();
    for record in records {
        match record.kind {
            RecordKind::Kept | RecordKind::Verified => held.insert(record.chunk, record),
            RecordKind::Forgotten => held.remove(&record.chunk),
        };
    }
    let verified = held.values().filter(|record| record.kind == RecordKind::Verified).count();
    Some(JournalSummary {
        chunks: chunks.count(),
        stored_chunks: held.len() as u32,
        verified_chunks: verified as u32,
        stored_bytes: held.values().map(|record| u64::from(record.len_bytes)).sum(),
        created_ms: header.created_ms,
        file: header.file,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let file = CachedFile { url: "https://h/m.gguf".into(), len_bytes: 10_000, etag: "\"é\"".into() };
        Header { file, chunk_bytes: 4096, created_ms: 1_700_000_000_000 }
    }

    fn record(chunk: u32, kind: RecordKind) -> Record {
        let hashes = std::array::from_fn(|block| u64::MAX - u64::from(chunk) * 100 - block as u64);
        Record { chunk, slot: 7 + chunk, len_bytes: 4096, kind, hashes }
    }

    fn journal() -> (Vec<u8>, Vec<Record>) {
        let records = [RecordKind::Kept, RecordKind::Verified, RecordKind::Forgotten];
        let records: Vec<Record> = records.into_iter().enumerate().map(|(at, kind)| record(at as u32, kind)).collect();
        let (mut bytes, seed) = header().encode();
        for (number, record) in records.iter().enumerate() {
            bytes.extend(record.encode(seed, number as u64));
        }
        (bytes, records)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, records) = journal();
        let read = parse(&bytes).expect("valid");
        assert_eq!((read.header, read.records, read.valid_bytes), (header(), records, bytes.len() as u64));
    }

    #[test]
    fn a_cut_anywhere_leaves_whole_records_before_it() {
        let (bytes, records) = journal();
        let header_bytes = header().encode().0.len();
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut]) {
                Err(HeaderFault::Unreadable) => assert!(cut < header_bytes, "{cut}"),
                Err(fault) => panic!("{cut}: {fault:?}"),
                Ok(read) => {
                    let whole = (cut - header_bytes) / RECORD_BYTES as usize;
                    assert_eq!(read.records, records[..whole], "{cut}");
                    assert_eq!(read.valid_bytes, (header_bytes + whole * RECORD_BYTES as usize) as u64);
                }
            }
        }
    }

    #[test]
    fn any_other_byte_is_noticed() {
        let (bytes, records) = journal();
        let header_bytes = header().encode().0.len();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            match parse(&damaged) {
                Err(HeaderFault::Version(_)) => assert!((8..12).contains(&at), "{at}"),
                Err(HeaderFault::Unreadable) => assert!(at < header_bytes, "{at}"),
                Ok(read) => {
                    assert_eq!(read.records, records[..(at - header_bytes) / RECORD_BYTES as usize], "{at}");
                }
            }
        }
    }

    #[test]
    fn records_of_another_file_or_place_do_not_count() {
        let (bytes, records) = journal();
        let (other, seed) = Header { created_ms: 1, ..header() }.encode();
        let header_bytes = header().encode().0.len();
        assert_eq!(parse(&[&other, &bytes[header_bytes..]].concat()).expect("a header").records, []);
        let swapped = [&other[..], &records[0].encode(seed, 1), &records[1].encode(seed, 0)].concat();
        assert_eq!(parse(&swapped).expect("a header").records, []);
    }

    #[test]
    fn a_summary_counts_what_is_held() {
        let (bytes, _) = journal();
        let summary = summarise(&bytes).expect("valid");
        assert_eq!((summary.chunks, summary.stored_chunks, summary.verified_chunks), (3, 2, 1));
        assert_eq!((summary.stored_bytes, summary.file), (2 * 4096, header().file));
        assert_eq!(summarise(&bytes[..20]), None);
        assert_eq!(summarise(&[]), None);
    }
}
