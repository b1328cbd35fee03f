//! Collects the files that paths lead to.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::Bytes;

use super::hub::{HubOrigin, Repo, snapshot_place};
use super::{Catalogue, CatalogueError, ServedFile};
use crate::content::Content;

/// The demo model, for a server without PATHs.
const DEMO_NAME: &str = "gpt-oss-nano.gguf";
const DEMO_BYTES: &[u8] = include_bytes!("../../../models/nano/gpt-oss-nano.gguf");

const GGUF_MAGIC: &[u8; 4] = b"GGUF";

/// Folders within folders are followed this far.
const MAX_DEPTH: u32 = 16;

/// A file found below a PATH, before it belongs to a model.
pub(crate) struct Found {
    pub(crate) file: Arc<ServedFile>,
    /// The same under other names. Each is opened by its own path, so that a link can be turned to another file.
    pub(crate) aliases: Vec<Arc<ServedFile>>,
    pub(crate) hub: Option<HubOrigin>,
}

/// A search through all PATHs.
pub(super) struct Search<'c> {
    pub(super) found: Vec<Found>,
    pub(super) notes: Vec<String>,
    /// Indices into `found` by canonical path, so that a file with two names is one model.
    by_target: HashMap<PathBuf, usize>,
    /// What was found the last time; files that are still there keep their handles and what is known of them.
    before: &'c Catalogue,
}

/// Where in the search a folder is.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// What a link must not lead out of, canonical.
    root: &'p Path,
    /// The hub repository that this is in.
    repo: Option<&'p Repo>,
    depth: u32,
}

impl<'c> Search<'c> {
    pub(super) fn new(before: &'c Catalogue) -> Self {
        Self { found: Vec::new(), notes: Vec::new(), by_target: HashMap::new(), before }
    }

    /// The bundled model.
    pub(super) fn add_demo(&mut self) {
        let file = match self.before.by_name(DEMO_NAME) {
            Some((_, file)) => Arc::clone(file),
            None => {
                // The bytes are as old as the program that holds them.
                let program = std::env::current_exe().and_then(fs::metadata).and_then(|metadata| metadata.modified());
                let content = Content::memory(Bytes::from_static(DEMO_BYTES), program.ok());
                Arc::new(ServedFile::bundled(DEMO_NAME, content))
            }
        };
        self.found.push(Found { file, aliases: Vec::new(), hub: None });
        self.notes.push("no PATH was given: serving the bundled demo model".into());
    }

    /// A file or a folder.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), CatalogueError> {
        let open_error = |source| CatalogueError::Open { path: path.to_owned(), source };
        let canonical = path.canonicalize().map_err(open_error)?;
        if canonical.is_dir() {
            // A snapshot links to the blobs beside it.
            let repo = Repo::around(&canonical);
            let root = repo.as_ref().map_or(canonical.as_path(), |repo| repo.folder.as_path());
            let place = Place { root, repo: None, depth: 0 };
            return self.walk(place, &canonical, "").map_err(open_error);
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| CatalogueError::NameNotUtf8 { path: path.to_owned() })?;
        let is_gguf = has_gguf_extension(path) || begins_as_gguf(path).map_err(open_error)?;
        if !is_gguf {
            return Err(CatalogueError::NotGguf { path: path.to_owned() });
        }
        self.take(name.to_owned(), path, None, None).map_err(open_error)
    }

    /// Takes every `.gguf` file below `folder`. What cannot be served is noted by its name below the root.
    fn walk(&mut self, place: Place<'_>, folder: &Path, prefix: &str) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        // Of several snapshots with the same file, that of the branch people mean is to give it its name.
        let snapshots = place.repo.filter(|repo| folder == repo.folder.join("snapshots"));
        let main = snapshots.and_then(Repo::main_revision);
        entries.sort_by_key(|entry| {
            let name = entry.file_name();
            (main.as_ref().is_none_or(|main| name != main.as_str()), name)
        });
        for entry in entries {
            let Ok(file_name) = entry.file_name().into_string() else {
                self.notes.push(format!("skipped a file in /{prefix}: its name is not UTF-8"));
                continue;
            };
            // Hidden folders are those of tools: version control, partial downloads.
            if file_name.starts_with('.') {
                continue;
            }
            let (name, path) = (format!("{prefix}{file_name}"), entry.path());
            let outcome = if entry.file_type()?.is_dir() {
                self.walk_into(place, &path, &name)
            } else if has_gguf_extension(&path) {
                self.add_entry(place, &path, name.clone())
            } else if path.is_dir() {
                Err(io::Error::other("links to folders are not followed, as they can form circles"))
            } else {
                Ok(())
            };
            if let Err(error) = outcome {
                self.notes.push(format!("skipped /{name}: {error}"));
            }
        }
        Ok(())
    }

    fn walk_into(&mut self, place: Place<'_>, folder: &Path, name: &str) -> io::Result<()> {
        if place.depth == MAX_DEPTH {
            return Err(io::Error::other(format!("more than {MAX_DEPTH} folders deep")));
        }
        let repo = Repo::at(folder);
        let place = Place { repo: repo.as_ref().or(place.repo), depth: place.depth + 1, ..place };
        self.walk(place, folder, &format!("{name}/"))
    }

    fn add_entry(&mut self, place: Place<'_>, path: &Path, name: String) -> io::Result<()> {
        let in_hub = place.repo.and_then(|repo| hub_names(repo, &name));
        match in_hub {
            None => self.take(name, path, Some(place.root), None),
            Some((label, origin)) => {
                self.take(label, path, Some(place.root), Some(origin))?;
                self.take(name, path, Some(place.root), None)
            }
        }
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

/// What people call a file of a hub repository, and where it is from; `name` is its place below the served PATH.
fn hub_names(repo: &Repo, name: &str) -> Option<(String, HubOrigin)> {
    let folder = repo.folder.file_name()?.to_str()?;
    let at = name.find(&format!("{folder}/"))?;
    let place = snapshot_place(&name[at + folder.len() + 1..])?;
    let revision = place.revision.to_owned();
    let is_main = repo.main_revision().is_none_or(|main| main == revision);
    let short = revision.get(..8).unwrap_or(&revision);
    let at = if is_main { String::new() } else { format!("@{short}") };
    Some((format!("{}{at}/{}", repo.name, place.path), HubOrigin { repo: repo.name.clone(), revision }))
}

fn has_gguf_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn begins_as_gguf(path: &Path) -> io::Result<bool> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut magic = Vec::new();
    fs::File::open(path)?.take(GGUF_MAGIC.len() as u64).read_to_end(&mut magic)?;
    Ok(magic == GGUF_MAGIC)
}

/// What a server of some paths would serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufFiles {
    /// The name that it would give to each file, and where that is.
    pub files: Vec<(String, PathBuf)>,
    /// What it would skip, and why, one sentence each.
    pub notes: Vec<String>,
}

/// Finds files as a server of these paths does.
///
/// # Errors
/// If a path cannot be served.
pub fn gguf_files(paths: &[PathBuf]) -> Result<GgufFiles, CatalogueError> {
    let before = Catalogue::default();
    let mut search = Search::new(&before);
    for path in paths {
        search.add(path)?;
    }
    let files = search.found.iter().filter_map(|found| Some((found.file.name.clone(), found.file.path()?.to_owned())));
    Ok(GgufFiles { files: files.collect(), notes: search.notes })
}
