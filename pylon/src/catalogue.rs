//! Models on this machine: where people keep them, and what their headers say. Tensor data is not read.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gptoss_engine::{MemoryPlan, PlanOptions};
use gptoss_finder::{Findings, Links, SearchOptions, places};
use gptoss_gguf::split_name;
use gptoss_kernels::Limits;
use gptoss_model::{Header, Quiet, read_header};
use gptoss_source::Source;
use serde::Serialize;

use crate::backend::open_source;
use crate::environment::Environment;

/// A GGUF file that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoundModel {
    /// Name to use: the file's name without its ending, or what the environment calls it.
    pub id: String,
    /// Path of the file; for a split model, of its first part.
    pub path: PathBuf,
    /// Where it was found, such as `hub cache`.
    pub place: &'static str,
    /// Length of all parts together, in bytes.
    pub file_bytes: u64,
    /// Whether the engine can run it.
    pub supported: bool,
    /// Why the engine cannot run it, in words.
    pub reason: Option<String>,
    pub details: Option<Details>,
}

impl FoundModel {
    /// Why it cannot run, on one line: the beginning of a list.
    pub fn short_reason(&self) -> Option<String> {
        let mut lines = self.reason.as_ref()?.lines();
        let shown: Vec<&str> = lines.by_ref().take(2).collect();
        let rest = lines.count();
        let more = if rest > 0 { format!("; and {rest} more like it") } else { String::new() };
        Some(format!("{}{more}", shown.join(" ")))
    }
}

/// Facts from the header of a supported model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Details {
    pub name: String,
    pub layers: u32,
    pub experts: u32,
    pub context_tokens: u32,
    /// GPU memory that it takes with all experts and the default context.
    pub gpu_bytes: u64,
    /// The same with the fewest experts in GPU memory that can work.
    pub gpu_bytes_least: u64,
}

/// Something in one of the places that the search passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedFile {
    pub path: PathBuf,
    pub place: &'static str,
    pub reason: String,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    pub models: Vec<FoundModel>,
    pub skipped: Vec<SkippedFile>,
}

/// Finds models and reads their headers; those of `GPT_OSS_GGUF_PATH` come first, each file once.
pub fn search(environment: &Environment) -> Catalogue {
    let (listed, skipped) = list(environment);
    let models = listed.into_iter().map(|listed| examine(listed.id, listed.place, listed.path)).collect();
    Catalogue { models, skipped }
}

/// The file of the model that [`search`] calls `id`.
pub fn find(id: &str, environment: &Environment) -> Option<PathBuf> {
    list(environment).0.into_iter().find(|listed| listed.id == id).map(|listed| listed.path)
}

/// A file that nobody has looked into yet.
struct Listed {
    id: String,
    place: &'static str,
    path: PathBuf,
}

/// A file before it has an id of its own.
struct Candidate {
    /// Name that the tool gives it which manages it, if that is not the file's name.
    label: Option<String>,
    place: &'static str,
    path: PathBuf,
}

fn list(environment: &Environment) -> (Vec<Listed>, Vec<SkippedFile>) {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    if let Some(path) = &environment.path {
        let label = environment.model_id.clone();
        found.push(Candidate { label, place: "GPT_OSS_GGUF_PATH", path: path.clone() });
    }
    for place in places(|name| env::var_os(name).map(PathBuf::from)) {
        // The user of this program may read what links lead to.
        let options = SearchOptions { links: Links::Anywhere, depth: Some(place.depth) };
        let skip = |path, reason| SkippedFile { path, place: place.name, reason };
        match gptoss_finder::search(&place.folder, options) {
            Ok(Findings { files, skipped: passed_over }) => {
                let is_first = |name: &str| split_name(name).is_none_or(|(_, part, _)| part == 1);
                let firsts = files.into_iter().filter(|file| is_first(&file.name));
                found.extend(firsts.map(|file| Candidate {
                    label: file.label.filter(|_| file.hub.is_none()),
                    place: place.name,
                    path: file.path,
                }));
                skipped.extend(passed_over.iter().map(|it| skip(place.folder.join(&it.name), it.reason.to_string())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !place.folder.is_symlink() => {}
            Err(error) => skipped.push(skip(place.folder.clone(), error.to_string())),
        }
    }
    // The hub cache links to one file from several snapshots.
    let mut seen = HashSet::new();
    found.retain(|file| seen.insert(fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone())));

    let mut ids = HashSet::new();
    let listed = found.into_iter().map(|Candidate { label, place, path }| {
        let id = unused_id(label.unwrap_or_else(|| id_of(&path)), &mut ids);
        Listed { id, place, path }
    });
    (listed.collect(), skipped)
}

fn unused_id(wanted: String, used: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    let id = std::iter::once(wanted.clone()).chain(numbered).find(|id| !used.contains(id)).unwrap_or(wanted);
    used.insert(id.clone());
    id
}

/// The file's name without `.gguf` and without the numbers of a split.
fn id_of(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    match split_name(&name) {
        Some((stem, ..)) => stem.to_owned(),
        None => match name.rsplit_once('.') {
            Some((stem, extension)) if extension.eq_ignore_ascii_case("gguf") => stem.to_owned(),
            _ => name,
        },
    }
}

fn examine(id: String, place: &'static str, path: PathBuf) -> FoundModel {
    let (file_bytes, details) = match open_source(&path) {
        Ok(source) => (source.len_bytes(), details(source.as_ref())),
        Err(error) => (0, Err(error.to_string())),
    };
    let (details, reason) = match details {
        Ok(details) => (Some(details), None),
        Err(reason) => (None, Some(reason)),
    };
    FoundModel { id, path, place, file_bytes, supported: details.is_some(), reason, details }
}

fn details(source: &dyn Source) -> Result<Details, String> {
    let header = pollster::block_on(read_header(source, &Quiet)).map_err(|error| error.to_string())?;
    gptoss_model::tokenizer(&header.gguf).map_err(|error| error.to_string())?;
    let gpu_bytes = |expert_memory_bytes| plan_bytes(&header, expert_memory_bytes).map_err(|error| error.to_string());
    let all = gpu_bytes(None)?;
    let slot_bytes = all.expert_slot_bytes * u64::from(header.config.layers);
    let least = gpu_bytes(Some(slot_bytes * u64::from(header.config.experts_per_token)))?;
    Ok(Details {
        name: header.config.name.clone(),
        layers: header.config.layers,
        experts: header.config.experts,
        context_tokens: header.config.context_tokens,
        gpu_bytes: all.gpu_total_bytes,
        gpu_bytes_least: least.gpu_total_bytes,
    })
}

/// The plan for a device that grants whatever is asked for, because sizes barely depend on the limits.
fn plan_bytes(
    header: &Header,
    expert_memory_bytes: Option<u64>,
) -> Result<gptoss_protocol::MemoryPlan, gptoss_model::EngineError> {
    let unlimited = Limits {
        max_buffer_bytes: 1 << 50,
        max_binding_bytes: 1 << 50,
        max_workgroup_storage_bytes: 16 << 10,
        max_workgroups_per_dimension: 65535,
        rows_per_group: 8,
    };
    let options = PlanOptions { expert_memory_bytes, ..PlanOptions::for_model(&header.config) };
    Ok(MemoryPlan::new(&header.config, &header.inventory, &unlimited, &options)?.totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names_and_never_the_same_twice() {
        assert_eq!(id_of(Path::new("x/gpt-oss-20b-mxfp4.gguf")), "gpt-oss-20b-mxfp4");
        assert_eq!(id_of(Path::new("gpt-oss-120b-00001-of-00003.gguf")), "gpt-oss-120b");
        assert_eq!((id_of(Path::new("UP.GGUF")), id_of(Path::new("sha256-12"))), ("UP".into(), "sha256-12".into()));
        let mut used = HashSet::new();
        let ids: Vec<String> = (0..3).map(|_| unused_id("a".into(), &mut used)).collect();
        assert_eq!(ids, ["a", "a-2", "a-3"]);
    }

    #[test]
    fn the_demo_model_is_supported_and_damaged_files_say_why() {
        let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/gpt-oss-nano.gguf");
        let model = examine("nano".into(), "here", nano);
        let details = model.details.expect("supported");
        assert_eq!((model.supported, details.layers, details.experts), (true, 6, 8));
        assert!(details.gpu_bytes_least < details.gpu_bytes);
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), b"no GGUF at all").expect("written");
        let damaged = examine("x".into(), "here", file.path().to_owned());
        assert!(!damaged.supported && damaged.reason.is_some_and(|reason| reason.contains("GGUF")));
    }
}
