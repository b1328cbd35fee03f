//! The store on a disk that goes wrong, and a source before and behind it.

mod crashes;
mod reading;

use std::ops::Range;

use super::faulty_files::{DATA, Disk, JOURNAL};
use super::*;

const CHUNK: u64 = 8;
/// Five chunks and a short one.
const FILE_BYTES: u64 = 5 * CHUNK + 3;
const CHUNKS: u32 = 6;

fn cached_file() -> CachedFile {
    CachedFile { url: "http://h/m.gguf".into(), len_bytes: FILE_BYTES, etag: "\"one\"".into() }
}

fn open(disk: &Disk) -> (ChunkStore, Opening) {
    open_as(disk, &cached_file())
}

fn open_as(disk: &Disk, file: &CachedFile) -> (ChunkStore, Opening) {
    ChunkStore::open(disk.files(), file, CHUNK, 1234).expect("it opens")
}

/// The whole file; no two chunks are alike.
fn file_bytes() -> Vec<u8> {
    (0..FILE_BYTES).map(|index| (index * 7 + index / CHUNK) as u8).collect()
}

fn chunk_bytes(chunk: u32) -> Bytes {
    let from = (u64::from(chunk) * CHUNK) as usize;
    Bytes::from_vec(file_bytes()[from..(from + CHUNK as usize).min(FILE_BYTES as usize)].to_vec())
}

/// All bytes of a chunk.
fn whole(chunk: u32) -> Range<u64> {
    0..chunk_bytes(chunk).len() as u64
}

fn put_all(store: &mut ChunkStore, chunks: &[u32]) {
    for &chunk in chunks {
        store.put(chunk, &chunk_bytes(chunk), false).expect("there is room");
    }
    store.commit().expect("there is room");
}

/// Reads everything that is held and compares it with the file.
#[track_caller]
fn assert_right(store: &mut ChunkStore, held: &[u32]) {
    assert_eq!(store.held(), held);
    for chunk in 0..CHUNKS {
        match store.read(chunk, whole(chunk)) {
            ChunkRead::Bytes { bytes, .. } => assert_eq!(bytes.as_slice(), chunk_bytes(chunk).as_slice(), "{chunk}"),
            ChunkRead::Absent => assert!(!held.contains(&chunk), "{chunk} is absent"),
            ChunkRead::Damaged(detail) => panic!("{chunk}: {detail}"),
        }
    }
}

#[test]
fn chunks_come_in_any_order_and_take_no_more_room_than_they_have() {
    let disk = Disk::default();
    let (mut store, opening) = open(&disk);
    assert_eq!(opening, Opening::New);
    put_all(&mut store, &[5, 2, 0]);
    assert_right(&mut store, &[0, 2, 5]);
    let totals = store.totals();
    assert_eq!((totals.stored_chunks, totals.chunks), (3, CHUNKS));
    assert_eq!((totals.stored_bytes, totals.file_bytes), (2 * CHUNK + 3, FILE_BYTES));
    assert_eq!(disk.bytes(DATA).len() as u64, 3 * CHUNK, "in the order in which they came, without holes");
    drop(store);
    let (mut store, opening) = open(&disk);
    assert_eq!(opening, Opening::Resumed { torn_bytes: 0, lost_chunks: 0 });
    assert_right(&mut store, &[0, 2, 5]);
    put_all(&mut store, &[1, 3, 4]);
    assert_right(&mut store, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(disk.bytes(DATA).len() as u64, 6 * CHUNK);
}

#[test]
fn what_was_not_committed_is_committed_when_it_is_closed() {
    let disk = Disk::default();
    let (mut store, _) = open(&disk);
    store.put(3, &chunk_bytes(3), true).expect("room");
    assert_right(&mut store, &[3]);
    assert_eq!(store.pending(), 1);
    drop(store);
    let (store, _) = open(&disk);
    assert_eq!((store.held(), store.totals().verified_chunks), (vec![3], 1));
}

#[test]
fn what_nobody_vouches_for_can_be_let_go_of_at_once() {
    let disk = Disk::default();
    let (mut store, _) = open(&disk);
    store.put(4, &chunk_bytes(4), true).expect("room");
    put_all(&mut store, &[0, 5, 2]);
    store.mark_verified(5);
    // This chunk is not committed yet.
    store.put(1, &chunk_bytes(1), false).expect("room");
    store.forget_unverified();
    assert_right(&mut store, &[4, 5]);
    assert_eq!(disk.bytes(DATA).len() as u64, 2 * CHUNK + 3, "what lay behind them is given back");
    put_all(&mut store, &[3, 1]);
    assert_right(&mut store, &[1, 3, 4, 5]);
    drop(store);
    let (mut store, opening) = open(&disk);
    assert_eq!(opening, Opening::Resumed { torn_bytes: 0, lost_chunks: 0 });
    assert_right(&mut store, &[1, 3, 4, 5]);
    store.forget_unverified();
    drop(store);
    assert_right(&mut open(&disk).0, &[4, 5]);
}

#[test]
fn a_full_disk_keeps_nothing_that_was_let_go_of() {
    let disk = Disk::default();
    let (mut store, _) = open(&disk);
    put_all(&mut store, &[0, 1, 2]);
    disk.set_room(Some(0));
    store.put(3, &chunk_bytes(3), false).expect_err("no room");
    store.forget_unverified();
    assert_right(&mut store, &[]);
    drop(store);
    assert_right(&mut open(&disk).0, &[]);
}

#[test]
fn another_version_of_the_file_makes_a_new_store() {
    let one = cached_file();
    let longer = CachedFile { len_bytes: FILE_BYTES + 1, ..one.clone() };
    let changed = CachedFile { etag: "\"two\"".into(), ..one.clone() };
    let elsewhere = CachedFile { url: "http://h/n.gguf".into(), ..one.clone() };
    for (file, what, cached, now) in [
        (longer, "its length in bytes", "43", "44"),
        (changed, "its ETag", "\"one\"", "\"two\""),
        (elsewhere, "its address", "http://h/m.gguf", "http://h/n.gguf"),
    ] {
        let disk = Disk::default();
        put_all(&mut open(&disk).0, &[0, 1]);
        let (mut store, opening) = open_as(&disk, &file);
        assert_eq!(opening, Opening::Changed { what, cached: cached.into(), now: now.into() });
        assert_eq!((store.held(), disk.bytes(DATA).len()), (vec![], 0));
        put_all(&mut store, &[4]);
        drop(store);
        assert_eq!(open_as(&disk, &file).0.held(), [4]);
    }
    let disk = Disk::default();
    put_all(&mut open(&disk).0, &[0]);
    let opening = ChunkStore::open(disk.files(), &one, 2 * CHUNK, 0).expect("opens").1;
    assert!(matches!(opening, Opening::Changed { what: "the size of its chunks", .. }), "{opening:?}");
}

#[test]
fn another_format_is_left_alone() {
    let disk = Disk::default();
    put_all(&mut open(&disk).0, &[0, 1]);
    let mut journal = disk.bytes(JOURNAL);
    journal[8] = 3;
    disk.overwrite(JOURNAL, journal.clone());
    let error = ChunkStore::open(disk.files(), &cached_file(), CHUNK, 0).err().expect("another format");
    assert_eq!(error, StoreError::Version { url: "http://h/m.gguf".into(), got: 3 });
    assert!(error.to_string().contains("format 3, this page reads format 2"), "{error}");
    assert_eq!((disk.bytes(JOURNAL), disk.bytes(DATA).len() as u64), (journal, 2 * CHUNK));
}

#[test]
fn rubbish_is_told_from_an_empty_store() {
    let disk = Disk::default();
    disk.overwrite(JOURNAL, b"something else altogether, longer than a header has to be".to_vec());
    disk.overwrite(DATA, vec![1; 100]);
    let (mut store, opening) = open(&disk);
    assert_eq!((opening, disk.bytes(DATA).len()), (Opening::Unreadable, 0));
    put_all(&mut store, &[2]);
    drop(store);
    assert_right(&mut open(&disk).0, &[2]);
}

/// A record behind a torn one does not come back once the torn one is written over.
#[test]
fn a_torn_tail_is_gone_for_good() {
    let disk = Disk::default();
    put_all(&mut open(&disk).0, &[0, 1, 2]);
    let mut journal = disk.bytes(JOURNAL);
    let second = journal.len() - 2 * journal::RECORD_BYTES as usize;
    journal[second] ^= 1;
    disk.overwrite(JOURNAL, journal);
    let (mut store, opening) = open(&disk);
    assert_eq!(opening, Opening::Resumed { torn_bytes: 2 * journal::RECORD_BYTES, lost_chunks: 0 });
    put_all(&mut store, &[5]);
    drop(store);
    let (mut store, opening) = open(&disk);
    assert_eq!(opening, Opening::Resumed { torn_bytes: 0, lost_chunks: 0 });
    assert_right(&mut store, &[0, 5]);
}

#[test]
fn lengths_that_no_journal_holds_are_refused() {
    for (len_bytes, chunk_bytes) in [(u64::MAX, 4 << 20), (5, 0), (5, 1 << 33)] {
        let file = CachedFile { len_bytes, ..cached_file() };
        let error = ChunkStore::open(Disk::default().files(), &file, chunk_bytes, 0).err().expect("refused");
        assert!(matches!(error, StoreError::TooLong { .. }), "{error}");
    }
}

/// Flips every bit of the data file in turn.
#[test]
fn a_rotten_byte_is_never_handed_out() {
    for at in 0..FILE_BYTES as usize {
        let disk = Disk::default();
        put_all(&mut open(&disk).0, &[0, 1, 2, 3, 4, 5]);
        let mut data = disk.bytes(DATA);
        data[at] ^= 1 << (at % 8);
        disk.overwrite(DATA, data);
        let (mut store, _) = open(&disk);
        let rotten = (at as u64 / CHUNK) as u32;
        assert!(matches!(store.read(rotten, whole(rotten)), ChunkRead::Damaged(_)), "{at}");
        assert!(matches!(store.read(rotten, whole(rotten)), ChunkRead::Absent), "it is told once");
        let rest: Vec<u32> = (0..CHUNKS).filter(|chunk| *chunk != rotten).collect();
        assert_right(&mut store, &rest);
        put_all(&mut store, &[rotten]);
        drop(store);
        assert_right(&mut open(&disk).0, &[0, 1, 2, 3, 4, 5]);
        assert!(disk.bytes(DATA).len() as u64 <= 6 * CHUNK, "its slot is used again");
    }
}

/// Blocks of these chunks are one byte long.
#[test]
fn a_part_of_a_chunk_is_read_and_checked_without_the_rest() {
    let disk = Disk::default();
    put_all(&mut open(&disk).0, &[5, 1]);
    let mut data = disk.bytes(DATA);
    data[(CHUNK + 4) as usize] ^= 1; // of chunk 1
    disk.overwrite(DATA, data);
    let (mut store, _) = open(&disk);
    for begin in 0..=CHUNK {
        for end in (begin..=CHUNK).filter(|&end| end <= 4 || begin > 4) {
            let ChunkRead::Bytes { bytes, .. } = store.read(1, begin..end) else { panic!("{begin}..{end}") };
            assert_eq!(bytes.as_slice(), &chunk_bytes(1).as_slice()[begin as usize..end as usize]);
        }
    }
    let ChunkRead::Bytes { bytes, .. } = store.read(5, 1..3) else { panic!("the short one") };
    assert_eq!(bytes.as_slice(), &chunk_bytes(5).as_slice()[1..3]);
    assert!(matches!(store.read(1, 4..5), ChunkRead::Damaged(_)));
    assert_eq!(store.held(), [5]);
}

/// Blocks are longer than what is asked of them.
#[test]
fn what_is_read_are_whole_blocks() {
    let (file_bytes, chunk_bytes) = (100, 64);
    let file = CachedFile { len_bytes: file_bytes, ..cached_file() };
    let content: Vec<u8> = (0..file_bytes as u8).collect();
    let disk = Disk::default();
    let mut store = ChunkStore::open(disk.files(), &file, chunk_bytes, 0).expect("it opens").0;
    for chunk in [0, 1] {
        let from = chunk as usize * 64;
        let bytes = Bytes::from_vec(content[from..(from + 64).min(100)].to_vec());
        store.put(chunk, &bytes, false).expect("room");
    }
    for (chunk, part) in [(0, 0..64), (0, 3..5), (0, 4..8), (0, 63..64), (1, 0..36), (1, 35..36), (1, 7..7)] {
        let ChunkRead::Bytes { bytes, .. } = store.read(chunk, part.clone()) else { panic!("{chunk}, {part:?}") };
        let from = chunk as usize * 64;
        assert_eq!(
            bytes.as_slice(),
            &content[from + part.start as usize..from + part.end as usize],
            "{chunk} {part:?}"
        );
    }
    // One rotten byte spoils its block of four, and no other.
    let mut data = disk.bytes(DATA);
    data[6] ^= 1;
    disk.overwrite(DATA, data);
    assert!(matches!(store.read(0, 0..4), ChunkRead::Bytes { .. }));
    assert!(matches!(store.read(0, 8..64), ChunkRead::Bytes { .. }));
    assert!(matches!(store.read(0, 4..5), ChunkRead::Damaged(_)));
}

#[test]
fn data_that_is_gone_is_not_held() {
    let disk = Disk::default();
    put_all(&mut open(&disk).0, &[4, 1, 3]);
    disk.overwrite(DATA, disk.bytes(DATA)[..CHUNK as usize + 2].to_vec());
    let (mut store, opening) = open(&disk);
    assert_eq!(opening, Opening::Resumed { torn_bytes: 0, lost_chunks: 2 });
    assert_right(&mut store, &[4]);
    put_all(&mut store, &[0, 1, 3]);
    drop(store);
    assert_right(&mut open(&disk).0, &[0, 1, 3, 4]);
}

#[test]
fn a_full_disk_keeps_what_fits() {
    for (committed, held) in [(true, &[0, 1][..]), (false, &[0])] {
        let disk = Disk::default();
        let (mut store, _) = open(&disk);
        put_all(&mut store, &[0]);
        store.put(1, &chunk_bytes(1), false).expect("there is room");
        if committed {
            store.commit().expect("there is room");
        }
        // Half a chunk was written, and no record of what was not recorded yet.
        let used = disk.bytes(DATA).len() + disk.bytes(JOURNAL).len();
        disk.set_room(Some(used as u64 + CHUNK / 2));
        let errors: Vec<_> =
            (2..CHUNKS).filter_map(|chunk| store.put(chunk, &chunk_bytes(chunk), false).err()).collect();
        assert!(matches!(errors[..], [StoreFileError::Full { .. }]), "told once: {errors:?}");
        assert!(!store.is_writable());
        assert_right(&mut store, held);
        drop(store);
        disk.set_room(None);
        let (mut store, _) = open(&disk);
        assert_right(&mut store, held);
        put_all(&mut store, &[1, 2, 3, 4, 5]);
        assert_right(&mut store, &[0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn marks_last_and_are_lost_with_the_bytes() {
    let disk = Disk::default();
    let (mut store, _) = open(&disk);
    put_all(&mut store, &[0, 1]);
    store.mark_verified(1);
    store.mark_verified(1);
    store.mark_verified(4);
    assert_eq!((store.pending(), store.totals().verified_chunks), (1, 1));
    drop(store);
    let (mut store, _) = open(&disk);
    assert_eq!(store.totals().verified_chunks, 1);
    assert!(matches!(store.read(1, whole(1)), ChunkRead::Bytes { verified: true, .. }));
    store.forget(1);
    put_all(&mut store, &[1]);
    drop(store);
    assert_eq!(open(&disk).0.totals().verified_chunks, 0);
}

#[test]
fn what_is_cached_opens_without_knowing_what_it_is() {
    let disk = Disk::default();
    assert!(ChunkStore::open_as_cached(disk.files()).expect("readable").is_none());
    put_all(&mut open(&disk).0, &[0, 5]);
    let mut store = ChunkStore::open_as_cached(disk.files()).expect("readable").expect("something");
    assert_eq!(store.file(), &cached_file());
    assert_right(&mut store, &[0, 5]);
    let summary = summarise(&disk.bytes(JOURNAL)).expect("a journal");
    assert_eq!((summary.stored_chunks, summary.chunks, summary.created_ms), (2, CHUNKS, 1234));
}

#[test]
fn ids_tell_addresses_apart() {
    assert_eq!(cache_id("http://h/m.gguf").len(), 16);
    assert_ne!(cache_id("http://h/m.gguf"), cache_id("http://h/n.gguf"));
}
