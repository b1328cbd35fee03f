//! The models of a server: files opened at start, found by name, never by path.
//!
//! A request can only ever reach a file that is in here, so no cleverness in a URL leads anywhere else.

mod file;
mod search;
mod shelf;
mod summary;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gptoss_finder::HubOrigin;
use gptoss_gguf::{part_names, split_name};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use thiserror::Error;

pub(crate) use file::{ServedFile, open_file};
pub(crate) use search::Found;
pub use search::{GgufFiles, gguf_files};
pub(crate) use shelf::Shelf;
use summary::Summary;

use crate::content::Version;
use crate::hashes::HashQueue;

/// Characters that stay as they are in the path of a URL.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path that cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// The path does not exist or cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that was named is no GGUF file, neither by its name nor by its bytes.
    #[error(
        "{} is not a GGUF file: {}", path.display(), what.as_deref().unwrap_or("its name does not end in .gguf and it does not begin with the bytes \"GGUF\"")
    )]
    NotGguf {
        /// The path as given.
        path: PathBuf,
        /// What it is, where that is known.
        what: Option<String>,
    },
    /// A file name that no URL can carry.
    #[error("the name of {} is not UTF-8; rename it", path.display())]
    NameNotUtf8 {
        /// The path as given.
        path: PathBuf,
    },
    /// The paths hold no model at all.
    #[error("no .gguf file was found in {}{}", folders.join(", "), notes.iter().map(|note| format!("\n  {note}")).collect::<String>())]
    Empty {
        /// The paths as given.
        folders: Vec<String>,
        /// What was skipped in them, and why, one sentence each.
        notes: Vec<String>,
    },
}

/// A model in the list of `/api/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Name within `/api/models/{id}`: letters, digits, `-`, `.` and `_` only.
    pub id: String,
    /// Name of its first file.
    pub name: String,
    /// Where its first file is: `/name`, or the same as `file_url` if that name is taken by the page or another file.
    pub url: String,
    /// Where its first file is too, below `/api`.
    pub file_url: String,
    /// Length of all its files in bytes.
    pub size_bytes: u64,
    /// SHA-256 of its file in hexadecimal; `null` if it is not known or there are several files.
    pub sha256: Option<String>,
    /// `general.architecture`; `None` if the header cannot be read.
    pub architecture: Option<String>,
    /// How its weights are stored, by `general.file_type` or else by the type of most bytes of weights.
    pub quantisation: Option<String>,
    /// Whether the page can run it, as far as the headers tell.
    pub supported: bool,
    /// Why it cannot, in words.
    pub reason: Option<String>,
    /// All its files that are there, in order.
    pub files: Vec<FileInfo>,
    /// For a model in several files, their number and those that are missing.
    pub split: Option<SplitState>,
    /// The hub repository and commit that the model comes from, if it lies in a hub cache.
    pub hub: Option<HubOrigin>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// File name, with its folders below the served PATH.
    pub name: String,
    /// Where the file is, as in [`ModelInfo::url`].
    pub url: String,
    /// Where the file is too, below `/api`.
    pub file_url: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// SHA-256 in hexadecimal; `null` if it is not known.
    pub sha256: Option<String>,
}

/// The files of a split model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitState {
    /// Files that make the model.
    pub count: usize,
    /// File names of the missing ones.
    pub missing: Vec<String>,
}

/// A model: one file, or several that are by their names parts of one model.
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) files: Vec<Arc<ServedFile>>,
    /// Names that lead to each of `files`, in the same order; each file's own name comes first.
    names: Vec<Vec<String>>,
    hub: Option<HubOrigin>,
    /// What the headers say, with the versions of the files they were read from.
    summary: Mutex<Option<(Vec<Version>, Summary)>>,
}

/// All models of a server at one time.
#[derive(Default)]
pub(crate) struct Catalogue {
    models: Vec<Arc<Model>>,
    by_name: HashMap<String, (usize, Arc<ServedFile>)>,
    by_id: HashMap<String, usize>,
    notes: Vec<String>,
}

impl Catalogue {
    /// Gives every file a model, every model an id, and every name that `is_taken` does not claim its file.
    fn index(found: Vec<Found>, notes: Vec<String>, is_taken: &dyn Fn(&str) -> bool) -> Self {
        let mut catalogue = Self { notes, ..Self::default() };
        for group in group_parts(found) {
            catalogue.add(group, is_taken);
        }
        catalogue
    }

    fn add(&mut self, mut group: Vec<Found>, is_taken: &dyn Fn(&str) -> bool) {
        group.sort_by_key(|found| split_name(base_name(&found.file.name)).map(|(_, no, _)| no));
        let model = self.models.len();
        let id = self.free_id(&group[0].file.name);
        let mut names = Vec::new();
        for found in &group {
            let mut free = Vec::new();
            for file in std::iter::once(&found.file).chain(&found.aliases) {
                let name = &file.name;
                match self.holder(name, is_taken) {
                    None => {
                        self.by_name.insert(name.clone(), (model, Arc::clone(file)));
                        free.push(name.clone());
                    }
                    Some(holder) => {
                        let at = file_url(&id, &found.file.name);
                        self.notes.push(format!("/{name} belongs to {holder}: the model {name} is at {at}"));
                    }
                }
            }
            names.push(free);
        }
        self.by_id.insert(id.clone(), model);
        let hub = group[0].hub.clone();
        let files = group.into_iter().map(|found| found.file).collect();
        self.models.push(Arc::new(Model { id, files, names, hub, summary: Mutex::new(None) }));
    }

    /// The owner of a name that is taken.
    fn holder(&self, name: &str, is_taken: &dyn Fn(&str) -> bool) -> Option<&'static str> {
        if is_taken(name) {
            return Some("the page or the API");
        }
        self.by_name.contains_key(name).then_some("another file")
    }

    /// An id derived from the file's name that no other model has.
    fn free_id(&self, name: &str) -> String {
        let folder = &name[..name.len() - base_name(name).len()];
        let stem = match split_name(base_name(name)) {
            Some((stem, ..)) => format!("{folder}{stem}"),
            None => name.strip_suffix(".gguf").unwrap_or(name).to_owned(),
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' };
        let base: String = stem.chars().map(plain).collect();
        // A name of dots alone would mean a folder in a URL.
        let base = if base.bytes().all(|b| b == b'.') { "model".to_owned() } else { base };
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        candidates.find(|id| !self.by_id.contains_key(id)).unwrap_or(base)
    }

    /// The file at `/name`, and its model.
    pub(crate) fn by_name(&self, name: &str) -> Option<(&Arc<Model>, &Arc<ServedFile>)> {
        let (model, file) = self.by_name.get(name)?;
        Some((&self.models[*model], file))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Arc<Model>> {
        self.by_id.get(id).map(|&index| &self.models[index])
    }

    pub(crate) fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// What whoever started the server should know about the paths.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Carries over what is known of models that have not changed.
    fn inherit(&mut self, before: &Self) {
        for model in &mut self.models {
            let same = |other: &&Arc<Model>| {
                other.names == model.names
                    && other.files.len() == model.files.len()
                    && other.files.iter().zip(&model.files).all(|(a, b)| Arc::ptr_eq(a, b))
            };
            if let Some(known) = before.by_id(&model.id).filter(same) {
                *model = Arc::clone(known);
            }
        }
    }
}

/// Puts files together that are parts of one model by their names, which is how the page finds them too. Models stand
/// in the order of their first file.
fn group_parts(found: Vec<Found>) -> Vec<Vec<Found>> {
    let mut groups: Vec<Vec<Found>> = Vec::new();
    let mut by_first_name: HashMap<String, usize> = HashMap::new();
    for found in found {
        let base = base_name(&found.file.name);
        let folder = &found.file.name[..found.file.name.len() - base.len()];
        let key = format!("{folder}{}", part_names(base)[0]);
        // Several PATHs may hold files of one name; a model has each part once.
        let is_part = split_name(base).is_some();
        let place = by_first_name
            .get(&key)
            .copied()
            .filter(|&place: &usize| is_part && groups[place].iter().all(|other| other.file.name != found.file.name));
        match place {
            Some(place) => groups[place].push(found),
            None => {
                by_first_name.insert(key, groups.len());
                groups.push(vec![found]);
            }
        }
    }
    groups
}

/// The last name of a path below the served folder.
pub(crate) fn base_name(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

/// Ends in the file's own name: by that name clients call the file, and find the other parts of its model.
fn file_url(id: &str, name: &str) -> String {
    format!("/api/models/{id}/file/{}", utf8_percent_encode(base_name(name), IN_PATH))
}

impl Model {
    /// Its file of this name, without folders.
    pub(crate) fn file(&self, base: &str) -> Option<&Arc<ServedFile>> {
        self.files.iter().find(|file| base_name(&file.name) == base)
    }

    /// What to list; reads headers on the first call and when a file has changed since. Blocks.
    pub(crate) fn info(&self, hashes: &HashQueue) -> ModelInfo {
        let files = self.files.iter().zip(&self.names).map(|(file, names)| self.file_info(file, names, hashes));
        let files: Vec<FileInfo> = files.collect();
        let Summary { architecture, quantisation, obstacle } = self.summary();
        let sha256 = if let [only] = &files[..] { only.sha256.clone() } else { None };
        let first = &files[0];
        ModelInfo {
            id: self.id.clone(),
            name: first.name.clone(),
            url: first.url.clone(),
            file_url: first.file_url.clone(),
            size_bytes: files.iter().map(|file| file.size_bytes).sum(),
            sha256,
            architecture,
            quantisation,
            supported: obstacle.is_none(),
            reason: obstacle,
            split: self.split(),
            hub: self.hub.clone(),
            files,
        }
    }

    fn file_info(&self, file: &ServedFile, names: &[String], hashes: &HashQueue) -> FileInfo {
        let file_url = file_url(&self.id, &file.name);
        let version = file.current().map(|(_, version)| version).ok();
        if let Some(version) = &version {
            hashes.look_up(file, version);
        }
        FileInfo {
            name: file.name.clone(),
            url: names
                .first()
                .map_or_else(|| file_url.clone(), |name| format!("/{}", utf8_percent_encode(name, IN_PATH))),
            file_url,
            size_bytes: version.as_ref().map_or(0, |version| version.len),
            sha256: version.and_then(|version| file.sha256(&version)),
        }
    }

    fn split(&self) -> Option<SplitState> {
        let base = base_name(&self.files[0].name);
        split_name(base)?;
        let names = part_names(base);
        let count = names.len();
        let missing = names.into_iter().filter(|name| self.file(name).is_none()).collect();
        Some(SplitState { count, missing })
    }

    fn summary(&self) -> Summary {
        let contents = self.files.iter().map(|file| {
            let (content, version) = file.current()?;
            Ok((base_name(&file.name).to_owned(), content, version))
        });
        let contents = match contents.collect::<io::Result<Vec<_>>>() {
            Ok(contents) => contents,
            Err(error) => return Summary::unreadable(&error),
        };
        let versions: Vec<Version> = contents.iter().map(|(.., version)| version.clone()).collect();
        // A panic while reading would leave the old summary, which is checked against its versions anyway.
        let mut known = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, summary)) if *of == versions => summary.clone(),
            _ => {
                let summary = Summary::read(&contents);
                *known = Some((versions, summary.clone()));
                summary
            }
        }
    }
}
