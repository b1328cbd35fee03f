//! Looks through a folder.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::hub::{HubOrigin, REPO_PREFIX, Repo, hub_names};
use crate::ollama;
use crate::skipped::{SkipReason, Skipped};

/// How many levels of folders are searched unless [`SearchOptions::depth`] says otherwise.
pub const MAX_DEPTH: u32 = 16;

/// Which links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// Links to files that lead to somewhere inside the folder (inside the repository, for a folder in a hub cache).
    #[default]
    Inside,
    /// All of them, to folders too.
    Anywhere,
}

/// How to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchOptions {
    /// Which links lead to files or folders that count as found.
    pub links: Links,
    /// How many levels of folders are searched; deeper ones are ignored silently. `None` means [`MAX_DEPTH`], and
    /// deeper folders are reported as skipped.
    pub depth: Option<u32>,
}

/// A file that is a GGUF file by its name, or by what Ollama says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// Its path below the folder, with forward slashes.
    pub name: String,
    /// What people call it where that is something else: `ORG/NAME/FILE` of the hub, `gpt-oss:20b` of Ollama.
    pub label: Option<String>,
    /// Where it was found.
    pub path: PathBuf,
    /// The file that the path leads to: the same path without links.
    pub target: PathBuf,
    /// The folder that links must not lead out of, itself free of links; `None` where they may.
    pub root: Option<PathBuf>,
    /// The hub repository and commit that the file comes from, if it lies in a hub cache.
    pub hub: Option<HubOrigin>,
}

/// What a search found, in the order of names, and what it passed over.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files that can be opened, sorted by name.
    pub files: Vec<FoundFile>,
    /// Files and folders that were passed over, each with the reason.
    pub skipped: Vec<Skipped>,
}

/// Finds every file below `folder` whose name ends in `.gguf` (in upper or lower case), and the models of an Ollama
/// store. Hidden files and folders belong to tools and are ignored silently. A file with several names is found under
/// each.
///
/// # Errors
/// The folder itself cannot be read.
pub fn search(folder: &Path, options: SearchOptions) -> io::Result<Findings> {
    let canonical = folder.canonicalize()?;
    // A snapshot of a hub cache links to the blobs beside it.
    let around = Repo::around(&canonical);
    let root = around.as_ref().map_or(canonical.as_path(), |repo| repo.folder.as_path());
    let root = (options.links == Links::Inside).then_some(root);
    let mut walk = Walk { root, options, findings: Findings::default(), searched: HashSet::from([canonical.clone()]) };
    walk.folder(Place { repo: None, depth: 0 }, folder, "")?;
    Ok(walk.findings)
}

/// Whether a name ends in `.gguf`.
pub fn has_gguf_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

struct Walk<'r> {
    root: Option<&'r Path>,
    options: SearchOptions,
    findings: Findings,
    /// Canonical paths of the folders searched so far, so that links among them form no circle.
    searched: HashSet<PathBuf>,
}

/// Where in the search a folder is.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// The hub repository that this is in.
    repo: Option<&'p Repo>,
    depth: u32,
}

impl Walk<'_> {
    fn folder(&mut self, place: Place<'_>, folder: &Path, prefix: &str) -> io::Result<()> {
        if ollama::is_store(folder) {
            self.store(folder, prefix);
        }
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        // If several snapshots have the same file, the snapshot of the main branch names it. Links to folders come
        // last, so that a folder is known by its own name.
        let snapshots = place.repo.filter(|repo| folder == repo.folder.join("snapshots"));
        let main = snapshots.and_then(Repo::main_revision);
        entries.sort_by_key(|entry| {
            let name = entry.file_name();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let is_linked_folder = is_link && entry.path().is_dir();
            (is_linked_folder, main.as_ref().is_none_or(|main| name != main.as_str()), name)
        });
        for entry in entries {
            let Ok(file_name) = entry.file_name().into_string() else {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                self.skip(name, SkipReason::NameNotUtf8);
                continue;
            };
            if file_name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            if let Err(reason) = self.entry(place, &entry.path(), &file_name, &name) {
                self.skip(name, reason);
            }
        }
        Ok(())
    }

    fn entry(&mut self, place: Place<'_>, path: &Path, file_name: &str, name: &str) -> Result<(), SkipReason> {
        let kind = fs::symlink_metadata(path).map_err(SkipReason::Io)?.file_type();
        if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
            return self.inner_folder(place, path, name, kind.is_symlink());
        }
        if !has_gguf_extension(path) {
            if kind.is_symlink() && file_name.starts_with(REPO_PREFIX) {
                self.target(path)?;
            }
            return SkipReason::of_name(file_name).map_or(Ok(()), Err);
        }
        let target = self.target(path)?;
        let (label, hub) = match place.repo.and_then(|repo| hub_names(repo, name)) {
            Some((label, origin)) => (Some(label), Some(origin)),
            None => (None, None),
        };
        self.take(FoundFile { name: name.to_owned(), label, path: path.to_owned(), target, root: None, hub });
        Ok(())
    }

    fn inner_folder(&mut self, place: Place<'_>, path: &Path, name: &str, is_link: bool) -> Result<(), SkipReason> {
        if is_link && self.options.links == Links::Inside {
            let target = path.canonicalize().map_err(SkipReason::Io)?;
            return Err(SkipReason::LinkedFolder { target });
        }
        match self.options.depth {
            Some(depth) if place.depth == depth => return Ok(()),
            None if place.depth == MAX_DEPTH => return Err(SkipReason::TooDeep { limit: MAX_DEPTH }),
            _ => {}
        }
        if !self.searched.insert(path.canonicalize().map_err(SkipReason::Io)?) {
            return Err(SkipReason::SearchedAlready);
        }
        let repo = Repo::at(path);
        let place = Place { repo: repo.as_ref().or(place.repo), depth: place.depth + 1 };
        self.folder(place, path, &format!("{name}/")).map_err(SkipReason::Io)
    }

    fn store(&mut self, store: &Path, prefix: &str) {
        for model in ollama::models(store) {
            let found = model.blob.and_then(|blob| {
                let target = self.target(&blob)?;
                let blob_name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let name = format!("{prefix}blobs/{blob_name}");
                Ok(FoundFile { name, label: Some(model.name.clone()), path: blob, target, root: None, hub: None })
            });
            match found {
                Ok(file) => self.take(file),
                Err(reason) => self.skip(format!("{prefix}{}", model.name), reason),
            }
        }
    }

    /// Where a path leads, which has to be a file that links may lead to.
    fn target(&self, path: &Path) -> Result<PathBuf, SkipReason> {
        let target = path.canonicalize().map_err(|error| match fs::read_link(path) {
            Ok(target) if error.kind() == io::ErrorKind::NotFound => SkipReason::Dangling { target },
            _ => SkipReason::Io(error),
        })?;
        if self.root.is_some_and(|root| !target.starts_with(root)) {
            return Err(SkipReason::LeadsOut { target });
        }
        Ok(target)
    }

    fn take(&mut self, file: FoundFile) {
        self.findings.files.push(FoundFile { root: self.root.map(Path::to_owned), ..file });
    }

    fn skip(&mut self, name: String, reason: SkipReason) {
        self.findings.skipped.push(Skipped { name, reason });
    }
}
