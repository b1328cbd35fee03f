//! `gguf-serve hash`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use gguf_serve::hashes::{FileHashes, HashStore, HashTarget};
use gguf_serve::{GgufFiles, gguf_files};
use serde_json::json;

use crate::arguments::{HashArguments, hash_cache};
use crate::report::say;

/// Hashes all files, the good ones also after a bad one.
pub fn run(arguments: &HashArguments) -> anyhow::Result<ExitCode> {
    let GgufFiles { files, notes } = gguf_files(&arguments.paths)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    anyhow::ensure!(!files.is_empty(), "no .gguf file was found there");
    let store = HashStore::new(hash_cache());
    let mut all_well = true;
    for (name, path) in &files {
        let outcome = hash_one(name, path, &store, arguments.verify);
        all_well &= outcome.is_ok();
        match outcome {
            Ok(done) if arguments.json => say(done.to_json(name)),
            Ok(done) => say(format_args!("{}  {name}  {}", done.hashes.sha256, done.what)),
            Err(error) if arguments.json => say(json!({ "event": "fault", "name": name, "text": error.to_string() })),
            Err(error) => eprintln!("gguf-serve: {name}: {error}"),
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Done {
    hashes: FileHashes,
    /// Where the hashes are from, or where they went.
    what: String,
}

impl Done {
    fn to_json(&self, name: &str) -> serde_json::Value {
        let FileHashes { size_bytes, sha256, chunks, .. } = &self.hashes;
        json!({
            "event": "hash",
            "name": name,
            "size_bytes": size_bytes,
            "sha256": sha256,
            "chunks": chunks.len(),
            "text": self.what,
        })
    }
}

fn hash_one(name: &str, path: &Path, store: &HashStore, verify: bool) -> anyhow::Result<Done> {
    let target = HashTarget::open(path)?;
    let kept = store.find(path, target.size_bytes(), target.modified_ns());
    if let Some(hashes) = kept.clone().filter(|_| !verify) {
        return Ok(Done { hashes, what: "kept from before; --verify computes it again".into() });
    }
    let mut progress = Progress::new(name, target.size_bytes());
    let hashes = target.hash(|done| {
        progress.show(done);
        Ok(())
    });
    drop(progress);
    let hashes = hashes?;
    if let Some(named) = target.named().filter(|named| *named != hashes.sha256) {
        anyhow::bail!(
            "it is damaged: its SHA-256 is {}, its hub cache calls it {named}; download it again",
            hashes.sha256
        );
    }
    match kept {
        Some(kept) if kept == hashes => Ok(Done { hashes, what: "verified: the same as before".into() }),
        Some(kept) => {
            let first = kept.chunks.iter().zip(&hashes.chunks).position(|(a, b)| a != b).unwrap_or(0);
            let offset = first as u64 * hashes.chunk_bytes;
            anyhow::bail!(
                "it is damaged: its bytes changed though its length and time did not, first in the {} bytes from {offset} \
                 on; download it again",
                hashes.chunk_bytes
            )
        }
        None => {
            let kept_in = store.save_beside(path, target.modified_ns(), &hashes)?;
            let kept_in = kept_in.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Done { hashes, what: format!("kept in {kept_in}") })
        }
    }
}

/// A line that shows how far it is, where somebody can be looking.
struct Progress<'n> {
    name: &'n str,
    size_bytes: u64,
    shown_percent: Option<u64>,
    on_terminal: bool,
}

impl<'n> Progress<'n> {
    fn new(name: &'n str, size_bytes: u64) -> Self {
        Self { name, size_bytes, shown_percent: None, on_terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64) {
        let percent = done * 100 / self.size_bytes.max(1);
        if self.on_terminal && self.shown_percent != Some(percent) {
            self.shown_percent = Some(percent);
            // Nothing depends on its being seen.
            let _ = write!(io::stderr(), "\r{} {percent} %", self.name);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown_percent.is_some() {
            // Back to the beginning, and nothing from there on.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
