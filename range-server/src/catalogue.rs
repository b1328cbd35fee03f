//! The models of a server: opened at start, found by name, never by path.
//!
//! A request can only ever reach a file that is in here, so no cleverness in a URL leads anywhere else.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use thiserror::Error;

use crate::content::{Content, OpenFile, Version};
use crate::model::Summary;
use crate::service::is_taken;

/// The demo model, for a server without PATHs.
const DEMO_NAME: &str = "gpt-oss-nano.gguf";
const DEMO_BYTES: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

const GGUF_MAGIC: &[u8; 4] = b"GGUF";

/// Folders within folders are followed this far.
const MAX_DEPTH: u32 = 16;

/// What stays as it is in the path of a URL.
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
    /// A file that was named is no GGUF file.
    #[error("{} is not a GGUF file: it does not begin with the bytes \"GGUF\"", path.display())]
    NotGguf {
        /// The path as given.
        path: PathBuf,
    },
    /// A file name that no URL can carry.
    #[error("the name of {} is not UTF-8; rename it", path.display())]
    NameNotUtf8 {
        /// The path as given.
        path: PathBuf,
    },
    /// The paths hold no model at all.
    #[error("no .gguf file was found in the given folders")]
    Empty,
}

/// A model in the list of `/api/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Name within `/api/models/{id}`: letters, digits, `-`, `.` and `_` only.
    pub id: String,
    /// File name, with its folders below the served PATH.
    pub name: String,
    /// Where the file is: `/name`, or the same as `file_url` if that name is taken by the page or another file.
    pub url: String,
    /// Where the file is too, below `/api`.
    pub file_url: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// `general.architecture`; `None` if the header cannot be read.
    pub architecture: Option<String>,
    /// Whether the page can run it, as far as the header tells.
    pub supported: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// One model file.
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) content: Content,
    /// Whether `/name` leads here.
    named: bool,
    summary: Mutex<Option<(Version, Summary)>>,
}

/// All models of a server.
pub(crate) struct Catalogue {
    models: Vec<Arc<Model>>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
    notes: Vec<String>,
}

/// A file found below a PATH, before it has an id.
struct Found {
    name: String,
    content: Content,
}

impl Catalogue {
    /// Opens everything the paths lead to; the bundled demo model if there are none. Blocks.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, CatalogueError> {
        let mut search = Search::default();
        if paths.is_empty() {
            let content = Content::memory(Bytes::from_static(DEMO_BYTES));
            search.found.push(Found { name: DEMO_NAME.into(), content });
            search.notes.push("no PATH was given: serving the bundled demo model".into());
        }
        for path in paths {
            search.add(path)?;
        }
        if search.found.is_empty() {
            return Err(CatalogueError::Empty);
        }
        Ok(Self::index(search))
    }

    fn index(search: Search) -> Self {
        let mut catalogue =
            Self { models: Vec::new(), by_name: HashMap::new(), by_id: HashMap::new(), notes: search.notes };
        for Found { name, content } in search.found {
            let index = catalogue.models.len();
            let id = catalogue.free_id(&name);
            let holder = if is_taken(&name) { Some("the page or the API") } else { None };
            let holder = holder.or(catalogue.by_name.contains_key(&name).then_some("another file"));
            if let Some(holder) = holder {
                let note = format!("/{name} belongs to {holder}: the model {name} is only at {}", file_url(&id));
                catalogue.notes.push(note);
            } else {
                catalogue.by_name.insert(name.clone(), index);
            }
            catalogue.by_id.insert(id.clone(), index);
            let named = holder.is_none();
            catalogue.models.push(Arc::new(Model { id, name, content, named, summary: Mutex::new(None) }));
        }
        catalogue
    }

    /// An id after the file's name that no model has yet.
    fn free_id(&self, name: &str) -> String {
        let stem = name.strip_suffix(".gguf").unwrap_or(name);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' };
        let base: String = stem.chars().map(plain).collect();
        // Nothing but dots would mean a folder in a URL.
        let base = if base.bytes().all(|b| b == b'.') { "model".to_owned() } else { base };
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        candidates.find(|id| !self.by_id.contains_key(id)).unwrap_or(base)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Model>> {
        self.by_name.get(name).map(|&index| &self.models[index])
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
}

/// Ends in a file name, because that is what a client calls the file when it talks to its user.
fn file_url(id: &str) -> String {
    format!("/api/models/{id}/file/{id}.gguf")
}

impl Model {
    /// What to list; reads the header on the first call and when the file has changed since. Blocks.
    pub(crate) fn info(&self) -> ModelInfo {
        let file_url = file_url(&self.id);
        let url = if self.named { format!("/{}", utf8_percent_encode(&self.name, IN_PATH)) } else { file_url.clone() };
        let (size_bytes, summary) = match self.content.version() {
            Ok(version) => (version.len, self.summary(version)),
            Err(error) => {
                (0, Summary { architecture: None, obstacle: Some(format!("the file cannot be read: {error}")) })
            }
        };
        let Summary { architecture, obstacle } = summary;
        let (id, name, supported) = (self.id.clone(), self.name.clone(), obstacle.is_none());
        ModelInfo { id, name, url, file_url, size_bytes, architecture, supported, reason: obstacle }
    }

    fn summary(&self, version: Version) -> Summary {
        // A panic while reading would leave the old summary, which is checked against its version anyway.
        let mut known = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, summary)) if *of == version => summary.clone(),
            _ => {
                let summary = Summary::read(&self.content, &version);
                *known = Some((version, summary.clone()));
                summary
            }
        }
    }
}

/// Collects the files that paths lead to.
#[derive(Default)]
struct Search {
    found: Vec<Found>,
    notes: Vec<String>,
    /// Canonical paths already found, so that a file named twice is served once.
    seen: HashSet<PathBuf>,
}

impl Search {
    fn add(&mut self, path: &Path) -> Result<(), CatalogueError> {
        let open_error = |source| CatalogueError::Open { path: path.to_owned(), source };
        let canonical = path.canonicalize().map_err(open_error)?;
        if canonical.is_dir() {
            return self.walk(&canonical, &canonical, "", 0).map_err(open_error);
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| CatalogueError::NameNotUtf8 { path: path.to_owned() })?;
        if !self.seen.insert(canonical.clone()) {
            return Ok(());
        }
        match open_gguf(&canonical).map_err(open_error)? {
            Some(content) => self.found.push(Found { name: name.to_owned(), content }),
            None => return Err(CatalogueError::NotGguf { path: path.to_owned() }),
        }
        Ok(())
    }

    /// Takes every `.gguf` file below `folder`. What cannot be served is noted by its name below the root.
    fn walk(&mut self, root: &Path, folder: &Path, prefix: &str, depth: u32) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(file_name) = entry.file_name().into_string() else {
                self.notes.push(format!("skipped a file in /{prefix}: its name is not UTF-8"));
                continue;
            };
            let name = format!("{prefix}{file_name}");
            // Links to folders are not followed: they can form circles.
            if file_name.starts_with('.') {
                continue;
            } else if entry.file_type()?.is_dir() {
                if depth == MAX_DEPTH {
                    self.notes.push(format!("skipped /{name}: more than {MAX_DEPTH} folders deep"));
                } else if let Err(error) = self.walk(root, &entry.path(), &format!("{name}/"), depth + 1) {
                    self.notes.push(format!("skipped /{name}: {error}"));
                }
            } else if has_gguf_extension(&entry.path()) {
                self.add_entry(root, &entry.path(), name);
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, root: &Path, path: &Path, name: String) {
        let outcome = path.canonicalize().and_then(|canonical| {
            // A hub snapshot links to its blobs, which lie below the same root. A link that leads out of the root
            // would publish what nobody asked to publish.
            if !canonical.starts_with(root) {
                return Err(io::Error::other("it is a link that leads out of the served folder"));
            }
            if !self.seen.insert(canonical.clone()) {
                return Err(io::Error::other("it is the same file as one already served"));
            }
            open_gguf(&canonical)?.ok_or_else(|| io::Error::other("it does not begin with the bytes \"GGUF\""))
        });
        match outcome {
            Ok(content) => self.found.push(Found { name, content }),
            Err(error) => self.notes.push(format!("skipped /{name}: {error}")),
        }
    }
}

fn has_gguf_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Opens a file; `None` if it does not begin as a GGUF file does.
fn open_gguf(path: &Path) -> io::Result<Option<Content>> {
    let content = Content::File(Arc::new(OpenFile::open(path)?));
    let mut magic = [0; GGUF_MAGIC.len()];
    match content.read_exact_at(&mut magic, 0) {
        Ok(()) => Ok((magic == *GGUF_MAGIC).then_some(content)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
