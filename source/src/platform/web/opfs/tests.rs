//! Real files of a real browser, in a dedicated worker: nothing else may open them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

use super::*;
use crate::store::{CachingSource, CheckedStore, ChunkHashes, ChunkRead, ChunkStore, Chunks, Opening, StoreNews};
use crate::{MemorySource, Source};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

const URL: &str = "http://h/m.gguf";
const CHUNK: u64 = 64 << 10;
const FILE_BYTES: u64 = 5 * CHUNK + 1000;

/// A folder of its own for each test, removed at the end.
struct Folder(String);

impl Folder {
    fn new(test: &str) -> Self {
        Self(format!("test-{test}-{}-{}", js_sys::Date::now(), js_sys::Math::random()))
    }

    async fn models(&self) -> CachedModels {
        CachedModels::open(&self.0).await.expect("this browser has a file system for its pages")
    }

    async fn remove(self) {
        let root: FileSystemDirectoryHandle = settled(storage_directory()).await.expect("root").unchecked_into();
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        settled(Ok(root.remove_entry_with_options(&self.0, &options))).await.expect("it can be removed");
    }
}

fn cached_file(etag: &str) -> CachedFile {
    CachedFile { url: URL.to_owned(), len_bytes: FILE_BYTES, etag: etag.to_owned() }
}

fn file_bytes() -> Vec<u8> {
    (0..FILE_BYTES).map(|index| (index * 7 + index / CHUNK) as u8).collect()
}

fn chunk(chunk: u32) -> Bytes {
    let from = (u64::from(chunk) * CHUNK) as usize;
    Bytes::from_vec(file_bytes()[from..(from + CHUNK as usize).min(FILE_BYTES as usize)].to_vec())
}

async fn open(models: &CachedModels, etag: &str) -> (ChunkStore, Opening) {
    let files = models.files_for(URL).await.expect("nobody else has it open");
    ChunkStore::open(files, &cached_file(etag), CHUNK, 0).expect("it opens")
}

fn put(store: &mut ChunkStore, chunks: &[u32]) {
    for &index in chunks {
        store.put(index, &chunk(index), false).expect("there is room");
    }
    store.commit().expect("there is room");
}

fn assert_holds(store: &mut ChunkStore, held: &[u32]) {
    assert_eq!(store.held(), held);
    for &index in held {
        let ChunkRead::Bytes { bytes, .. } = store.read(index, 0..store.chunks().len_bytes(index)) else {
            panic!("chunk {index} is not there")
        };
        assert_eq!(bytes.to_vec(0..bytes.len()), chunk(index).to_vec(0..bytes.len()), "chunk {index}");
    }
}

/// Replaces a file's contents, as another program would.
async fn meddle(models: &CachedModels, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let folder = sub_folder(&models.folder, &cache_id(URL), false).await.expect("it is cached");
    let file = OpfsFile::open(&folder, name, false).await.expect("nobody has it open");
    let bytes = file.read_at(0, file.len_bytes().expect("size")).expect("readable");
    let changed = Bytes::from_vec(change(bytes.to_vec(0..bytes.len())));
    file.truncate(0).expect("writable");
    file.write_at(0, &changed).expect("writable");
    file.flush().expect("writable");
}

#[wasm_bindgen_test]
async fn what_was_cached_is_there_when_it_is_opened_again() {
    let folder = Folder::new("again");
    let models = folder.models().await;
    let (mut store, opening) = open(&models, "\"a\"").await;
    assert_eq!(opening, Opening::New);
    put(&mut store, &[5, 0]);
    store.put(3, &chunk(3), true).expect("there is room");
    assert_holds(&mut store, &[0, 3, 5]);
    drop(store);
    let (mut store, opening) = open(&models, "\"a\"").await;
    assert_eq!(opening, Opening::Resumed { torn_bytes: 0, lost_chunks: 0 });
    assert_holds(&mut store, &[0, 3, 5]);
    put(&mut store, &[1, 2, 4]);

    // A list shows it the same way while it is in use and after.
    let listed = models.list().await.expect("a list");
    assert!(listed.len() == 1 && listed[0].in_use, "{listed:?}");
    drop(store);
    let listed = models.list().await.expect("a list");
    let summary = listed[0].summary.as_ref().expect("its journal can be read");
    assert_eq!((summary.stored_chunks, summary.chunks, summary.verified_chunks), (6, 6, 1));
    assert_eq!((&summary.file, summary.stored_bytes), (&cached_file("\"a\""), FILE_BYTES));
    assert!(listed[0].disk_bytes > FILE_BYTES && listed[0].written_ms > 1e12, "{listed:?}");

    // The id alone is enough to find it.
    let files = models.files_of(&listed[0].id).await.expect("it is there");
    let mut store = ChunkStore::open_as_cached(files).expect("readable").expect("something");
    assert_holds(&mut store, &[0, 1, 2, 3, 4, 5]);
    assert!(matches!(models.delete(&listed[0].id).await, Err(StoreError::InUse { .. })));
    drop(store);
    models.delete(&listed[0].id).await.expect("nobody uses it");
    assert_eq!(models.list().await.expect("a list"), []);
    assert!(matches!(models.files_of("0000").await, Err(StoreError::Unavailable { .. })));
    folder.remove().await;
}

#[wasm_bindgen_test]
async fn a_torn_tail_is_dropped() {
    let folder = Folder::new("torn");
    let models = folder.models().await;
    put(&mut open(&models, "\"a\"").await.0, &[0, 1, 2]);
    meddle(&models, JOURNAL, |journal| journal[..journal.len() - 5].to_vec()).await;
    let (mut store, opening) = open(&models, "\"a\"").await;
    // A record has 152 bytes, of which five are missing.
    assert_eq!(opening, Opening::Resumed { torn_bytes: 152 - 5, lost_chunks: 0 });
    assert_holds(&mut store, &[0, 1]);
    put(&mut store, &[2]);
    drop(store);
    assert_holds(&mut open(&models, "\"a\"").await.0, &[0, 1, 2]);
    folder.remove().await;
}

#[wasm_bindgen_test]
async fn another_etag_discards_what_was_cached() {
    let folder = Folder::new("etag");
    let models = folder.models().await;
    put(&mut open(&models, "\"a\"").await.0, &[0, 1, 2]);
    let (store, opening) = open(&models, "\"b\"").await;
    assert!(matches!(opening, Opening::Changed { what: "its ETag", .. }), "{opening:?}");
    assert!(store.held().is_empty());
    drop(store);
    let listed = models.list().await.expect("a list");
    assert!(listed[0].disk_bytes < 1000, "{listed:?}");
    folder.remove().await;
}

#[wasm_bindgen_test]
async fn a_byte_that_rotted_on_disk_is_noticed() {
    let folder = Folder::new("rotten");
    let models = folder.models().await;
    put(&mut open(&models, "\"a\"").await.0, &[0, 1, 2]);
    meddle(&models, DATA, |mut data| {
        data[CHUNK as usize + 77] ^= 1;
        data
    })
    .await;
    let (mut store, _) = open(&models, "\"a\"").await;
    assert!(matches!(store.read(1, 0..store.chunks().len_bytes(1)), ChunkRead::Damaged(_)));
    assert_holds(&mut store, &[0, 2]);
    put(&mut store, &[1]);
    drop(store);
    assert_holds(&mut open(&models, "\"a\"").await.0, &[0, 1, 2]);
    folder.remove().await;
}

#[wasm_bindgen_test]
async fn only_one_opens_it_at_a_time() {
    let folder = Folder::new("two");
    let models = folder.models().await;
    let (store, _) = open(&models, "\"a\"").await;
    let error = models.files_for(URL).await.err().expect("it is in use");
    assert_eq!(error, StoreError::InUse { url: URL.to_owned() });
    assert!(error.to_string().contains("another tab") && !error.advice().is_empty());
    assert!(models.files_for("http://h/other.gguf").await.is_ok(), "another model is another matter");
    drop(store);
    drop(models.files_for(URL).await.expect("it is free"));

    // An opener waits for a holder that is about to let go.
    let held = Rc::new(Cell::new(Some(models.files_for(URL).await.expect("it is free"))));
    let later = Rc::clone(&held);
    wasm_bindgen_futures::spawn_local(async move {
        pause(Duration::from_millis(200)).await;
        drop(later.take());
    });
    drop(models.files_for(URL).await.expect("it became free"));
    assert!(held.take().is_none(), "it was given before it was free");
    folder.remove().await;
}

/// A file with room for a limited number of bytes, like the browser's quota.
struct Limited(Box<dyn StoreFile>, u64);

impl StoreFile for Limited {
    fn len_bytes(&self) -> Result<u64, StoreFileError> {
        self.0.len_bytes()
    }

    fn read_at(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, StoreFileError> {
        self.0.read_at(offset_bytes, len_bytes)
    }

    fn write_at(&self, offset_bytes: u64, bytes: &Bytes) -> Result<(), StoreFileError> {
        if offset_bytes + bytes.len() as u64 <= self.1 {
            return self.0.write_at(offset_bytes, bytes);
        }
        Err(failed("writing")(
            web_sys::DomException::new_with_message_and_name("full", "QuotaExceededError").expect("one").into(),
        ))
    }

    fn truncate(&self, len_bytes: u64) -> Result<(), StoreFileError> {
        self.0.truncate(len_bytes)
    }

    fn flush(&self) -> Result<(), StoreFileError> {
        self.0.flush()
    }
}

#[wasm_bindgen_test]
async fn a_full_disk_stops_the_keeping_and_not_the_reading() {
    let folder = Folder::new("full");
    let models = folder.models().await;
    let mut files = models.files_for(URL).await.expect("free");
    files.data = Box::new(Limited(files.data, 2 * CHUNK + 500));
    let (store, _) = ChunkStore::open(files, &cached_file("\"a\""), CHUNK, 0).expect("opens");
    let (source, news) = before(store);
    assert_reads_right(&source).await;
    let problems: Vec<_> = news.take().into_iter().filter(|news| !matches!(news, StoreNews::Progress(_))).collect();
    assert!(matches!(problems[..], [StoreNews::NotCached(StoreFileError::Full { .. })]), "{problems:?}");
    assert_eq!(source.progress().stored_chunks, 2);
    drop(source);
    assert_holds(&mut open(&models, "\"a\"").await.0, &[0, 1]);
    folder.remove().await;
}

type News = Rc<RefCell<Vec<StoreNews>>>;

fn before(store: ChunkStore) -> (CachingSource, News) {
    let news = News::default();
    let told = Rc::clone(&news);
    let chunks = Chunks::new(FILE_BYTES, CHUNK).expect("few");
    let inner = Rc::new(MemorySource::new("m.gguf", file_bytes()));
    let store = Rc::new(CheckedStore::new(chunks, Some(store)));
    (CachingSource::new(inner, store, move |what| told.borrow_mut().push(what)), news)
}

async fn assert_reads_right(source: &CachingSource) {
    let file = file_bytes();
    for (at, len) in [(0, 10), (CHUNK - 5, 10), (100, 3 * CHUNK), (0, FILE_BYTES), (FILE_BYTES - 1, 1), (7, 0)] {
        let bytes = source.read(at, len).await.expect("inside");
        assert_eq!(bytes.to_vec(0..bytes.len()), file[at as usize..(at + len) as usize], "{at}+{len}");
    }
}

/// Uses the browser's own SHA-256, and bytes that are wrong from the start.
#[wasm_bindgen_test]
async fn chunks_are_held_against_published_hashes() {
    let folder = Folder::new("hashes");
    let models = folder.models().await;
    let abc = crate::platform::sha256(&Bytes::from_vec(b"abc".to_vec())).await.expect("a hash");
    assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
    let (mut store, _) = open(&models, "\"a\"").await;
    let mut wrong = chunk(2).to_vec(0..CHUNK as usize);
    wrong[9] ^= 1;
    store.put(2, &Bytes::from_vec(wrong), false).expect("room");
    let (source, news) = before(store);
    let mut hashes = Vec::new();
    for index in 0..6 {
        hashes.push(crate::platform::sha256(&chunk(index)).await.expect("a hash"));
    }
    assert!(source.store().set_hashes(Rc::new(ChunkHashes { chunk_bytes: CHUNK, chunks: hashes })));
    assert_reads_right(&source).await;
    assert_eq!((source.progress().verified_chunks, source.progress().network_bytes), (6, FILE_BYTES));
    assert!(news.borrow().iter().any(|news| matches!(news, StoreNews::Damaged { chunk: 2, .. })));
    drop(source);
    let (store, _) = open(&models, "\"a\"").await;
    assert_eq!(store.totals().verified_chunks, 6);
    drop(store);
    folder.remove().await;
}

#[wasm_bindgen_test]
async fn the_browser_says_how_much_room_there_is() {
    let room = storage_room().await;
    assert!(room.quota_bytes > Some(1 << 20) && room.usage_bytes.is_some() && room.persisted.is_some(), "{room:?}");
}

#[wasm_bindgen_test]
fn parts_are_joined_outside_the_wasm_heap() {
    let bytes = Bytes::from_vec((0..50).collect());
    let joined = Bytes::joined(vec![bytes.slice(3..5), bytes.slice(0..0), bytes.slice(9..10)]);
    assert_eq!(joined.to_vec(0..3), [3, 4, 9]);
    let alone = Bytes::joined(vec![bytes.slice(10..20)]);
    assert_eq!(alone.as_uint8_array().byte_offset(), 10, "one part alone is not copied");
}
