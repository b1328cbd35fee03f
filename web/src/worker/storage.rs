//! What the user does about kept models: look, verify, delete.

use std::rc::Rc;
use std::time::Duration;

use gptoss_protocol::{self as protocol, Event, KeptContents, StorageAction, StorageReport};
use gptoss_source::store::{CheckedStore, ChunkStore, JournalSummary, KeptChunk, StoreError};
use gptoss_source::{KEPT_FOLDER, KeptModel, KeptModels, StorageRoom, storage_room};

use super::hashes;
use super::host::WorkerHost;
use super::keeping::Keeping;
use gptoss_source::pause;

/// Chunks that are read before others get their turn, and before progress is told.
const CHUNKS_AT_ONCE: u32 = 8;

/// Does what was asked for, and tells what is kept then.
pub async fn act(host: &WorkerHost, keeping: &Keeping, action: StorageAction) {
    match action {
        StorageAction::List => tell(host, None).await,
        StorageAction::Verify { id } => {
            let done = verify(host, keeping, &id).await;
            // What was found is shown beside the model, also when nothing of it is left.
            let listed = async { KeptModels::open(KEPT_FOLDER).await?.list().await };
            host.post(Event::Storage(report(listed.await, done.err()).await));
        }
        StorageAction::Delete { id } => tell(host, delete(keeping, &id).await.err()).await,
    }
}

/// Tells what is kept, and `problem`, if there is one.
pub async fn tell(host: &WorkerHost, problem: Option<String>) {
    let listed = async { tidied(&KeptModels::open(KEPT_FOLDER).await?).await };
    host.post(Event::Storage(report(listed.await, problem).await));
}

/// Everything that is kept, and the room there is.
async fn report(listed: Result<Vec<KeptModel>, StoreError>, told: Option<String>) -> StorageReport {
    let (models, problem, room) = match listed {
        Ok(models) => (models, None, storage_room().await),
        // What the browser says that there is room for is no use to a page that can keep nothing.
        Err(error) => (Vec::new(), Some(in_words(&error)), StorageRoom::default()),
    };
    let models = models.into_iter().map(|model| protocol::KeptModel {
        id: model.id,
        contents: model.summary.as_ref().map(contents),
        disk_bytes: model.disk_bytes,
        written_ms: model.written_ms,
        in_use: model.in_use,
    });
    StorageReport {
        models: models.collect(),
        usage_bytes: room.usage_bytes,
        quota_bytes: room.quota_bytes,
        persisted: room.persisted,
        problem: told.or(problem),
    }
}

/// All that is kept; folders that were made and then could not be filled are deleted.
async fn tidied(models: &KeptModels) -> Result<Vec<KeptModel>, StoreError> {
    let mut kept = Vec::new();
    for model in models.list().await? {
        // One that cannot be deleted now is there to be seen, and to be deleted by hand.
        if !model.is_empty() || models.delete(&model.id).await.is_err() {
            kept.push(model);
        }
    }
    Ok(kept)
}

fn contents(summary: &JournalSummary) -> KeptContents {
    KeptContents {
        url: summary.file.url.clone(),
        file_bytes: summary.file.len_bytes,
        stored_bytes: summary.stored_bytes,
        chunks: summary.chunks,
        stored_chunks: summary.stored_chunks,
        verified_chunks: summary.verified_chunks,
    }
}

/// What this worker itself has open is let go of first; the loaded model goes on over the network where it has to.
async fn delete(keeping: &Keeping, id: &str) -> Result<(), String> {
    if let Some(store) = keeping.open_store(id) {
        store.close();
    }
    let models = KeptModels::open(KEPT_FOLDER).await.map_err(|error| in_words(&error))?;
    models.delete(id).await.map_err(|error| format!("It was not deleted: {}", in_words(&error)))
}

/// As [`delete`], where there is something to delete.
pub async fn delete_if_kept(keeping: &Keeping, id: &str) -> Result<(), String> {
    let models = KeptModels::open(KEPT_FOLDER).await.map_err(|error| in_words(&error))?;
    let kept = models.list().await.map_err(|error| in_words(&error))?;
    if kept.iter().any(|model| model.id == id) { delete(keeping, id).await } else { Ok(()) }
}

async fn verify(host: &WorkerHost, keeping: &Keeping, id: &str) -> Result<(), String> {
    let not_verified = |detail: String| format!("It was not verified: {detail}");
    let store = match keeping.open_store(id).filter(|store| store.totals().stored_chunks > 0) {
        Some(store) => store,
        None => open(id).await.map_err(|error| not_verified(in_words(&error)))?,
    };
    let held = store.held();
    let mut damaged_chunks = 0;
    let tell = |done: usize, damaged_chunks| {
        host.post(Event::StorageVerify {
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
        damaged_chunks += u32::from(matches!(read, KeptChunk::Damaged(_)));
    }
    store.commit().map_err(|error| not_verified(error.to_string()))?;
    tell(held.len(), damaged_chunks);
    Ok(())
}

/// Opens what no load has open, with the hashes of its host if it still serves that file.
async fn open(id: &str) -> Result<Rc<CheckedStore>, StoreError> {
    let files = KeptModels::open(KEPT_FOLDER).await?.files_of(id).await?;
    let unreadable = || StoreError::Unavailable { detail: "what is kept cannot be read".to_owned() };
    let store = ChunkStore::open_as_kept(files)?.ok_or_else(unreadable)?;
    let (file, chunks) = (store.file().clone(), *store.chunks());
    let store = Rc::new(CheckedStore::new(chunks, Some(store)));
    hashes::ask_once(file, &store).await;
    Ok(store)
}

fn in_words(error: &StoreError) -> String {
    format!("{error}. {}", error.advice())
}
