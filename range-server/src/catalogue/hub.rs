//! The cache of the Hugging Face hub: `models--ORG--NAME/{refs,snapshots/COMMIT,blobs}`, where a snapshot's files are
//! links to blobs that are named by their hash. Layout: huggingface_hub's "Understand caching".

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where a model in a hub cache is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HubOrigin {
    /// `ORG/NAME`.
    pub repo: String,
    /// The commit, in hexadecimal.
    pub revision: String,
}

/// The folder of the cache, by the variables that the hub's own tools use: `HF_HUB_CACHE`, else `HF_HOME/hub`, else
/// `huggingface/hub` in the user's cache folder. `variable` reads the environment; empty values count as unset.
pub fn hub_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME").or_else(|| set("USERPROFILE"))?.join(".cache")));
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(set("HF_HOME")?.join("hub")))
        .or_else(|| Some(cache()?.join("huggingface").join("hub")))
}

/// A repository's folder in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repo {
    /// `ORG/NAME`.
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

/// A file of a repository as it is in one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotPlace<'p> {
    pub(super) revision: &'p str,
    /// The file's path in the repository.
    pub(super) path: &'p str,
}

impl Repo {
    /// Takes a folder for a repository's if it looks like one.
    pub(super) fn at(folder: &Path) -> Option<Self> {
        let name = folder.file_name()?.to_str()?.strip_prefix("models--")?;
        let complete = folder.join("snapshots").is_dir();
        complete.then(|| Self { name: name.replace("--", "/"), folder: folder.to_owned() })
    }

    /// The repository that a folder inside a cache belongs to.
    pub(super) fn around(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    /// The commit that the branch `main` was at when it was last looked up.
    pub(super) fn main_revision(&self) -> Option<String> {
        Some(fs::read_to_string(self.folder.join("refs").join("main")).ok()?.trim().to_owned())
    }
}

/// Takes `snapshots/COMMIT/PATH`, a name below a repository's folder, apart.
pub(super) fn snapshot_place(below_repo: &str) -> Option<SnapshotPlace<'_>> {
    let (revision, path) = below_repo.strip_prefix("snapshots/")?.split_once('/')?;
    Some(SnapshotPlace { revision, path })
}

/// The hash that a canonical path into a cache's `blobs` has for a name: SHA-256 for large files, Git's SHA-1 for small
/// ones.
pub(super) fn blob_hash(canonical: &Path) -> Option<String> {
    let name = canonical.file_name()?.to_str()?;
    let blobs = canonical.parent()?;
    let in_repo = blobs.ends_with("blobs") && Repo::at(blobs.parent()?).is_some();
    let is_hash = matches!(name.len(), 40 | 64) && is_hex(name);
    (in_repo && is_hash).then(|| name.to_owned())
}

pub(crate) fn is_sha256(name: &str) -> bool {
    name.len() == 64 && is_hex(name)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_by_the_variables_of_the_hubs_tools() {
        let folder = |set: &[(&str, &str)]| {
            hub_folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        let all = [("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/u")];
        for (skip, expected) in ["/c", "/h/hub", "/x/huggingface/hub", "/u/.cache/huggingface/hub"].iter().enumerate() {
            assert_eq!(folder(&all[skip..]), Some(expected.into()));
        }
        assert_eq!(folder(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Some("/h/hub".into()));
        assert_eq!(folder(&[]), None);
    }

    #[test]
    fn places_in_snapshots() {
        let place = snapshot_place("snapshots/abc/sub/m.gguf").unwrap();
        assert_eq!((place.revision, place.path), ("abc", "sub/m.gguf"));
        for other in ["blobs/abc", "snapshots/abc", "refs/main", "m.gguf"] {
            assert_eq!(snapshot_place(other), None, "{other}");
        }
    }
}
