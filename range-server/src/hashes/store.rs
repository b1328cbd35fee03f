//! Where hashes are kept: in a file beside the model, or in a folder of their own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::FileHashes;

/// Version of the format below.
const VERSION: u32 = 1;

/// What a file of hashes says. It holds for a model file of this length and time only.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    modified_ns: u64,
    #[serde(flatten)]
    hashes: FileHashes,
}

/// Why hashes could not be kept.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct SaveError {
    /// The file that was to hold them.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Finds hashes of files on disk, and keeps them.
#[derive(Debug, Clone, Default)]
pub struct HashStore {
    /// The user's cache folder for this program; without it only files beside models are read.
    cache: Option<PathBuf>,
}

/// `model.gguf.hashes.json`, beside the model.
pub fn sidecar_path(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".hashes.json");
    name.into()
}

impl HashStore {
    /// Keeps hashes in this folder; nowhere if there is none.
    pub fn new(cache: Option<PathBuf>) -> Self {
        Self { cache }
    }

    /// The hashes of the file at `path`, which has this length and modification time, if they are kept beside it or in
    /// the cache. Whatever is damaged or of another version of the file counts as absent.
    pub fn find(&self, path: &Path, size_bytes: u64, modified_ns: u64) -> Option<FileHashes> {
        let places = [Some(sidecar_path(path)), self.cached_path(path)];
        places.into_iter().flatten().find_map(|place| read(&place, size_bytes, modified_ns))
    }

    /// Keeps hashes in the cache, if there is one.
    ///
    /// # Errors
    /// A [`SaveError`] with the place and the reason.
    pub fn save(&self, path: &Path, modified_ns: u64, hashes: &FileHashes) -> Result<(), SaveError> {
        self.cached_path(path).map_or(Ok(()), |place| write(place, modified_ns, hashes))
    }

    /// Keeps hashes beside the model; where that is not allowed, in the cache. Returns the file.
    ///
    /// # Errors
    /// A [`SaveError`] if neither can be written to.
    pub fn save_beside(&self, path: &Path, modified_ns: u64, hashes: &FileHashes) -> Result<PathBuf, SaveError> {
        let beside = sidecar_path(path);
        match (write(beside.clone(), modified_ns, hashes), self.cached_path(path)) {
            (Ok(()), _) => Ok(beside),
            (Err(_), Some(cached)) => write(cached.clone(), modified_ns, hashes).map(|()| cached),
            (Err(error), None) => Err(error),
        }
    }

    /// The file is named by the hash of the model's path, because paths are too long for names, and private.
    fn cached_path(&self, path: &Path) -> Option<PathBuf> {
        let canonical = path.canonicalize().ok()?;
        let name: String =
            Sha256::digest(canonical.as_os_str().as_encoded_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.cache.as_ref()?.join(format!("{name}.json")))
    }
}

fn read(place: &Path, size_bytes: u64, modified_ns: u64) -> Option<FileHashes> {
    let record: Record = serde_json::from_slice(&fs::read(place).ok()?).ok()?;
    let hashes = record.hashes;
    let is_of_file = (record.version, record.modified_ns, hashes.size_bytes) == (VERSION, modified_ns, size_bytes);
    let is_whole = hashes.chunk_bytes == super::CHUNK_BYTES
        && hashes.chunks.len() as u64 == size_bytes.div_ceil(hashes.chunk_bytes)
        && hashes.chunks.iter().chain([&hashes.sha256]).all(|hash| hash.len() == 64);
    (is_of_file && is_whole).then_some(hashes)
}

/// Writes under another name first, so that nobody ever reads half of the file.
fn write(place: PathBuf, modified_ns: u64, hashes: &FileHashes) -> Result<(), SaveError> {
    let write = || {
        let record = Record { version: VERSION, modified_ns, hashes: hashes.clone() };
        fs::create_dir_all(place.parent().unwrap_or(Path::new(".")))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unfinished = place.with_extension(format!("{}-{now}.tmp", std::process::id()));
        fs::write(&unfinished, serde_json::to_vec(&record)?)?;
        fs::rename(&unfinished, &place).inspect_err(|_| {
            // The error that matters is the one being returned.
            let _ = fs::remove_file(&unfinished);
        })
    };
    write().map_err(|source| SaveError { path: place.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(letter: &str) -> FileHashes {
        let hash = letter.repeat(64);
        FileHashes { size_bytes: 5, sha256: hash.clone(), chunk_bytes: super::super::CHUNK_BYTES, chunks: vec![hash] }
    }

    #[test]
    fn kept_for_one_version_of_one_file() {
        let (models, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = models.path().join("m.gguf");
        fs::write(&model, b"GGUF!").unwrap();
        let store = HashStore::new(Some(cache.path().join("below")));
        assert_eq!(store.find(&model, 5, 7), None);
        store.save(&model, 7, &hashes("a")).unwrap();
        assert_eq!(store.find(&model, 5, 7), Some(hashes("a")));
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 1, "nothing is written beside the model");
        assert_eq!((store.find(&model, 5, 8), store.find(&model, 6, 7)), (None, None));
        // What was put beside the model on purpose comes first.
        assert_eq!(store.save_beside(&model, 7, &hashes("b")).unwrap(), models.path().join("m.gguf.hashes.json"));
        assert_eq!(store.find(&model, 5, 7), Some(hashes("b")));
        assert_eq!(HashStore::default().find(&model, 5, 7), Some(hashes("b")));
        // Damage is absence.
        fs::write(sidecar_path(&model), b"{").unwrap();
        assert_eq!(store.find(&model, 5, 7), Some(hashes("a")));
        for damaged in [FileHashes { chunks: vec![], ..hashes("a") }, FileHashes { sha256: "a".into(), ..hashes("a") }]
        {
            store.save(&model, 7, &damaged).unwrap();
            assert_eq!(store.find(&model, 5, 7), None);
        }
        assert_eq!(fs::read_dir(cache.path().join("below")).unwrap().count(), 1, "no unfinished files stay");
    }
}
