//! The store's files in the browser's Origin Private File System, which a worker reads and writes without waiting.
//!
//! Every cached file has a folder of its own with two files, `data` and `journal`. Whoever uses it holds a Web Lock of
//! its name: a synchronous access handle is exclusive anyway, and unlike the handle a lock can be asked after. A second
//! tab is told so, and reads over the network. Handing read access out to it would be possible in some browsers, but
//! then neither tab could let go of a damaged chunk.

use std::time::Duration;

use js_sys::{Array, AsyncIterator, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemRemoveOptions, FileSystemSyncAccessHandle,
};

use super::locks::{LockGuard, held_locks, lock_soon};
use super::promise::{self, LATER, SOON};
use super::surroundings::pause;
use super::{HttpSource, words_of};
use crate::Bytes;
use crate::store::{
    CachedFile, JournalSummary, StoreError, StoreFile, StoreFileError, StoreFiles, cache_id, summarise,
};

#[cfg(test)]
mod tests;

/// Name of the folder that holds this origin's download cache.
pub const CACHE_FOLDER: &str = "gptoss-models";

const DATA: &str = "data";
const JOURNAL: &str = "journal";
/// How long to wait for locks and handles of a worker that is just ending.
const PATIENCE: Duration = Duration::from_secs(1);

#[wasm_bindgen]
extern "C" {
    // The storage manager is the same on a page and in a worker; web-sys has it as a property of two different
    // navigators.
    #[wasm_bindgen(js_namespace = ["navigator", "storage"], js_name = getDirectory, catch)]
    fn storage_directory() -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["navigator", "storage"], js_name = estimate, catch)]
    fn storage_estimate() -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["navigator", "storage"], js_name = persisted, catch)]
    fn storage_persisted() -> Result<Promise, JsValue>;
}

/// The download cache of this origin.
pub struct CachedModels {
    folder: FileSystemDirectoryHandle,
    name: String,
}

/// A cached file as seen from outside, without opening it.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedModel {
    /// Id of the cached file, see [`cache_id`](crate::store::cache_id).
    pub id: String,
    /// `None` when its journal is not one that this version reads.
    pub summary: Option<JournalSummary>,
    /// Bytes that it takes on disk.
    pub disk_bytes: u64,
    /// Time of the last write, in milliseconds since 1970.
    pub written_ms: f64,
    /// Whether a tab has it open.
    pub in_use: bool,
}

impl CachedModel {
    /// Whether it holds nothing of any model: a leftover of a cache that had no room, if nobody is about to change that.
    pub fn is_empty(&self) -> bool {
        let holds = self.summary.as_ref().map_or(self.disk_bytes, |summary| u64::from(summary.stored_chunks));
        holds == 0
    }
}

/// What the browser lets this origin store. `None` where the browser does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StorageRoom {
    /// Bytes that this origin uses.
    pub usage_bytes: Option<u64>,
    /// Bytes that this origin may use.
    pub quota_bytes: Option<u64>,
    /// Whether the browser has promised not to delete anything by itself.
    pub persisted: Option<bool>,
}

impl CachedModels {
    /// Opens the folder `name` of this origin, and creates it if necessary.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where browsers offer no such thing: on pages that are not secure, in some private
    /// windows.
    pub async fn open(name: &str) -> Result<Self, StoreError> {
        let root: FileSystemDirectoryHandle = settled(storage_directory()).await.map_err(unavailable)?.unchecked_into();
        let folder = sub_folder(&root, name, true).await.map_err(unavailable)?;
        Ok(Self { folder, name: name.to_owned() })
    }

    /// Opens the files that a URL's file is cached in, exclusively until they are dropped; creates them if necessary.
    /// Works only in a worker: browsers give no synchronous files to pages.
    pub async fn files_for(&self, url: &str) -> Result<StoreFiles, StoreError> {
        let id = cache_id(url);
        let lock = lock_soon(&self.lock_name(&id), PATIENCE).await.map_err(unavailable)?;
        self.files(&id, url, lock, true).await
    }

    /// Opens the files of a cached file by its id.
    pub async fn files_of(&self, id: &str) -> Result<StoreFiles, StoreError> {
        let lock = lock_soon(&self.lock_name(id), PATIENCE).await.map_err(unavailable)?;
        self.files(id, id, lock, false).await
    }

    async fn files(
        &self,
        id: &str,
        shown: &str,
        lock: Option<LockGuard>,
        create: bool,
    ) -> Result<StoreFiles, StoreError> {
        let Some(lock) = lock else { return Err(StoreError::InUse { url: shown.to_owned() }) };
        let folder = sub_folder(&self.folder, id, create).await.map_err(unavailable)?;
        let data = OpfsFile::open(&folder, DATA, create).await.map_err(|error| handle_error(&error, shown))?;
        let journal = OpfsFile::open(&folder, JOURNAL, create).await.map_err(|error| handle_error(&error, shown))?;
        Ok(StoreFiles { data: Box::new(data), journal: Box::new(journal), guard: Some(Box::new(lock)) })
    }

    /// Lists everything that is cached, whoever uses it.
    pub async fn list(&self) -> Result<Vec<CachedModel>, StoreError> {
        let held = held_locks().await.map_err(unavailable)?;
        let mut models = Vec::new();
        for id in names(self.folder.keys()).await.map_err(unavailable)? {
            // A folder that is being deleted at this moment does not count.
            let Ok(folder) = sub_folder(&self.folder, &id, false).await else { continue };
            let (data, journal) = (snapshot(&folder, DATA).await, snapshot(&folder, JOURNAL).await);
            let size = |file: &Result<File, JsValue>| file.as_ref().map_or(0, |file| file.size() as u64);
            let disk_bytes = size(&data) + size(&journal);
            let written_ms = journal.as_ref().map_or(0.0, File::last_modified);
            let summary = match &journal {
                Ok(journal) => contents(journal).await.ok().as_deref().and_then(summarise),
                Err(_) => None,
            };
            let in_use = held.contains(&self.lock_name(&id));
            models.push(CachedModel { id, summary, disk_bytes, written_ms, in_use });
        }
        models.sort_by(|a, b| b.written_ms.total_cmp(&a.written_ms));
        Ok(models)
    }

    /// Deletes a cached file unless somebody uses it.
    pub async fn delete(&self, id: &str) -> Result<(), StoreError> {
        let lock = lock_soon(&self.lock_name(id), PATIENCE).await.map_err(unavailable)?;
        let Some(_lock) = lock else { return Err(StoreError::InUse { url: id.to_owned() }) };
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        let removed = promise::settled(self.folder.remove_entry_with_options(id, &options), LATER);
        removed.await.map(drop).map_err(unavailable)
    }

    fn lock_name(&self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }
}

/// How much is cached, how much is allowed, and whether it stays.
pub async fn storage_room() -> StorageRoom {
    let estimate = settled(storage_estimate()).await.unwrap_or_default();
    // Values that are not objects, or not numbers, mean that the browser does not say.
    let number = |name: &str| Some(Reflect::get(&estimate, &name.into()).ok()?.as_f64()? as u64);
    let persisted = settled(storage_persisted()).await.ok().and_then(|persisted| persisted.as_bool());
    StorageRoom { usage_bytes: number("usage"), quota_bytes: number("quota"), persisted }
}

impl HttpSource {
    /// Identity of this file for the download cache. `None` without a strong ETag: without one, a copy of a file that
    /// changes unnoticed could not be told from the file.
    pub fn cached_file(&self) -> Option<CachedFile> {
        let file = self.known();
        let etag = file.strong_etag.clone()?;
        Some(CachedFile { url: self.url().to_owned(), len_bytes: file.len_bytes, etag })
    }
}

/// A file that is open for this worker exclusively.
struct OpfsFile(FileSystemSyncAccessHandle);

impl OpfsFile {
    async fn open(folder: &FileSystemDirectoryHandle, name: &str, create: bool) -> Result<Self, JsValue> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        let file = settled(Ok(folder.get_file_handle_with_options(name, &options))).await?;
        let file: FileSystemFileHandle = file.unchecked_into();
        // The lock is free, but the handle of a worker that has just ended may not be closed yet.
        const STEP: Duration = Duration::from_millis(50);
        let mut waited = Duration::ZERO;
        loop {
            match settled(Ok(file.create_sync_access_handle())).await {
                Err(error) if is_locked(&error) && waited < PATIENCE => pause(STEP).await,
                handle => return Ok(Self(handle?.unchecked_into())),
            }
            waited += STEP;
        }
    }
}

impl Drop for OpfsFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl StoreFile for OpfsFile {
    fn len_bytes(&self) -> Result<u64, StoreFileError> {
        self.0.get_size().map(|size| size as u64).map_err(failed("asking for a file's size"))
    }

    fn read_at(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, StoreFileError> {
        let action = "reading";
        let too_long = |_| StoreFileError::Failed { action, detail: format!("{len_bytes} bytes at once") };
        let target = Uint8Array::new_with_length(u32::try_from(len_bytes).map_err(too_long)?);
        let got = self.0.read_with_js_u8_array_and_options(&target, &at(offset_bytes)).map_err(failed(action))?;
        if got != len_bytes as f64 {
            let detail = format!("{got} of {len_bytes} bytes from {offset_bytes} on");
            return Err(StoreFileError::Failed { action, detail });
        }
        Ok(Bytes(super::Bytes(target)))
    }

    fn write_at(&self, offset_bytes: u64, bytes: &Bytes) -> Result<(), StoreFileError> {
        let source = bytes.as_uint8_array();
        let put = self.0.write_with_js_u8_array_and_options(source, &at(offset_bytes)).map_err(failed("writing"))?;
        // A short write means that the disk is full. Chrome 150 reports a wrong count then, so the number says nothing.
        if put == bytes.len() as f64 {
            return Ok(());
        }
        Err(StoreFileError::Full { detail: "the disk or the browser's quota is full".to_owned() })
    }

    fn truncate(&self, len_bytes: u64) -> Result<(), StoreFileError> {
        self.0.truncate_with_f64(len_bytes as f64).map_err(failed("cutting a file"))
    }

    fn flush(&self) -> Result<(), StoreFileError> {
        self.0.flush().map_err(failed("flushing"))
    }
}

fn at(offset_bytes: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(offset_bytes as f64); // below 2^53
    options
}

fn failed(action: &'static str) -> impl FnOnce(JsValue) -> StoreFileError {
    move |error| {
        let detail = words_of(&error);
        if detail.starts_with("QuotaExceededError") {
            return StoreFileError::Full { detail };
        }
        StoreFileError::Failed { action, detail }
    }
}

fn is_locked(error: &JsValue) -> bool {
    words_of(error).starts_with("NoModificationAllowedError")
}

fn handle_error(error: &JsValue, url: &str) -> StoreError {
    if is_locked(error) { StoreError::InUse { url: url.to_owned() } } else { unavailable(error.clone()) }
}

fn unavailable(error: JsValue) -> StoreError {
    StoreError::Unavailable { detail: words_of(&error) }
}

async fn settled(promise: Result<Promise, JsValue>) -> Result<JsValue, JsValue> {
    promise::settled(promise?, SOON).await
}

async fn sub_folder(
    folder: &FileSystemDirectoryHandle,
    name: &str,
    create: bool,
) -> Result<FileSystemDirectoryHandle, JsValue> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(create);
    Ok(settled(Ok(folder.get_directory_handle_with_options(name, &options))).await?.unchecked_into())
}

/// All names that an asynchronous iterator yields.
async fn names(iterator: AsyncIterator) -> Result<Vec<String>, JsValue> {
    let names = Array::new();
    loop {
        let step = settled(iterator.next()).await?;
        if Reflect::get(&step, &"done".into())?.is_truthy() {
            return Ok(names.iter().filter_map(|name| name.as_string()).collect());
        }
        names.push(&Reflect::get(&step, &"value".into())?);
    }
}

/// A file as it is now; needs no lock.
async fn snapshot(folder: &FileSystemDirectoryHandle, name: &str) -> Result<File, JsValue> {
    let handle: FileSystemFileHandle = settled(Ok(folder.get_file_handle(name))).await?.unchecked_into();
    Ok(settled(Ok(handle.get_file())).await?.unchecked_into())
}

async fn contents(file: &File) -> Result<Vec<u8>, JsValue> {
    Ok(Uint8Array::new(&settled(Ok(file.array_buffer())).await?).to_vec())
}
