//! The download cache: what comes over the network or from a picked file is cached, so that the next load need not fetch or pick
//! it again.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use gptoss_protocol::{CacheNotice, CacheNoticeKind, CacheState, Event};
use gptoss_source::store::{
    CHUNK_BYTES, CachedFile, CachingSource, CheckedStore, ChunkStore, Chunks, OnlyCached, Opening, StoreError,
    StoreFileError, StoreNews, StoreProgress, cache_id, cached_url,
};
use gptoss_source::{BlobSource, CACHE_FOLDER, CachedModels, HttpSource, Source, SourceError};
use wasm_bindgen_futures::spawn_local;
use web_sys::File;

use gptoss_node::Teller;

/// What this worker has open, and to whom it tells what happens to it.
pub struct DownloadCache {
    teller: Rc<Teller>,
    open: RefCell<Vec<Opened>>,
    /// Counts loads and downloads.
    work: Cell<u32>,
}

/// A file that is read with a store before it.
struct Opened {
    id: String,
    /// For which load or download.
    work: u32,
    source: Weak<CachingSource>,
}

/// A source with what is cached of it before it, if it can be cached.
pub struct OpenedSource {
    pub source: Rc<dyn Source>,
    /// What hashes are asked for.
    pub checked: Option<(CachedFile, Rc<CheckedStore>)>,
}

/// What stands behind what is cached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// Its host, or the file that was picked.
    TheFile,
    Nothing,
}

impl DownloadCache {
    pub fn new(teller: Rc<Teller>) -> Self {
        Self { teller, open: RefCell::default(), work: Cell::new(0) }
    }

    /// What is opened from now on is for another load or download.
    pub fn begin_work(&self) {
        self.work.set(self.work.get() + 1);
    }

    /// Puts what is cached of a file before the network. Whatever stands against keeping is told, and no more than that.
    pub async fn before_network(&self, source: HttpSource) -> OpenedSource {
        let Some(file) = source.cached_file() else {
            let name = source.name();
            self.notice(CacheNoticeKind::NoIdentity, name, no_identity(name), NO_IDENTITY_ADVICE);
            return OpenedSource { source: Rc::new(source), checked: None };
        };
        self.before(Rc::new(source), file).await
    }

    /// Puts what is cached of a picked file before that file.
    pub async fn before_file(&self, file: &File) -> Rc<dyn Source> {
        self.before(Rc::new(BlobSource::from_file(file)), BlobSource::cached_file(file)).await.source
    }

    /// What is cached of a file that was picked earlier.
    pub async fn alone(&self, name: &str) -> Result<Rc<dyn Source>, SourceError> {
        let id = cache_id(&cached_url(name));
        if let Some(store) = self.open_store(&id)
            && let Some(file) = store.file()
        {
            return Ok(self.stored(Rc::new(OnlyCached::new(name, &file)), &file, store, Behind::Nothing));
        }
        let unreadable = |detail: String| SourceError::CacheUnreadable { name: name.to_owned(), detail };
        let open = async {
            let models = CachedModels::open(CACHE_FOLDER).await?;
            // Asking for its files would say no more than that some file is not there.
            if !models.list().await?.iter().any(|model| model.id == id) {
                return Ok(None);
            }
            ChunkStore::open_as_cached(models.files_of(&id).await?).map(Some)
        };
        let opened = open.await.map_err(|error: StoreError| unreadable(error.to_string()))?;
        let store = opened.ok_or_else(|| SourceError::NothingCached { name: name.to_owned() })?;
        let store = store.ok_or_else(|| unreadable("its journal is damaged".to_owned()))?;
        let (file, chunks) = (store.file().clone(), *store.chunks());
        let source = Rc::new(OnlyCached::new(name, &file));
        let store = Rc::new(CheckedStore::new(chunks, Some(store)));
        Ok(self.stored(source, &file, store, Behind::Nothing))
    }

    async fn before(&self, source: Rc<dyn Source>, file: CachedFile) -> OpenedSource {
        let name = source.name().to_owned();
        let Some(chunks) = Chunks::new(file.len_bytes, CHUNK_BYTES) else {
            let error = StoreError::TooLong { url: file.url.clone(), len_bytes: file.len_bytes };
            self.notice(CacheNoticeKind::Unavailable, &name, error.to_string(), error.advice());
            return OpenedSource { source, checked: None };
        };
        if let Some(store) = self.shared(&file) {
            let source = self.stored(source, &file, Rc::clone(&store), Behind::TheFile);
            return OpenedSource { source, checked: Some((file, store)) };
        }
        let store = match open(&file).await {
            Ok((store, opening)) => {
                if let Some(message) = discarded(&name, &opening) {
                    self.notice(
                        CacheNoticeKind::Discarded,
                        &name,
                        message,
                        "Nothing needs to be done: it is fetched anew.",
                    );
                }
                Some(store)
            }
            Err(error) => {
                let kind = match &error {
                    StoreError::InUse { .. } => CacheNoticeKind::InUse,
                    StoreError::File(_) => CacheNoticeKind::NotCached,
                    _ => CacheNoticeKind::Unavailable,
                };
                let message = format!("{name} is not cached: {error}");
                self.notice(kind, &name, message, &advice(&error, &name).await);
                None
            }
        };
        let checked = Rc::new(CheckedStore::new(chunks, store));
        let source = self.stored(source, &file, Rc::clone(&checked), Behind::TheFile);
        OpenedSource { source, checked: Some((file, checked)) }
    }

    /// The store of this very file, where a model that is loaded has it open: nobody else can open it then. One of another version
    /// of the file is closed, and that model reads on without it.
    fn shared(&self, file: &CachedFile) -> Option<Rc<CheckedStore>> {
        let store = self.open_store(&cache_id(&file.url))?;
        let held = store.file()?;
        if held == *file {
            return Some(store);
        }
        store.close();
        None
    }

    /// `inner` with a store before it, of which this knows from now on.
    fn stored(
        &self,
        inner: Rc<dyn Source>,
        file: &CachedFile,
        store: Rc<CheckedStore>,
        behind: Behind,
    ) -> Rc<dyn Source> {
        let (teller, told) = (Rc::clone(&self.teller), inner.name().to_owned());
        let stored = Rc::new(CachingSource::new(inner, store, move |news| tell(&teller, &told, behind, news)));
        let mut open = self.open.borrow_mut();
        open.retain(|opened| opened.source.strong_count() > 0);
        open.push(Opened { id: cache_id(&file.url), work: self.work.get(), source: Rc::downgrade(&stored) });
        stored
    }

    /// Tells how much is cached of everything that is open.
    pub fn tell_progress(&self) {
        for source in self.open.borrow().iter().filter_map(|opened| opened.source.upgrade()) {
            self.teller.tell(Event::Cached(cache_state(source.name(), &source.progress())));
        }
    }

    /// Bytes that are cached of what the present load or download reads.
    pub fn cached_bytes(&self) -> u64 {
        self.of_this_work().iter().map(|source| source.progress().stored_bytes).sum()
    }

    /// Whether each of the `files` files of the present load or download is cached, or can come to be.
    pub fn can_cache_all(&self, files: usize) -> bool {
        let open = self.of_this_work();
        open.len() == files && open.iter().all(|source| source.store().can_hold_all())
    }

    fn of_this_work(&self) -> Vec<Rc<CachingSource>> {
        let open = self.open.borrow();
        let of_this_work = open.iter().filter(|opened| opened.work == self.work.get());
        of_this_work.filter_map(|opened| opened.source.upgrade()).collect()
    }

    /// The store of a file that this worker has open.
    pub fn open_store(&self, id: &str) -> Option<Rc<CheckedStore>> {
        let open = self.open.borrow();
        let mut sources = open.iter().filter(|opened| opened.id == id).filter_map(|opened| opened.source.upgrade());
        sources.next().map(|source| Rc::clone(source.store()))
    }

    fn notice(&self, kind: CacheNoticeKind, file: &str, message: String, advice: &str) {
        notice(&self.teller, kind, file, message, advice);
    }
}

async fn open(file: &CachedFile) -> Result<(ChunkStore, Opening), StoreError> {
    let files = CachedModels::open(CACHE_FOLDER).await?.files_for(&file.url).await?;
    ChunkStore::open(files, file, CHUNK_BYTES, js_sys::Date::now() as u64)
}

/// What became of an earlier copy that is no more.
fn discarded(name: &str, opening: &Opening) -> Option<String> {
    match opening {
        Opening::New | Opening::Resumed { .. } => None,
        Opening::Changed { what, cached, now } => Some(format!(
            "what was cached of {name} is of another version and was deleted: {what} was {cached}, is now {now}"
        )),
        Opening::Unreadable => Some(format!("what was cached of {name} could not be read and was deleted")),
    }
}

fn tell(teller: &Rc<Teller>, file: &str, behind: Behind, news: StoreNews) {
    let nothing_to_do = "Nothing needs to be done. If it happens often, the disk or the line is failing.";
    match news {
        StoreNews::Progress(progress) => teller.tell(Event::Cached(cache_state(file, &progress))),
        StoreNews::Damaged { chunk, detail } => {
            let (outcome, advice) = match behind {
                Behind::TheFile => ("it is fetched again", nothing_to_do),
                Behind::Nothing => ("it was deleted", "Pick the file and cache it again: what is still good stays."),
            };
            let message = format!("chunk {chunk} of {file} was cached and is damaged ({detail}): {outcome}");
            notice(teller, CacheNoticeKind::Damaged, file, message, advice);
        }
        StoreNews::WrongOnTheWay { chunk } => {
            let message = format!(
                "chunk {chunk} of {file} came with another SHA-256 than its host publishes: it is fetched once more"
            );
            notice(teller, CacheNoticeKind::WrongOnTheWay, file, message, nothing_to_do);
        }
        StoreNews::Distrusted { chunks } => {
            let message =
                format!("what was cached of {file} ({chunks} chunks of 4 MiB) cannot be used and was deleted");
            notice(teller, CacheNoticeKind::Discarded, file, message, "The next load fetches it anew.");
        }
        StoreNews::NotCached(error) => {
            let (teller, file) = (Rc::clone(teller), file.to_owned());
            spawn_local(async move {
                let message = format!("no more of {file} is cached: {error}");
                let advice = advice(&StoreError::File(error), &file).await;
                notice(&teller, CacheNoticeKind::NotCached, &file, message, &advice);
            });
        }
    }
}

/// What the user can do; where there is no room, that includes deleting a model, if another one is cached.
async fn advice(error: &StoreError, file: &str) -> String {
    let advice = error.advice();
    match error {
        StoreError::File(StoreFileError::Full { .. }) => format!("{advice}{}", largest_other(file).await),
        _ => advice.to_owned(),
    }
}

/// The cached model that gives back the most, as a hint of what to delete.
async fn largest_other(file: &str) -> String {
    let models = match CachedModels::open(CACHE_FOLDER).await {
        Ok(models) => models.list().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let others = models.iter().filter(|model| !model.in_use && !model.is_empty());
    let Some(largest) = others.max_by_key(|model| model.disk_bytes) else { return String::new() };
    let url = largest.summary.as_ref().map_or(largest.id.as_str(), |summary| summary.file.url.as_str());
    if gptoss_source::url_file_name(url) == file {
        return String::new();
    }
    let size = gptoss_protocol::units::bytes(largest.disk_bytes);
    format!(" Or delete a cached model under Download cache: the largest that is not in use is {url} ({size}).")
}

fn notice(teller: &Teller, kind: CacheNoticeKind, file: &str, message: String, advice: &str) {
    let (file, advice) = (file.to_owned(), advice.to_owned());
    teller.tell(Event::CacheNotice(CacheNotice { kind, file, message, advice }));
}

fn cache_state(file: &str, progress: &StoreProgress) -> CacheState {
    CacheState {
        file: file.to_owned(),
        file_bytes: progress.file_bytes,
        stored_bytes: progress.stored_bytes,
        resumed_bytes: progress.resumed_bytes,
        chunks: progress.chunks,
        stored_chunks: progress.stored_chunks,
        verified_chunks: progress.verified_chunks,
        network_bytes: progress.network_bytes,
        storage_bytes: progress.store_bytes,
        hashes_known: progress.hashes_known,
    }
}

fn no_identity(name: &str) -> String {
    format!(
        "{name} is not cached: its host sends no strong ETag that this page can read, so a changed file would go unnoticed"
    )
}

const NO_IDENTITY_ADVICE: &str = "The host has to send an ETag and, to a page of another origin, list it in \
                                  Access-Control-Expose-Headers. gguf-serve does both.";
