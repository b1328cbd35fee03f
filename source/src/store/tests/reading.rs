//! A source that stands behind a store.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::future::{join_all, select};
use futures_util::{FutureExt, pin_mut};

use super::*;
use crate::{ReadFuture, Source, SourceError};

/// What the network does to a chunk.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Answers arrive with one bit flipped, so many times.
    Flip(u32),
    /// So many requests fail.
    Fail(u32),
}

/// A host with a slow line: every answer takes as many polls as it is told.
struct Host {
    asked: RefCell<Vec<(u64, u64)>>,
    fault: Cell<Fault>,
    polls: Cell<u32>,
}

impl Host {
    fn new() -> Rc<Self> {
        Rc::new(Self { asked: RefCell::default(), fault: Cell::new(Fault::None), polls: Cell::new(3) })
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        self.asked.borrow().clone()
    }

    async fn answer(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, SourceError> {
        self.asked.borrow_mut().push((offset_bytes, len_bytes));
        for _ in 0..self.polls.get() {
            let mut polled = false;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut polled, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        }
        let mut bytes = file_bytes()[offset_bytes as usize..(offset_bytes + len_bytes) as usize].to_vec();
        match self.fault.get() {
            Fault::Flip(times) if times > 0 => {
                self.fault.set(Fault::Flip(times - 1));
                bytes[0] ^= 4;
            }
            Fault::Fail(times) if times > 0 => {
                self.fault.set(Fault::Fail(times - 1));
                return Err(SourceError::HostFailed { url: "http://h".into(), status: 500 });
            }
            _ => {}
        }
        Ok(Bytes::from_vec(bytes))
    }
}

impl Source for Host {
    fn name(&self) -> &'static str {
        "m.gguf"
    }

    fn len_bytes(&self) -> u64 {
        FILE_BYTES
    }

    fn identity(&self) -> &'static str {
        "etag \"one\" 43 bytes"
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(self.answer(offset_bytes, len_bytes))
    }

    fn requests(&self) -> u32 {
        self.asked.borrow().len() as u32
    }
}

type News = Rc<RefCell<Vec<StoreNews>>>;

fn before(host: &Rc<Host>, store: Option<ChunkStore>) -> (CachingSource, News) {
    let chunks = Chunks::new(FILE_BYTES, CHUNK).expect("few");
    let news = News::default();
    let told = Rc::clone(&news);
    let store = Rc::new(CheckedStore::new(chunks, store));
    let inner = Rc::clone(host) as Rc<dyn Source>;
    (CachingSource::new(inner, store, move |what| told.borrow_mut().push(what)), news)
}

/// The problems alone, without the numbers.
fn problems(news: &News) -> Vec<StoreNews> {
    news.borrow().iter().filter(|what| !matches!(what, StoreNews::Progress(_))).cloned().collect()
}

fn hashes() -> Rc<ChunkHashes> {
    let sha256 =
        |chunk| pollster::block_on(crate::platform::sha256(&chunk_bytes(chunk))).expect("it can be worked out");
    Rc::new(ChunkHashes { chunk_bytes: CHUNK, chunks: (0..CHUNKS).map(sha256).collect() })
}

fn read(source: &CachingSource, offset: u64, len: u64) -> Result<Vec<u8>, SourceError> {
    pollster::block_on(source.read(offset, len)).map(|bytes| bytes.as_slice().to_vec())
}

#[track_caller]
fn assert_reads_right(source: &CachingSource) {
    let file = file_bytes();
    for offset in 0..=FILE_BYTES {
        for len in 0..=FILE_BYTES - offset {
            let got = read(source, offset, len).expect("inside");
            assert_eq!(got, file[offset as usize..(offset + len) as usize], "{offset}+{len}");
        }
    }
}

#[test]
fn every_read_is_right_and_every_chunk_is_fetched_once() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, news) = before(&host, Some(open(&disk).0));
    assert_reads_right(&source);
    let mut asked = host.asked();
    asked.sort_unstable();
    assert_eq!(asked, [(0, 8), (8, 8), (16, 8), (24, 8), (32, 8), (40, 3)]);
    let progress = source.progress();
    assert_eq!((progress.network_bytes, progress.stored_bytes, progress.resumed_bytes), (43, 43, 0));
    assert_eq!((progress.stored_chunks, progress.chunks, progress.hashes_known), (CHUNKS, CHUNKS, false));
    assert_eq!(problems(&news), []);
    assert!(matches!(news.borrow().last(), Some(StoreNews::Progress(last)) if last.stored_bytes == 43));
    drop(source);

    let (source, _) = before(&host, Some(open(&disk).0));
    assert_eq!(source.progress().resumed_bytes, 43);
    assert_reads_right(&source);
    assert_eq!(host.asked().len(), 6, "nothing is fetched twice");
    let progress = source.progress();
    // Every read of the store is of as many bytes as it is asked for.
    let asked_bytes: u64 = (0..=FILE_BYTES).map(|offset| (0..=FILE_BYTES - offset).sum::<u64>()).sum();
    assert_eq!((progress.network_bytes, progress.store_bytes), (0, asked_bytes));
    assert!(matches!(read(&source, 40, 4), Err(SourceError::OutOfBounds { .. })));
}

#[test]
fn reads_at_once_share_a_fetch() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, _) = before(&host, Some(open(&disk).0));
    let reads = [(0, 10), (4, 10), (9, 3), (12, 20), (7, 2), (30, 13)];
    let all = pollster::block_on(join_all(reads.map(|(offset, len)| source.read(offset, len))));
    for ((offset, len), got) in reads.into_iter().zip(all) {
        let want = &file_bytes()[offset as usize..(offset + len) as usize];
        assert_eq!(got.expect("inside").as_slice(), want, "{offset}+{len}");
    }
    assert_eq!(host.asked().len(), CHUNKS as usize, "{:?}", host.asked());
}

#[test]
fn a_read_that_is_given_up_leaves_its_chunk_to_the_next() {
    let (disk, host) = (Disk::default(), Host::new());
    host.polls.set(10);
    let (source, _) = before(&host, Some(open(&disk).0));
    pollster::block_on(async {
        let waits = source.read(2, 2).shared_result();
        pin_mut!(waits);
        {
            let first = source.read(0, 2);
            let stop = ready_after(4);
            pin_mut!(stop);
            // The first takes off, the second waits for it; then the first is dropped in mid-air.
            let both = select(first, &mut waits);
            drop(select(both, stop).await);
        }
        assert_eq!(waits.await.expect("inside"), file_bytes()[2..4]);
    });
    assert_eq!(host.asked(), [(0, 8), (0, 8)]);
}

#[test]
fn a_failed_fetch_is_each_readers_own_and_nothing_is_cached_of_it() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, _) = before(&host, Some(open(&disk).0));
    host.fault.set(Fault::Fail(1));
    let (first, second) = pollster::block_on(futures_util::future::join(source.read(0, 4), source.read(4, 4)));
    assert!(matches!(first, Err(SourceError::HostFailed { .. })));
    assert_eq!(second.expect("tried anew").as_slice(), &file_bytes()[4..8]);
    assert_eq!(source.progress().stored_chunks, 1);
}

#[test]
fn what_is_distrusted_is_fetched_anew_by_the_next_load() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, news) = before(&host, Some(open(&disk).0));
    host.fault.set(Fault::Flip(2));
    assert_ne!(read(&source, 0, 16).expect("without an error"), file_bytes()[..16]);
    assert_eq!(source.progress().stored_chunks, 2);
    source.distrust(9);
    assert_eq!((source.progress().stored_chunks, problems(&news)), (0, vec![StoreNews::Distrusted { chunks: 2 }]));
    // The reads that were under way end, and nothing of theirs is cached either.
    assert_eq!(read(&source, 0, 43).expect("inside"), file_bytes());
    assert_eq!(source.progress().stored_chunks, 0);
    drop(source);
    let (source, _) = before(&host, Some(open(&disk).0));
    assert_reads_right(&source);
    assert_eq!((source.progress().resumed_bytes, source.progress().stored_chunks), (0, CHUNKS));
}

#[test]
fn what_a_published_hash_vouches_for_is_not_distrusted() {
    let (disk, host) = (Disk::default(), Host::new());
    put_all(&mut open(&disk).0, &[4]);
    let (source, news) = before(&host, Some(open(&disk).0));
    assert!(source.store().set_hashes(hashes()));
    assert_eq!(read(&source, 0, 16).expect("inside"), file_bytes()[..16]);
    source.distrust(0);
    assert_eq!((source.store().held(), problems(&news)), (vec![0, 1], vec![StoreNews::Distrusted { chunks: 1 }]));
    assert_eq!(read(&source, 16, 8).expect("inside"), file_bytes()[16..24]);
    assert_eq!(source.store().held(), [0, 1, 2], "its hash is the published one");
}

#[test]
fn what_was_flipped_on_the_way_is_fetched_once_more_and_then_refused() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, news) = before(&host, Some(open(&disk).0));
    assert!(source.store().set_hashes(hashes()));
    host.fault.set(Fault::Flip(1));
    assert_eq!(read(&source, 8, 8).expect("the second time"), file_bytes()[8..16]);
    assert_eq!(problems(&news), [StoreNews::WrongOnTheWay { chunk: 1 }]);
    assert_eq!(host.asked().len(), 2);
    assert_eq!((source.progress().verified_chunks, source.progress().stored_chunks), (1, 1));

    host.fault.set(Fault::Flip(2));
    let error = read(&source, 40, 1).expect_err("twice is no accident");
    assert!(matches!(error, SourceError::WrongContents { chunk: 5, first: 40, last: 42, .. }), "{error}");
    assert!(error.to_string().contains("bytes 40-42 (chunk 5)") && !error.advice().is_empty());
    assert_eq!(source.progress().stored_chunks, 1, "what is wrong is not cached");
    assert_reads_right(&source);
}

#[test]
fn hashes_that_come_late_are_held_against_what_is_cached() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, _) = before(&host, Some(open(&disk).0));
    host.fault.set(Fault::Flip(1));
    let wrong = read(&source, 16, 8).expect("nobody can know");
    assert_ne!(wrong, file_bytes()[16..24]);
    read(&source, 0, 8).expect("right");
    drop(source);

    let (source, news) = before(&host, Some(open(&disk).0));
    assert_eq!((source.progress().stored_chunks, source.progress().verified_chunks), (2, 0));
    source.store().set_hashes(hashes());
    assert_reads_right(&source);
    assert!(matches!(problems(&news)[..], [StoreNews::Damaged { chunk: 2, .. }]), "{news:?}");
    assert_eq!(source.progress().verified_chunks, CHUNKS);
    drop(source);
    let (source, _) = before(&host, Some(open(&disk).0));
    assert_eq!(source.progress().verified_chunks, CHUNKS, "it is on record");
    source.store().set_hashes(hashes());
    assert_reads_right(&source);
    assert_eq!(source.store().checked_chunks(), 0, "no SHA-256 is worked out twice");
}

#[test]
fn hashes_of_another_cut_are_refused() {
    let (source, _) = before(&Host::new(), None);
    let other = ChunkHashes { chunk_bytes: 2 * CHUNK, chunks: vec![[0; 32]; 3] };
    assert!(!source.store().set_hashes(Rc::new(other)));
    assert!(!source.progress().hashes_known);
}

#[test]
fn a_rotten_chunk_is_fetched_again() {
    let (disk, host) = (Disk::default(), Host::new());
    assert_reads_right(&before(&host, Some(open(&disk).0)).0);
    let mut data = disk.bytes(DATA);
    data[20] ^= 1;
    disk.overwrite(DATA, data);
    let (source, news) = before(&host, Some(open(&disk).0));
    assert_reads_right(&source);
    assert!(matches!(problems(&news)[..], [StoreNews::Damaged { .. }]));
    assert_eq!((host.asked().len(), source.progress().stored_chunks), (7, CHUNKS));
}

#[test]
fn a_disk_that_is_full_or_broken_does_not_stop_the_reading() {
    for broken in [false, true] {
        let (disk, host) = (Disk::default(), Host::new());
        let store = open(&disk).0;
        if broken {
            disk.fail_after(Some(3));
        } else {
            disk.set_room(Some(disk.bytes(JOURNAL).len() as u64 + 40));
        }
        let (source, news) = before(&host, Some(store));
        assert_reads_right(&source);
        let problems = problems(&news);
        assert!(matches!(problems[..], [StoreNews::NotCached(_)]), "told once: {problems:?}");
        assert!(source.progress().stored_chunks < CHUNKS);
        assert!(!source.store().is_writable());
    }
}

#[test]
fn without_a_store_and_hashes_nothing_more_is_fetched_than_was_asked_for() {
    let host = Host::new();
    let (source, news) = before(&host, None);
    assert_eq!(read(&source, 3, 2).expect("inside"), file_bytes()[3..5]);
    assert_eq!(host.asked(), [(3, 2)]);
    assert_reads_right(&source);
    // With hashes only whole chunks are fetched, so that they can be checked.
    let (source, _) = before(&host, None);
    source.store().set_hashes(hashes());
    host.asked.borrow_mut().clear();
    assert_eq!(read(&source, 3, 2).expect("inside"), file_bytes()[3..5]);
    assert_eq!(host.asked(), [(0, 8)]);
    assert_eq!((source.progress().verified_chunks, source.progress().stored_chunks), (1, 0));
    assert_eq!(problems(&news), []);
}

#[test]
fn a_store_can_be_closed_under_a_source_that_is_read() {
    let (disk, host) = (Disk::default(), Host::new());
    let (source, _) = before(&host, Some(open(&disk).0));
    read(&source, 0, 8).expect("inside");
    source.store().close();
    assert_reads_right(&source);
    assert_eq!(source.progress().stored_chunks, 0);
}

/// Becomes ready at the `polls`-th poll.
async fn ready_after(polls: u32) {
    let mut left = polls;
    std::future::poll_fn(|context| {
        left -= 1;
        context.waker().wake_by_ref();
        if left == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

trait SharedResult<'a> {
    fn shared_result(self) -> futures_util::future::LocalBoxFuture<'a, Result<Vec<u8>, SourceError>>;
}

impl<'a> SharedResult<'a> for ReadFuture<'a> {
    fn shared_result(self) -> futures_util::future::LocalBoxFuture<'a, Result<Vec<u8>, SourceError>> {
        self.map(|read| read.map(|bytes| bytes.as_slice().to_vec())).boxed_local()
    }
}
