//! One file of the catalogue: what its name leads to, opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gptoss_finder::{blob_hash, is_sha256};

use crate::content::{Content, OpenFile, Version};
use crate::hashes::HashSlot;

/// A file that is served.
pub(crate) struct ServedFile {
    /// Name of the file, with its folders below the served PATH.
    pub(crate) name: String,
    pub(crate) hashes: HashSlot,
    source: FileSource,
}

enum FileSource {
    /// A file that is part of the program.
    Bundled(Content),
    OnDisk(DiskFile),
}

/// A file by its path. It is opened when the catalogue is made, and served from that handle for as long as the path
/// leads to the same file: what a download tool puts in its place is served from the next request on, and what was
/// removed is gone.
#[derive(Debug)]
struct DiskFile {
    path: PathBuf,
    /// The folder that a link must not lead out of, canonical; `None` for a file that was named itself.
    root: Option<PathBuf>,
    open: Mutex<Arc<OpenFile>>,
}

impl ServedFile {
    pub(crate) fn bundled(name: &str, content: Content) -> Self {
        Self { name: name.to_owned(), hashes: HashSlot::default(), source: FileSource::Bundled(content) }
    }

    /// Opens the file at `path`, which has to lie inside `root`.
    pub(crate) fn open(name: String, path: &Path, root: Option<&Path>) -> io::Result<Self> {
        let open = Mutex::new(Arc::new(open_inside(path, root)?));
        let disk = DiskFile { path: path.to_owned(), root: root.map(Path::to_owned), open };
        Ok(Self { name, hashes: HashSlot::default(), source: FileSource::OnDisk(disk) })
    }

    /// The content at this moment; an error of kind `NotFound` if the file has been removed. Asks the file system about
    /// a file that is held open, so that the answer is in memory, at least on a local disk.
    pub(crate) fn current(&self) -> io::Result<(Content, Version)> {
        match &self.source {
            FileSource::Bundled(content) => Ok((content.clone(), content.version()?)),
            FileSource::OnDisk(disk) => disk.current().map(|(file, version)| (Content::File(file), version)),
        }
    }

    /// Where the file is on disk.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.source {
            FileSource::Bundled(_) => None,
            FileSource::OnDisk(disk) => Some(&disk.path),
        }
    }

    /// Whether this is the file at `path` as a search for `root` finds it.
    pub(crate) fn is_from(&self, path: &Path, root: Option<&Path>) -> bool {
        match &self.source {
            FileSource::Bundled(_) => false,
            FileSource::OnDisk(disk) => disk.path == path && disk.root.as_deref() == root,
        }
    }

    /// SHA-256 of this version in hexadecimal, if it is known: from a hub cache, or computed.
    pub(crate) fn sha256(&self, version: &Version) -> Option<String> {
        let named = version.content_name.clone().filter(|name| is_sha256(name));
        named.or_else(|| self.hashes.known(version).map(|hashes| hashes.sha256.clone()))
    }
}

impl DiskFile {
    fn current(&self) -> io::Result<(Arc<OpenFile>, Version)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = open.version_at(&self.path).map_err(gone)? {
            return Ok((Arc::clone(&open), version));
        }
        *open = Arc::new(open_inside(&self.path, self.root.as_deref()).map_err(gone)?);
        Ok((Arc::clone(&open), open.version()?))
    }
}

/// Treats whatever is in the file's place now (a folder, a pipe, a link in a circle) as the file's absence. A file that
/// may not be read is a different matter.
fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => error,
        _ => io::Error::new(io::ErrorKind::NotFound, error),
    }
}

fn open_inside(path: &Path, root: Option<&Path>) -> io::Result<OpenFile> {
    let canonical = path.canonicalize()?;
    // A hub snapshot links to its blobs, which lie below the same root. A link that leads out of the root would
    // publish what nobody asked to publish.
    if root.is_some_and(|root| !canonical.starts_with(root)) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is a link that leads out of the served folder"));
    }
    open_file(&canonical)
}

/// Opens a regular file, knowing it for a hub cache's if it is one.
pub(crate) fn open_file(path: &Path) -> io::Result<OpenFile> {
    OpenFile::open(path, blob_hash(&path.canonicalize()?))
}
