//! What `/api` answers: JSON for programs.

use std::io;
use std::sync::Arc;

use hyper::header::RETRY_AFTER;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::catalogue::{Catalogue, Model, ModelInfo, ServedFile};
use crate::hashes::{CHUNK_BYTES, HashQueue, SlotState, hashed_bytes};
use crate::page::{Page, PageSource};
use crate::reply::Reply;

/// Version of the JSON under `/api`; changes when a client has to.
const VERSION: u32 = 1;

pub(crate) const NO_SUCH_ROUTE: &str =
    "the API has /api/health, /api/models, /api/models/{id}/file/{name} and /api/models/{id}/hashes\n";

/// Whether `/api/` with this behind it is the API's to answer, be it with 404.
pub(crate) fn is_route(rest: &str) -> bool {
    let first = rest.split('/').next().unwrap_or(rest);
    rest.is_empty() || rest == "health" || first == "models"
}

pub(crate) fn health(page: &Page, catalogue: &Catalogue) -> Value {
    let page = match page.source() {
        PageSource::Embedded => "embedded",
        PageSource::Folder(_) => "folder",
        PageSource::Missing => "missing",
    };
    json!({
        "version": VERSION,
        "status": "ok",
        "server": concat!("gguf-serve/", env!("CARGO_PKG_VERSION")),
        "models": catalogue.models().len(),
        "page": page,
    })
}

pub(crate) fn models(models: &[ModelInfo]) -> Value {
    json!({ "version": VERSION, "models": models })
}

pub(crate) fn no_model(method: &Method) -> Reply {
    Reply::not_found(method, "no model has that id; /api/models lists what there is\n")
}

/// The hashes of a model's files, or how far they are.
pub(crate) struct HashesAnswer {
    complete: bool,
    body: Value,
}

impl HashesAnswer {
    pub(crate) fn reply(&self, method: &Method) -> Reply {
        if self.complete {
            return Reply::json(method, StatusCode::OK, &self.body);
        }
        let mut reply = Reply::json(method, StatusCode::ACCEPTED, &self.body);
        reply.set(RETRY_AFTER, "1");
        reply
    }
}

/// Starts what has not been computed. Blocks for as long as looking at kept hashes takes.
pub(crate) fn hashes(queue: &HashQueue, model: &Model) -> io::Result<HashesAnswer> {
    let files = model.files.iter().map(|file| file_hashes(queue, file)).collect::<io::Result<Vec<_>>>()?;
    let complete = files.iter().all(|file| !file["sha256"].is_null());
    let status = if complete { "complete" } else { "computing" };
    Ok(HashesAnswer { complete, body: json!({ "version": VERSION, "id": model.id, "status": status, "files": files }) })
}

fn file_hashes(queue: &HashQueue, file: &Arc<ServedFile>) -> io::Result<Value> {
    let (content, version) = file.current()?;
    let (size_bytes, etag) = (version.len, version.etag.clone());
    let (hashed_bytes, sha256, chunks) = match queue.request(file, content, version) {
        SlotState::Known(hashes) => (size_bytes, json!(hashes.sha256), json!(hashes.chunks)),
        SlotState::Pending(progress) => (hashed_bytes(&progress), Value::Null, Value::Null),
        SlotState::Failed(error) => {
            file.hashes.forget();
            return Err(io::Error::other(error));
        }
    };
    Ok(json!({
        "name": file.name,
        "size_bytes": size_bytes,
        "etag": etag,
        "hashed_bytes": hashed_bytes,
        "sha256": sha256,
        "chunk_bytes": CHUNK_BYTES,
        "chunks": chunks,
    }))
}
