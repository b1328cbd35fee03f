//! Models on this machine: where people keep them, and what their headers say. Tensor data is not read.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use gptoss_engine::{Header, MemoryPlan, PlanOptions, Quiet, read_header};
use gptoss_gguf::split_name;
use gptoss_kernels::Limits;
use gptoss_source::Source;
use serde::Serialize;

use crate::backend::open_source;
use crate::environment::Environment;

/// A place to look for models.
struct Place {
    name: &'static str,
    folder: PathBuf,
    /// How many levels of folders below it are looked into.
    depth: u32,
}

/// A GGUF file that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoundModel {
    /// What to call it: the file's name without its ending, or what the environment calls it.
    pub id: String,
    /// Of a split model its first part.
    pub path: PathBuf,
    /// Where it was found, such as `hub cache`.
    pub place: &'static str,
    /// Of all parts together.
    pub file_bytes: u64,
    /// The engine can run it.
    pub supported: bool,
    /// Why it cannot.
    pub reason: Option<String>,
    pub details: Option<Details>,
}

impl FoundModel {
    /// Why it cannot run, on one line: of a list the beginning.
    pub fn short_reason(&self) -> Option<String> {
        let mut lines = self.reason.as_ref()?.lines();
        let shown: Vec<&str> = lines.by_ref().take(2).collect();
        let rest = lines.count();
        let more = if rest > 0 { format!("; and {rest} more like it") } else { String::new() };
        Some(format!("{}{more}", shown.join(" ")))
    }
}

/// What the header of a supported model says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Details {
    pub name: String,
    pub layers: u32,
    pub experts: u32,
    pub context_tokens: u32,
    /// GPU memory that it takes with all experts and the default context.
    pub gpu_bytes: u64,
    /// The same with as few experts in GPU memory as can work.
    pub gpu_bytes_least: u64,
}

/// Finds models and reads their headers; those of `GPT_OSS_GGUF_PATH` come first, each file once.
pub fn search(environment: &Environment) -> Vec<FoundModel> {
    list(environment).into_iter().map(|listed| examine(listed.id, listed.place, listed.path)).collect()
}

/// The file of the model that [`search`] calls `id`.
pub fn find(id: &str, environment: &Environment) -> Option<PathBuf> {
    list(environment).into_iter().find(|listed| listed.id == id).map(|listed| listed.path)
}

/// A file that nobody has looked into yet.
struct Listed {
    id: String,
    place: &'static str,
    path: PathBuf,
}

fn list(environment: &Environment) -> Vec<Listed> {
    let mut found = Vec::new();
    if let Some(path) = &environment.path {
        found.push(("GPT_OSS_GGUF_PATH", path.clone()));
    }
    for place in places() {
        let mut files = Vec::new();
        gguf_files(&place.folder, place.depth, &mut files);
        files.sort();
        found.extend(files.into_iter().map(|file| (place.name, file)));
    }
    // The hub cache links to one file from several snapshots.
    let mut seen = HashSet::new();
    found.retain(|(_, path)| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));

    let mut ids = HashSet::new();
    found
        .into_iter()
        .map(|(place, path)| {
            let named = environment.model_id.as_ref().filter(|_| environment.path.as_ref() == Some(&path));
            let id = unused_id(named.cloned().unwrap_or_else(|| id_of(&path)), &mut ids);
            Listed { id, place, path }
        })
        .collect()
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
        None => name.strip_suffix(".gguf").unwrap_or(&name).to_owned(),
    }
}

fn places() -> Vec<Place> {
    let mut places = vec![
        Place { name: "current folder", folder: ".".into(), depth: 0 },
        Place { name: "models here", folder: "models".into(), depth: 2 },
    ];
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = env::home_dir();
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let hub = variable("HF_HUB_CACHE")
        .or_else(|| variable("HF_HOME").map(|folder| folder.join("hub")))
        .or_else(|| in_home(".cache/huggingface/hub"));
    let system_cache = if cfg!(target_os = "macos") { "Library/Caches/llama.cpp" } else { ".cache/llama.cpp" };
    let llama = variable("LLAMA_CACHE").or_else(|| in_home(system_cache));
    // A model of the hub lies at models--{owner}--{name}/snapshots/{commit}/{file}, files in folders one deeper.
    places.extend(hub.map(|folder| Place { name: "hub cache", folder, depth: 4 }));
    places.extend(llama.map(|folder| Place { name: "llama.cpp cache", folder, depth: 0 }));
    places.extend(in_home("models").map(|folder| Place { name: "~/models", folder, depth: 3 }));
    places
}

/// Collects the GGUF files of a folder; of split models the first part. A folder that cannot be read has none.
fn gguf_files(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 && !name.starts_with('.') {
            gguf_files(&path, depth - 1, files);
        } else if !kind.is_dir() && name.ends_with(".gguf") && split_name(&name).is_none_or(|(_, part, _)| part == 1) {
            files.push(path);
        }
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
    gptoss_engine::tokenizer(&header.gguf).map_err(|error| error.to_string())?;
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

/// The plan for a device that grants whatever is asked for: sizes barely depend on the limits.
fn plan_bytes(
    header: &Header,
    expert_memory_bytes: Option<u64>,
) -> Result<gptoss_telemetry::MemoryPlan, gptoss_engine::EngineError> {
    let unlimited = Limits {
        max_buffer_bytes: 1 << 50,
        max_binding_bytes: 1 << 50,
        max_workgroup_storage_bytes: 16 << 10,
        max_workgroups_per_dimension: 65535,
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
        let mut used = HashSet::new();
        let ids: Vec<String> = (0..3).map(|_| unused_id("a".into(), &mut used)).collect();
        assert_eq!(ids, ["a", "a-2", "a-3"]);
    }

    #[test]
    fn folders_are_searched_as_deep_as_said_and_parts_of_splits_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("one/two");
        fs::create_dir_all(&deep).expect("folders");
        fs::create_dir_all(folder.path().join(".hidden")).expect("a folder");
        for name in
            ["a.gguf", "a.txt", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf", ".hidden/h.gguf", "one/b.gguf"]
        {
            fs::write(folder.path().join(name), b"GGUF").expect("a file");
        }
        fs::write(deep.join("c.gguf"), b"GGUF").expect("a file");
        for (depth, expected) in [(0, 2), (1, 3), (2, 4)] {
            let mut files = Vec::new();
            gguf_files(folder.path(), depth, &mut files);
            assert_eq!(files.len(), expected, "{files:?}");
        }
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
