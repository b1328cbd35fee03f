//! Hashes that somebody published of a file: what makes it more than a file without a fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gptoss_source::FileSource;
use serde::{Deserialize, Serialize};

use super::super::Sha256Hex;
use super::Check;
use crate::error::CliError;
use crate::gguf_file::{CHUNK_BYTES, read_chunks};
use crate::progress;

/// Version of gguf-serve's files of hashes that this code reads.
const HASHES_VERSION: u32 = 1;

/// The SHA-256 that a file should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Hexadecimal, in small letters.
    pub sha256: String,
    /// Who published it.
    pub by: String,
}

impl Published {
    fn new(text: &str, by: impl Into<String>) -> Option<Self> {
        let is_sha256 = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_sha256.then(|| Self { sha256: text.to_ascii_lowercase(), by: by.into() })
    }

    /// The published hash of the file at `path` as far as it is known on this machine: from the file's name in a store
    /// that names files by their contents (the hub's cache, Ollama's blobs), from a `.sha256` beside it, or from what
    /// `gguf-serve hash` wrote beside it.
    pub fn find(path: &Path) -> Option<Self> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        named_by_contents(&real).or_else(|| checksum_file(path)).or_else(|| gguf_serve_hashes(path))
    }

    /// Takes the hash that the user gave.
    ///
    /// # Errors
    /// It is not a SHA-256.
    pub fn given(text: &str) -> Result<Self, CliError> {
        Self::new(text, "--sha256").ok_or_else(|| CliError::Argument {
            what: "--sha256".to_owned(),
            got: text.to_owned(),
            expected: "64 hexadecimal digits for each file of the model".to_owned(),
        })
    }
}

fn named_by_contents(real: &Path) -> Option<Published> {
    let name = real.file_name()?.to_str()?;
    let is_hub_blob = real.parent()?.file_name()? == "blobs";
    match name.strip_prefix("sha256-") {
        Some(hash) => Published::new(hash, "the name that Ollama gave it"),
        None if is_hub_blob => Published::new(name, "its name in the hub's cache"),
        None => None,
    }
}

/// Reads `model.gguf.sha256`, as sha256sum writes it: the hash, then the file's name.
fn checksum_file(path: &Path) -> Option<Published> {
    let place = beside(path, ".sha256");
    let text = fs::read_to_string(&place).ok()?;
    let name = path.file_name()?.to_str()?;
    let line = text.lines().find(|line| line.trim_end().ends_with(name)).or(text.lines().next())?;
    Published::new(line.split_whitespace().next()?, place.display().to_string())
}

/// Reads `model.gguf.hashes.json`, which holds only for a file of one length and time.
fn gguf_serve_hashes(path: &Path) -> Option<Published> {
    #[derive(Deserialize)]
    struct Hashes {
        version: u32,
        modified_ns: u64,
        size_bytes: u64,
        sha256: String,
    }
    let place = beside(path, ".hashes.json");
    let hashes: Hashes = serde_json::from_slice(&fs::read(&place).ok()?).ok()?;
    let file = fs::metadata(path).ok()?;
    let modified_ns = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let is_of_file = (hashes.version, u128::from(hashes.modified_ns), hashes.size_bytes)
        == (HASHES_VERSION, modified_ns, file.len());
    is_of_file.then(|| Published::new(&hashes.sha256, place.display().to_string())).flatten()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Compares the files with a known hash, by reading all of each.
pub fn check_hashes(paths: &[PathBuf], published: &[Option<Published>]) -> Result<Check, CliError> {
    let (mut problems, mut compared) = (Vec::new(), 0);
    for (path, published) in paths.iter().zip(published) {
        let Some(Published { sha256, by }) = published else { continue };
        let got = sha256_of(path)?;
        compared += 1;
        if got != *sha256 {
            problems.push(format!("{} has SHA-256 {got}; expected {sha256}, says {by}", path.display()));
        }
    }
    let detail = match compared {
        0 => "none is published of this file: give one with --sha256".to_owned(),
        compared => format!("{compared} of {} files have a published SHA-256", paths.len()),
    };
    Ok(Check::new("hash", detail, problems))
}

fn sha256_of(path: &Path) -> Result<String, CliError> {
    use gptoss_source::Source;
    let source = FileSource::open(path)?;
    let bar = progress::bytes("hashing", source.len_bytes());
    let mut hash = Sha256Hex::default();
    read_chunks(&source, 0, source.len_bytes(), CHUNK_BYTES, |_, bytes| {
        hash.update(bytes);
        bar.inc(bytes.len() as u64);
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(hash.finish())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_found_where_others_leave_them() {
        let folder = tempfile::tempdir().unwrap();
        let hash = "0aF3".repeat(16);
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let model = write("m.gguf", "GGUF!");
        assert_eq!(Published::find(&model), None);
        let found = |path: &Path| Published::find(path).map(|published| published.sha256);
        write("m.gguf.sha256", &format!("{}  other.gguf\n{hash} *m.gguf\n", "1".repeat(64)));
        assert_eq!(found(&model), Some(hash.to_lowercase()));
        assert_eq!(found(&write(&format!("sha256-{hash}"), "")), Some(hash.to_lowercase()));
        assert_eq!(found(&write(&format!("blobs/{hash}"), "")), Some(hash.to_lowercase()));
        assert_eq!(found(&write(&format!("elsewhere/{hash}"), "")), None);
        let served = write("n.gguf", "GGUF!");
        let modified = fs::metadata(&served).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let json = |ns: u128| format!(r#"{{"version":1,"modified_ns":{ns},"size_bytes":5,"sha256":"{hash}"}}"#);
        write("n.gguf.hashes.json", &json(modified.as_nanos()));
        assert_eq!(found(&served), Some(hash.to_lowercase()));
        write("n.gguf.hashes.json", &json(modified.as_nanos() + 1));
        assert_eq!(found(&served), None, "of another version of the file");
        assert!(Published::given("12").is_err());
    }
}
