//! From a request to its answer.

use std::io;
use std::time::{Instant, SystemTime};

use gptoss_gguf::split_name;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::access::{AccessLog, PendingRecord};
use crate::body::{LoggedBody, Payload};
use crate::catalogue::{Catalogue, ModelInfo};
use crate::content::{Content, Version};
use crate::cors::OriginList;
use crate::host::HostList;
use crate::page::{Page, PageSource};
use crate::plan::{ALLOWED_METHODS, Facts, Plan, plan};

/// Version of the JSON under `/api`; changes when a client has to.
const API_VERSION: u32 = 1;

/// Where the page is; its files are below. The same as `public_url` in Trunk.toml, which the page's links are built on.
const PAGE_PATH: &str = "gptoss";
const API_PATH: &str = "api";
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// Model bytes are kept out of the browser's HTTP cache: Chromium serialises parallel ranges of one URL behind a
/// cache writer, and has answered from a cached part as if it were the whole.
const NO_STORE: &str = "no-store";
/// Page files are kept, and asked about each time.
const NO_CACHE: &str = "no-cache";

const PAGE_MISSING: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>gguf-serve</title><link rel="icon" href="data:,"></head>
<body>
<h1>This gguf-serve was built without the page</h1>
<p>In the project's folder, run <code>cargo xtask demo</code>, which builds everything and opens the page.</p>
<p>Or run <code>trunk build</code> and build gguf-serve again; or start this one with <code>--web web/dist</code>.</p>
<p>The models are served all the same: <a href="/api/models">/api/models</a>.</p>
</body></html>
"#;

/// Everything a request is answered from.
pub(crate) struct Service {
    pub(crate) hosts: HostList,
    pub(crate) origins: OriginList,
    pub(crate) page: Page,
    pub(crate) catalogue: Catalogue,
    pub(crate) log: Option<AccessLog>,
}

/// Whether a name lies where the page or the API is, so that no model can be reached by it.
pub(crate) fn is_taken(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    first == API_PATH || first == PAGE_PATH
}

/// An answer before the headers that every answer has.
struct Reply {
    response: Response<Payload>,
    range: Option<(u64, u64)>,
}

/// Something whose bytes a request can ask for.
struct Resource {
    content: Content,
    content_type: &'static str,
    cache_control: &'static str,
    /// Value of Cross-Origin-Resource-Policy. Models may be used by pages that isolate themselves.
    policy: &'static str,
}

impl Service {
    /// Answers one request; there is no other outcome.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<LoggedBody> {
        let target = request.uri().path_and_query().map_or("*", |target| target.as_str()).to_owned();
        let record = PendingRecord::new(request.method().clone(), target, Instant::now(), self.log.clone());
        let Reply { mut response, range } = self.reply(request.method(), request.uri(), request.headers()).await;
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.origins.annotate(request.headers(), headers);
        let record = record.answered(response.status(), range);
        response.map(|payload| LoggedBody::new(payload, record))
    }

    async fn reply(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Reply {
        if let Err(fault) = self.hosts.check(uri, headers) {
            return message(method, fault.status(), TEXT, fault.to_string());
        }
        match *method {
            Method::GET | Method::HEAD => self.route(method, uri, headers).await,
            Method::OPTIONS => {
                let mut reply = empty(StatusCode::NO_CONTENT);
                reply.set(ALLOW, ALLOWED_METHODS);
                self.origins.preflight(headers, reply.response.headers_mut());
                reply
            }
            _ => method_not_allowed(),
        }
    }

    async fn route(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Reply {
        // Decoded once; what it leads to is looked up by name, so there is nothing to climb out of.
        let Ok(path) = percent_decode_str(uri.path().strip_prefix('/').unwrap_or("*")).decode_utf8() else {
            return not_found(method, "no name here is anything but UTF-8\n");
        };
        let path = &*path;
        if path.is_empty() {
            return to_page(uri.query());
        }
        match path.split_once('/') {
            Some((API_PATH, rest)) => return self.api(method, rest, headers).await,
            Some((PAGE_PATH, name)) => return self.page_file(method, name, headers).await,
            None if path == PAGE_PATH => return self.page_file(method, "", headers).await,
            _ => {}
        }
        match self.catalogue.by_name(path) {
            Some(model) => serve(method, headers, model_resource(&model.content)).await,
            None => not_found(method, "no such file; /api/models lists what there is\n"),
        }
    }

    /// A file of the page by its name below the trunk output folder; without a name, the page.
    async fn page_file(&self, method: &Method, name: &str, headers: &HeaderMap) -> Reply {
        let Some(asset) = (if name.is_empty() { self.page.index() } else { self.page.asset(name) }) else {
            return match self.page.source() {
                PageSource::Missing => message(method, StatusCode::SERVICE_UNAVAILABLE, HTML, PAGE_MISSING),
                _ => not_found(method, "the page has no such file\n"),
            };
        };
        let (content, content_type) = (asset.content.clone(), asset.content_type);
        let resource = Resource { content, content_type, cache_control: NO_CACHE, policy: "same-origin" };
        serve(method, headers, resource).await
    }

    async fn api(&self, method: &Method, path: &str, headers: &HeaderMap) -> Reply {
        let segments: Vec<&str> = path.split('/').collect();
        match segments[..] {
            ["health"] => json_message(method, &self.health()),
            ["models"] => match self.model_infos().await {
                Ok(models) => json_message(method, &json!({ "version": API_VERSION, "models": models })),
                Err(error) => server_error(method, &error),
            },
            ["models", id, "file"] => self.model_file(method, id, headers).await,
            ["models", id, "file", name] => match id_of_file(id, name) {
                Some(id) => self.model_file(method, id, headers).await,
                None => not_found(method, "the model has no such file; /api/models lists what there is\n"),
            },
            _ => not_found(method, "the API has /api/health, /api/models and /api/models/{id}/file\n"),
        }
    }

    async fn model_file(&self, method: &Method, id: &str, headers: &HeaderMap) -> Reply {
        match self.catalogue.by_id(id) {
            Some(model) => serve(method, headers, model_resource(&model.content)).await,
            None => not_found(method, "no model has that id; /api/models lists what there is\n"),
        }
    }

    fn health(&self) -> serde_json::Value {
        let page = match self.page.source() {
            PageSource::Embedded => "embedded",
            PageSource::Folder(_) => "folder",
            PageSource::Missing => "missing",
        };
        json!({
            "version": API_VERSION,
            "status": "ok",
            "server": concat!("gguf-serve/", env!("CARGO_PKG_VERSION")),
            "models": self.catalogue.models().len(),
            "page": page,
        })
    }

    /// The list of models, with headers read where that has not been done yet.
    pub(crate) async fn model_infos(&self) -> io::Result<Vec<ModelInfo>> {
        let models = self.catalogue.models().to_vec();
        blocking(move || models.iter().map(|model| model.info()).collect()).await
    }
}

/// The id of the file `name` below a model's id: the model's own, or that of another part of the same split model, because
/// parts are found by their names in one folder.
fn id_of_file<'a>(id: &str, name: &'a str) -> Option<&'a str> {
    let file_id = name.strip_suffix(".gguf")?;
    let model_of = |id: &str| split_name(&format!("{id}.gguf")).map(|(stem, _, count)| (stem.to_owned(), count));
    let is_sibling = || model_of(id).is_some_and(|model| model_of(file_id) == Some(model));
    (file_id == id || is_sibling()).then_some(file_id)
}

fn model_resource(content: &Content) -> Resource {
    Resource { content: content.clone(), content_type: BINARY, cache_control: NO_STORE, policy: "cross-origin" }
}

/// Runs what may wait for a disk where that disturbs nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Carries out the plan for a resource.
async fn serve(method: &Method, request: &HeaderMap, resource: Resource) -> Reply {
    let content = resource.content.clone();
    let version = match blocking(move || content.version()).await.flatten() {
        Ok(version) => version,
        Err(error) => return server_error(method, &error),
    };
    let facts = version.facts(SystemTime::now());
    let mut reply = match plan(method, request, &facts) {
        Plan::Whole => body(method, StatusCode::OK, &resource, version, 0, facts.len),
        Plan::Range { first, last } => {
            let mut reply = body(method, StatusCode::PARTIAL_CONTENT, &resource, version, first, last - first + 1);
            reply.set(CONTENT_RANGE, format!("bytes {first}-{last}/{}", facts.len));
            reply.range = Some((first, last));
            reply
        }
        Plan::NotModified => empty(StatusCode::NOT_MODIFIED),
        Plan::PreconditionFailed => {
            message(method, StatusCode::PRECONDITION_FAILED, TEXT, "the file is another version\n")
        }
        Plan::Unsatisfiable => {
            let text = format!("the file has {} bytes, none of them in that range\n", facts.len);
            let mut reply = message(method, StatusCode::RANGE_NOT_SATISFIABLE, TEXT, text);
            reply.set(CONTENT_RANGE, format!("bytes */{}", facts.len));
            reply
        }
        // `reply` answers these before it comes to resources.
        Plan::Options | Plan::MethodNotAllowed => return method_not_allowed(),
    };
    describe(&mut reply, &resource, &facts);
    reply
}

/// Headers that say what the resource is, whatever the status.
fn describe(reply: &mut Reply, resource: &Resource, facts: &Facts) {
    reply.set(ACCEPT_RANGES, "bytes");
    reply.set(CACHE_CONTROL, resource.cache_control);
    reply.set(CORP, resource.policy);
    reply.set(ETAG, facts.etag.as_str());
    if let Some(modified) = facts.modified {
        reply.set(LAST_MODIFIED, modified.to_http_date());
    }
}

/// `len` bytes of a resource from `offset` on; for HEAD, only the headers of that.
fn body(method: &Method, status: StatusCode, resource: &Resource, version: Version, offset: u64, len: u64) -> Reply {
    let head = *method == Method::HEAD;
    let payload = if head { Payload::Empty } else { Payload::stretch(&resource.content, version, offset, len) };
    Reply::new(status, resource.content_type, payload, len)
}

/// Leads to the page, with the query that may name the model.
fn to_page(query: Option<&str>) -> Reply {
    let location = query.and_then(|query| HeaderValue::from_bytes(format!("/{PAGE_PATH}?{query}").as_bytes()).ok());
    let mut reply = empty(StatusCode::FOUND);
    reply.set(CACHE_CONTROL, NO_STORE);
    reply.set(LOCATION, format!("/{PAGE_PATH}"));
    if let Some(location) = location {
        reply.response.headers_mut().insert(LOCATION, location);
    }
    reply
}

/// A short answer made on the spot.
fn message(method: &Method, status: StatusCode, content_type: &str, text: impl Into<Bytes>) -> Reply {
    let text = text.into();
    let len = text.len() as u64;
    let payload = if *method == Method::HEAD { Payload::Empty } else { Payload::Memory(text) };
    let mut reply = Reply::new(status, content_type, payload, len);
    reply.set(CACHE_CONTROL, NO_STORE);
    reply
}

fn json_message(method: &Method, value: &serde_json::Value) -> Reply {
    message(method, StatusCode::OK, JSON, value.to_string())
}

fn not_found(method: &Method, text: &'static str) -> Reply {
    message(method, StatusCode::NOT_FOUND, TEXT, text)
}

fn server_error(method: &Method, error: &io::Error) -> Reply {
    message(method, StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("the file cannot be read: {error}\n"))
}

fn method_not_allowed() -> Reply {
    let mut reply = message(&Method::GET, StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET, HEAD and OPTIONS\n");
    reply.set(ALLOW, ALLOWED_METHODS);
    reply
}

fn empty(status: StatusCode) -> Reply {
    let mut response = Response::new(Payload::Empty);
    *response.status_mut() = status;
    Reply { response, range: None }
}

impl Reply {
    fn new(status: StatusCode, content_type: &str, payload: Payload, len: u64) -> Self {
        let mut response = Response::new(payload);
        *response.status_mut() = status;
        let mut reply = Self { response, range: None };
        reply.set(CONTENT_TYPE, content_type);
        reply.set(CONTENT_LENGTH, len.to_string());
        reply
    }

    /// Sets a header whose value this program made: visible ASCII.
    fn set(&mut self, name: HeaderName, value: impl AsRef<str>) {
        let value = HeaderValue::from_str(value.as_ref()).expect("values are made of visible ASCII");
        self.response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Body;
    use hyper::header::HOST;

    use super::*;

    /// A service of the demo model, compiled before the page was built.
    fn without_page() -> Service {
        let page = Page::missing();
        let catalogue = Catalogue::open(&[]).unwrap();
        let (hosts, origins) = (HostList::new(vec![]), OriginList::new(&[]).unwrap());
        Service { hosts, origins, page, catalogue, log: None }
    }

    fn request(method: Method, target: &str) -> Request<()> {
        Request::builder().method(method).uri(target).header(HOST, "localhost").body(()).unwrap()
    }

    #[tokio::test]
    async fn a_build_without_the_page_says_how_to_get_it() {
        let service = without_page();
        let response = service.answer(request(Method::GET, "/gptoss")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], HTML);
        assert_eq!(response.headers()[CACHE_CONTROL], NO_STORE);
        assert_eq!(response.body().size_hint().exact(), Some(PAGE_MISSING.len() as u64));
        assert!(PAGE_MISSING.contains("cargo xtask demo") && PAGE_MISSING.contains("trunk build"));
        // The rest works.
        let response = service.answer(request(Method::HEAD, "/gpt-oss-nano.gguf")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(service.health()["page"], "missing");
    }

    #[test]
    fn the_page_and_the_api_keep_their_names() {
        for name in ["gptoss", "gptoss/x.gguf", "api", "api/models", "api/x.gguf"] {
            assert!(is_taken(name), "{name}");
        }
        for name in ["gptoss.gguf", "api.gguf", "x/api/y.gguf"] {
            assert!(!is_taken(name), "{name}");
        }
    }
}
