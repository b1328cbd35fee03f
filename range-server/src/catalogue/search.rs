//! Collects the files that paths lead to.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gptoss_finder::{DEMO, DEMO_NAME, FoundFile, HubOrigin, Links, SearchOptions, Skipped, has_gguf_extension, search};
use gptoss_gguf::{IDENTIFY_BYTES, identify};
use hyper::body::Bytes;

use super::{Catalogue, CatalogueError, ServedFile};
use crate::content::Content;

/// A file found below a PATH, before it belongs to a model.
pub(crate) struct Found {
    pub(crate) file: Arc<ServedFile>,
    /// The same file under other names. Each has its own path, so that a link can be turned to another file.
    pub(crate) aliases: Vec<Arc<ServedFile>>,
    pub(crate) hub: Option<HubOrigin>,
}

/// A search through all PATHs.
pub(super) struct Search<'c> {
    pub(super) found: Vec<Found>,
    pub(super) notes: Vec<String>,
    /// Indices into `found` by canonical path, so that a file with two names is one model.
    by_target: HashMap<PathBuf, usize>,
    /// Result of the previous search; files that are still there keep their handles and what is known of them.
    before: &'c Catalogue,
    links: Links,
}

impl<'c> Search<'c> {
    pub(super) fn new(before: &'c Catalogue, links: Links) -> Self {
        Self { found: Vec::new(), notes: Vec::new(), by_target: HashMap::new(), before, links }
    }

    /// The bundled model.
    pub(super) fn add_demo(&mut self) {
        let file = match self.before.by_name(DEMO_NAME) {
            Some((_, file)) => Arc::clone(file),
            None => {
                // The bytes are as old as the program that holds them.
                let program = std::env::current_exe().and_then(fs::metadata).and_then(|metadata| metadata.modified());
                let content = Content::memory(Bytes::from_static(DEMO), program.ok());
                Arc::new(ServedFile::bundled(DEMO_NAME, content))
            }
        };
        self.found.push(Found { file, aliases: Vec::new(), hub: None });
        self.notes.push("no PATH was given: serving the bundled demo model".into());
    }

    /// Adds a file or a folder.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), CatalogueError> {
        let open_error = |source| CatalogueError::Open { path: path.to_owned(), source };
        let canonical = path.canonicalize().map_err(open_error)?;
        if canonical.is_dir() {
            return self.add_folder(&canonical).map_err(open_error);
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| CatalogueError::NameNotUtf8 { path: path.to_owned() })?;
        if !has_gguf_extension(path) {
            let start = start_of(path).map_err(open_error)?;
            if !start.starts_with(GGUF_MAGIC) {
                let what = identify(&start, start.len() as u64, name).map(|what| what.to_string());
                return Err(CatalogueError::NotGguf { path: path.to_owned(), what });
            }
        }
        self.take(name.to_owned(), path, None, None).map_err(open_error)
    }

    /// Takes every GGUF file below `folder`. What cannot be served is noted by its name below it.
    fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        let found = search(folder, SearchOptions { links: self.links, depth: None })?;
        self.notes.extend(found.skipped.iter().map(note));
        for FoundFile { name, label, path, root, hub, .. } in found.files {
            let root = root.as_deref();
            let taken = match label {
                None => self.take(name.clone(), &path, root, hub),
                Some(label) => {
                    self.take(label, &path, root, hub).and_then(|()| self.take(name.clone(), &path, root, None))
                }
            };
            if let Err(error) = taken {
                self.notes.push(format!("skipped /{name}: {error}"));
            }
        }
        Ok(())
    }

    /// Opens a file and keeps it: as one of its own, or as another name of one that is there already.
    fn take(&mut self, name: String, path: &Path, root: Option<&Path>, hub: Option<HubOrigin>) -> io::Result<()> {
        let canonical = path.canonicalize()?;
        let file = self.open(name, path, root)?;
        match self.by_target.get(&canonical) {
            None => {
                self.by_target.insert(canonical, self.found.len());
                self.found.push(Found { file, aliases: Vec::new(), hub });
            }
            Some(&index) => {
                let known = &mut self.found[index];
                if known.names().any(|name| *name == file.name) {
                    return Ok(());
                }
                // The file itself is the model; links are other names for it, whatever comes first in the alphabet.
                let is_itself = |file: &ServedFile| file.path() == Some(canonical.as_path());
                if known.hub.is_none() && is_itself(&file) && !is_itself(&known.file) {
                    known.aliases.push(std::mem::replace(&mut known.file, file));
                } else {
                    known.aliases.push(file);
                }
            }
        }
        Ok(())
    }

    /// The file of the last search, if it is the same, or a new one.
    fn open(&self, name: String, path: &Path, root: Option<&Path>) -> io::Result<Arc<ServedFile>> {
        let same = self.before.by_name(&name).map(|(_, file)| file).filter(|file| file.is_from(path, root));
        match same {
            Some(file) => Ok(Arc::clone(file)),
            None => Ok(Arc::new(ServedFile::open(name, path, root)?)),
        }
    }
}

impl Found {
    /// All names that lead to it.
    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.file).chain(&self.aliases).map(|file| &file.name)
    }
}

/// A sentence about something that was passed over, and how to have it served.
fn note(Skipped { name, reason }: &Skipped) -> String {
    let way = if reason.is_unfollowed_link() { "; --follow-links serves what it leads to" } else { "" };
    format!("skipped /{name}: {reason}{way}")
}

const GGUF_MAGIC: &[u8] = b"GGUF";

/// The first bytes of a file, enough to recognise its kind.
fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut start = Vec::new();
    fs::File::open(path)?.take(IDENTIFY_BYTES as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// What a server of some paths would serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufFiles {
    /// The files, each with the name that a server would give it.
    pub files: Vec<(String, PathBuf)>,
    /// What a server would skip, and why, one sentence each.
    pub notes: Vec<String>,
}

/// Finds files as a server of these paths does.
///
/// # Errors
/// If a path cannot be served.
pub fn gguf_files(paths: &[PathBuf]) -> Result<GgufFiles, CatalogueError> {
    let before = Catalogue::default();
    let mut search = Search::new(&before, Links::Inside);
    for path in paths {
        search.add(path)?;
    }
    let files = search.found.iter().filter_map(|found| Some((found.file.name.clone(), found.file.path()?.to_owned())));
    Ok(GgufFiles { files: files.collect(), notes: search.notes })
}
