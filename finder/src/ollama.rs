//! Ollama's store: `manifests/HOST/NAMESPACE/MODEL/TAG` are JSON lists of layers, `blobs/sha256-HASH` the layers. The
//! layer of the media type below is a GGUF file. Layout: `manifest` and `types/model` in
//! <https://github.com/ollama/ollama>.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::skipped::SkipReason;

const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// Size limit of a manifest, in bytes; real ones are far smaller.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The registry that Ollama leaves out of names, as it does the namespace `library`.
const USUAL_HOST: &str = "registry.ollama.ai";
const USUAL_NAMESPACE: &str = "library";

/// A model of the store.
pub(crate) struct StoredModel {
    /// Name that Ollama shows, such as `gpt-oss:20b`.
    pub(crate) name: String,
    /// Its GGUF file, or why there is none.
    pub(crate) blob: Result<PathBuf, SkipReason>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// Whether a folder is an Ollama model store.
pub(crate) fn is_store(folder: &Path) -> bool {
    folder.join("manifests").is_dir() && folder.join("blobs").is_dir()
}

/// All models of a store, by name.
pub(crate) fn models(store: &Path) -> Vec<StoredModel> {
    let mut manifests = Vec::new();
    collect(&store.join("manifests"), &mut Vec::new(), &mut manifests);
    manifests.sort();
    let mut models = Vec::new();
    for (place, path) in manifests {
        let name = model_name(&place);
        match read(&path) {
            Err(detail) => models.push(StoredModel { name, blob: Err(SkipReason::Manifest { detail }) }),
            Ok(manifest) => {
                let layers = manifest.layers.iter().filter(|layer| layer.media_type == MODEL_LAYER);
                models.extend(layers.map(|layer| StoredModel { name: name.clone(), blob: blob(store, &layer.digest) }));
            }
        }
    }
    models
}

/// Manifests lie four names deep: host, namespace, model, tag.
fn collect(folder: &Path, place: &mut Vec<String>, manifests: &mut Vec<(Vec<String>, PathBuf)>) {
    const NAMES: usize = 4;
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        place.push(name);
        if place.len() < NAMES && entry.path().is_dir() {
            collect(&entry.path(), place, manifests);
        } else if place.len() == NAMES && entry.path().is_file() {
            manifests.push((place.clone(), entry.path()));
        }
        place.pop();
    }
}

fn model_name(place: &[String]) -> String {
    match place {
        [host, namespace, model, tag] if host == USUAL_HOST && namespace == USUAL_NAMESPACE => format!("{model}:{tag}"),
        [host, namespace, model, tag] if host == USUAL_HOST => format!("{namespace}/{model}:{tag}"),
        place => place.join("/"),
    }
}

fn read(path: &Path) -> Result<Manifest, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// The file of a digest such as `sha256:0123…`; older versions used the digest as the file name. Anything that is no
/// digest has no file.
fn blob(store: &Path, digest: &str) -> Result<PathBuf, SkipReason> {
    let is_name = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let Some((kind, hash)) = digest.split_once(':').filter(|(kind, hash)| is_name(kind) && is_name(hash)) else {
        return Err(SkipReason::Manifest { detail: format!("{digest:?} is no digest") });
    };
    let blobs = store.join("blobs");
    let usual = blobs.join(format!("{kind}-{hash}"));
    let found = [usual.clone(), blobs.join(digest)].into_iter().find(|path| path.exists());
    found.ok_or(SkipReason::NoBlob { blob: usual })
}
