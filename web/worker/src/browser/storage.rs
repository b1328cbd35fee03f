//! What the user does about cached models: look, verify, delete.

use std::rc::Rc;
use std::time::Duration;

use gptoss_model::Host;
use gptoss_protocol::{self as protocol, CacheAction, CacheReport, CachedContents, Event};
use gptoss_source::store::{CachedChunk, CheckedStore, ChunkStore, JournalSummary, StoreError};
use gptoss_source::{CACHE_FOLDER, CachedModel, CachedModels, StorageRoom, storage_room};

use super::cache::DownloadCache;
use super::hashes;
use gptoss_source::pause;

/// Chunks that are read before others get their turn, and before progress is told.
const CHUNKS_AT_ONCE: u32 = 8;

/// Does what was asked for, and tells what is cached then.
pub async fn act(host: &dyn Host, cache: &DownloadCache, action: CacheAction) {
    match action {
        CacheAction::List => tell(host, None).await,
        CacheAction::Verify { id } => {
            let done = verify(host, cache, &id).await;
            // What was found is shown beside the model, also when nothing of it is left.
            let listed = async { CachedModels::open(CACHE_FOLDER).await?.list().await };
            host.emit(Event::Cache(report(listed.await, done.err()).await));
        }
        CacheAction::Delete { id } => tell(host, delete(cache, &id).await.err()).await,
    }
}

/// Tells what is cached, and `problem`, if there is one.
pub async fn tell(host: &dyn Host, problem: Option<String>) {
    let listed = async { tidied(&CachedModels::open(CACHE_FOLDER).await?).await };
    host.emit(Event::Cache(report(listed.await, problem).await));
}

/// Everything that is cached, and the room there is.
async fn report(listed: Result<Vec<CachedModel>, StoreError>, told: Option<String>) -> CacheReport {
    let (models, problem, room) = match listed {
        Ok(models) => (models, None, storage_room().await),
        // What the browser says that there is room for is no use to a page that can keep nothing.
        Err(error) => (Vec::new(), Some(in_words(&error)), StorageRoom::default()),
    };
    let models = models.into_iter().map(|model| protocol::CachedModel {
        id: model.id,
        contents: model.summary.as_ref().map(contents),
        disk_bytes: model.disk_bytes,
        written_ms: model.written_ms,
        in_use: model.in_use,
    });
    CacheReport {
        models: models.collect(),
        usage_bytes: room.usage_bytes,
        quota_bytes: room.quota_bytes,
        persisted: room.persisted,
        problem: told.or(problem),
    }
}

/// All that is cached; folders that were made and then could not be filled are deleted.
async fn tidied(models: &CachedModels) -> Result<Vec<CachedModel>, StoreError> {
    let mut cached = Vec::new();
    for model in models.list().await? {
        // Whoever uses an empty one may be about to fill it, or to let go of it: deleting waits a moment for that. One that
        // cannot be deleted now is there to be seen, and to be deleted by hand.
        if !model.is_empty() || models.delete(&model.id).await.is_err() {
            cached.push(model);
        }
    }
    Ok(cached)
}

fn contents(summary: &JournalSummary) -> CachedContents {
    CachedContents {
        url: summary.file.url.clone(),
        file_bytes: summary.file.len_bytes,
        stored_bytes: summary.stored_bytes,
        chunks: summary.chunks,
        stored_chunks: summary.stored_chunks,
        verified_chunks: summary.verified_chunks,
    }
}

/// What this worker itself has open is let go of first; the loaded model goes on over the network where it has to.
async fn delete(cache: &DownloadCache, id: &str) -> Result<(), String> {
    if let Some(store) = cache.open_store(id) {
        store.close();
    }
    let models = CachedModels::open(CACHE_FOLDER).await.map_err(|error| in_words(&error))?;
    models.delete(id).await.map_err(|error| format!("It was not deleted: {}", in_words(&error)))
}

/// As [`delete`], where there is something to delete.
pub async fn delete_if_cached(cache: &DownloadCache, id: &str) -> Result<(), String> {
    let models = CachedModels::open(CACHE_FOLDER).await.map_err(|error| in_words(&error))?;
    let cached = models.list().await.map_err(|error| in_words(&error))?;
    if cached.iter().any(|model| model.id == id) { delete(cache, id).await } else { Ok(()) }
}

async fn verify(host: &dyn Host, cache: &DownloadCache, id: &str) -> Result<(), String> {
    let not_verified = |detail: String| format!("It was not verified: {detail}");
    let store = match cache.open_store(id).filter(|store| store.totals().stored_chunks > 0) {
        Some(store) => store,
        None => open(id).await.map_err(|error| not_verified(in_words(&error)))?,
    };
    let held = store.held();
    let mut damaged_chunks = 0;
    let tell = |done: usize, damaged_chunks| {
        host.emit(Event::CacheVerify {
            id: id.to_owned(),
            done_chunks: done as u32,
            chunks: held.len() as u32,
            damaged_chunks,
            verified_chunks: store.totals().verified_chunks,
        });
    };
    for (done, &chunk) in held.iter().enumerate() {
        if (done as u32).is_multiple_of(CHUNKS_AT_ONCE) {
            tell(done, damaged_chunks);
            pause(Duration::ZERO).await;
        }
        let read = store.read(chunk).await.map_err(|error| not_verified(error.to_string()))?;
        damaged_chunks += u32::from(matches!(read, CachedChunk::Damaged(_)));
    }
    store.commit().map_err(|error| not_verified(error.to_string()))?;
    tell(held.len(), damaged_chunks);
    Ok(())
}

/// Opens what no load has open, with the hashes of its host if it still serves that file.
async fn open(id: &str) -> Result<Rc<CheckedStore>, StoreError> {
    let files = CachedModels::open(CACHE_FOLDER).await?.files_of(id).await?;
    let unreadable = || StoreError::Unavailable { detail: "what is cached cannot be read".to_owned() };
    let store = ChunkStore::open_as_cached(files)?.ok_or_else(unreadable)?;
    let (file, chunks) = (store.file().clone(), *store.chunks());
    let store = Rc::new(CheckedStore::new(chunks, Some(store)));
    hashes::ask_once(file, &store).await;
    Ok(store)
}

fn in_words(error: &StoreError) -> String {
    format!("{error}. {}", error.advice())
}
