//! The cache of the Hugging Face hub: `models--ORG--NAME/{refs,snapshots/COMMIT,blobs}`, where a snapshot's files are
//! links to blobs that are named by their hash. Layout: huggingface_hub's "Understand caching".

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The repository and commit that a model in a hub cache comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HubOrigin {
    /// `ORG/NAME`.
    pub repo: String,
    /// The commit, in hexadecimal.
    pub revision: String,
}

/// The folder of the cache, by the variables that the hub's own tools use, in their order: `HF_HUB_CACHE`, its old name
/// `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub`, `XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub`. `~` and
/// `$NAME` in values of the hub's own variables stand for what they stand for there. `variable` reads the environment;
/// empty values count as unset.
///
/// Source: `constants.py` of huggingface_hub, and its page "Environment variables".
pub fn hub_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let expanded = |name: &str| set(name).map(|value| expand(value, &set, home()));
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")));
    expanded("HF_HUB_CACHE")
        .or_else(|| expanded("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(expanded("HF_HOME")?.join("hub")))
        .or_else(|| Some(cache()?.join("huggingface").join("hub")))
}

/// Replaces `~` at the beginning, and `$NAME` and `${NAME}` where the variable is set, as Python's `expanduser` and
/// `expandvars` do. A value that is not UTF-8 stays as it is.
fn expand(value: PathBuf, set: &impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    let Some(text) = value.to_str() else { return value };
    let mut out = String::new();
    let mut rest = text;
    if let (Some(after), Some(home)) = (text.strip_prefix('~'), home.as_deref().and_then(Path::to_str))
        && (after.is_empty() || after.starts_with(['/', '\\']))
    {
        out.push_str(home);
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, behind) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(parts) => parts,
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        match set(name).as_deref().and_then(Path::to_str) {
            Some(value) => out.push_str(value),
            None => out.push_str(&rest[before.len()..rest.len() - behind.len()]),
        }
        rest = behind;
    }
    PathBuf::from(out + rest)
}

/// The prefix of the name of every repository's folder.
pub(crate) const REPO_PREFIX: &str = "models--";

/// A repository's folder in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// `ORG/NAME`.
    pub name: String,
    /// The folder itself, or the link to it if a link was found.
    pub folder: PathBuf,
}

/// A file of a repository as it is in one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotPlace<'p> {
    pub(crate) revision: &'p str,
    /// The file's path in the repository.
    pub(crate) path: &'p str,
}

impl Repo {
    /// Takes a folder for a repository's if it looks like one.
    pub fn at(folder: &Path) -> Option<Self> {
        let name = folder.file_name()?.to_str()?.strip_prefix(REPO_PREFIX)?;
        let complete = folder.join("snapshots").is_dir();
        complete.then(|| Self { name: name.replace("--", "/"), folder: folder.to_owned() })
    }

    /// The repository that a folder inside a cache belongs to.
    pub fn around(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    /// The commit that the branch `main` was at when it was last looked up.
    pub(crate) fn main_revision(&self) -> Option<String> {
        Some(fs::read_to_string(self.folder.join("refs").join("main")).ok()?.trim().to_owned())
    }
}

/// Takes `snapshots/COMMIT/PATH`, a name below a repository's folder, apart.
pub(crate) fn snapshot_place(below_repo: &str) -> Option<SnapshotPlace<'_>> {
    let (revision, path) = below_repo.strip_prefix("snapshots/")?.split_once('/')?;
    Some(SnapshotPlace { revision, path })
}

/// What people call a file of a hub repository (`ORG/NAME/FILE`, with `@COMMIT` where that is not the branch `main`),
/// and where it is from; `name` is its place below the folder that is searched.
pub(crate) fn hub_names(repo: &Repo, name: &str) -> Option<(String, HubOrigin)> {
    let folder = repo.folder.file_name()?.to_str()?;
    let at = name.find(&format!("{folder}/"))?;
    let place = snapshot_place(&name[at + folder.len() + 1..])?;
    let revision = place.revision.to_owned();
    let is_main = repo.main_revision().is_none_or(|main| main == revision);
    let short = revision.get(..8).unwrap_or(&revision);
    let at = if is_main { String::new() } else { format!("@{short}") };
    Some((format!("{}{at}/{}", repo.name, place.path), HubOrigin { repo: repo.name.clone(), revision }))
}

/// The hash that a canonical path into a cache's `blobs` has for a name: SHA-256 for large files, Git's SHA-1 for small
/// ones.
pub fn blob_hash(canonical: &Path) -> Option<String> {
    let name = canonical.file_name()?.to_str()?;
    let blobs = canonical.parent()?;
    let in_repo = blobs.ends_with("blobs") && Repo::at(blobs.parent()?).is_some();
    let is_hash = matches!(name.len(), 40 | 64) && is_hex(name);
    (in_repo && is_hash).then(|| name.to_owned())
}

/// Whether a name is a SHA-256 in small hexadecimal digits.
pub fn is_sha256(name: &str) -> bool {
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
        let all = [
            ("HF_HUB_CACHE", "/c"),
            ("HUGGINGFACE_HUB_CACHE", "/o"),
            ("HF_HOME", "/h"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/u"),
        ];
        for (skip, expected) in
            ["/c", "/o", "/h/hub", "/x/huggingface/hub", "/u/.cache/huggingface/hub"].iter().enumerate()
        {
            assert_eq!(folder(&all[skip..]), Some(expected.into()));
        }
        assert_eq!(folder(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Some("/h/hub".into()));
        assert_eq!(folder(&[]), None);
        for (value, expected) in [
            ("~", "/u/hub"),
            ("~/hf", "/u/hf/hub"),
            ("~other/hf", "~other/hf/hub"),
            ("$BASE/hf", "/b/hf/hub"),
            ("/x${BASE}y", "/x/by/hub"),
            ("/x/$UNSET/y$", "/x/$UNSET/y$/hub"),
        ] {
            assert_eq!(folder(&[("HF_HOME", value), ("HOME", "/u"), ("BASE", "/b")]), Some(expected.into()), "{value}");
        }
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
