//! From a request to its answer.

use std::io;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue, LOCATION, SET_COOKIE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use percent_encoding::percent_decode_str;
use serve_kit::access::Access;
use serve_kit::activity::Activity;
use serve_kit::origin::OriginList;
use serve_kit::token::{Presented, Token, loggable, query_without_token};
use serve_kit::{Responder, must_close};

use crate::access::{AccessLog, PendingRecord};
use crate::api;
use crate::body::LoggedBody;
use crate::catalogue::{Catalogue, Model, ModelInfo, ServedFile, Shelf};
use crate::hashes::HashQueue;
use crate::listing;
use crate::page::{Page, PageSource};
use crate::plan::ALLOWED_METHODS;
use crate::reply::{BINARY, HTML, NO_CACHE, NO_STORE, Reply, Resource, TEXT, carry_out};

/// Where the page is; its files are below. The same as `public_url` in Trunk.toml, which the page's links are built on.
const PAGE_PATH: &str = "gptoss";
/// The same page, which shows its gates there.
const GATES_PATH: &str = "ml-inference";
const API_PATH: &str = "api";
/// The list of models for people, without scripts.
const LISTING_PATH: &str = "models";

const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const COEP: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");

const PAGE_MISSING: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>gguf-serve</title><link rel="icon" href="data:,"></head>
<body>
<h1>This gguf-serve was built without the page</h1>
<p>In the project's folder, run <code>cargo xtask demo</code>, which builds everything and opens the page.</p>
<p>Or run <code>cargo xtask page</code> and build gguf-serve again; or start this one with <code>--web web/dist</code>.</p>
<p>The models are served all the same: <a href="/models">list of models</a>.</p>
</body></html>
"#;

const TOKEN_MISSING: &str = "this server asks for a token: open the address that it printed when it was started, or send \
                             Authorization: Bearer TOKEN\n";

/// Everything a request is answered from.
pub(crate) struct Service {
    pub(crate) access: Access,
    pub(crate) origins: OriginList,
    pub(crate) token: Option<Token>,
    /// Whether the page is to be cross-origin isolated.
    pub(crate) isolate: bool,
    pub(crate) page: Arc<Page>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) hashes: Arc<HashQueue>,
    pub(crate) log: Option<AccessLog>,
}

impl Responder for Service {
    type Body = LoggedBody;

    // A client may end its side after its last request, and still wants the file.
    const ANSWERS_HALF_CLOSED: bool = true;

    async fn answer(&self, request: Request<Incoming>, activity: &Arc<Activity>) -> Response<LoggedBody> {
        Self::answer(self, request, activity).await
    }

    fn stopping(&self) {
        self.hashes.close();
    }
}

/// Whether a name leads to the page or the API, so that no model can be reached by it.
pub(crate) fn is_taken(page: &Page, name: &str) -> bool {
    match name.split_once('/') {
        None => [PAGE_PATH, GATES_PATH, LISTING_PATH].contains(&name),
        Some((PAGE_PATH, file)) => page.asset(file).is_some(),
        Some((API_PATH, rest)) => api::is_route(rest),
        Some(_) => false,
    }
}

impl Service {
    /// Answers one request; there is no other outcome.
    pub(crate) async fn answer<B: Body>(&self, request: Request<B>, activity: &Arc<Activity>) -> Response<LoggedBody> {
        let answering = activity.answering();
        let target = request.uri().path_and_query().map_or("*", |target| target.as_str());
        let record = PendingRecord::new(request.method().clone(), loggable(target), self.log.clone());
        let Reply { mut response, range, model } = self.reply(&request).await;
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.origins.annotate(request.headers(), headers);
        if request.version() < Version::HTTP_2 && must_close(request.body()) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let record = record.answered(response.status(), range, model);
        response.map(|payload| LoggedBody::new(payload, record, answering))
    }

    async fn reply<B>(&self, request: &Request<B>) -> Reply {
        let method = request.method();
        if let Err(fault) = self.access.check(request) {
            return Reply::message(method, fault.status(), TEXT, format!("{fault}\n"));
        }
        match *method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return self.options(request),
            _ => return Reply::method_not_allowed(),
        }
        match self.token.as_ref().map(|token| (token, token.find(request.uri(), request.headers()))) {
            None | Some((_, Some(Presented::InHeader))) => self.route(request).await,
            Some((_, None)) => {
                let mut reply = Reply::message(method, StatusCode::UNAUTHORIZED, TEXT, TOKEN_MISSING);
                reply.set(WWW_AUTHENTICATE, "Bearer realm=\"gguf-serve\"");
                reply
            }
            Some((token, Some(Presented::InQuery))) => match self.to_page_without_token(token, request.uri()) {
                Some(reply) => reply,
                None => self.route(request).await,
            },
        }
    }

    /// A preflight carries no token, and needs none: its answer says nothing about what is served.
    fn options<B>(&self, request: &Request<B>) -> Reply {
        let mut reply = Reply::empty(StatusCode::NO_CONTENT);
        reply.set(ALLOW, ALLOWED_METHODS);
        self.origins.preflight(request.headers(), reply.response.headers_mut());
        reply
    }

    /// What a person opens is opened again without the token, which from then on is in a cookie: addresses are looked
    /// at over shoulders, kept in histories and passed on.
    fn to_page_without_token(&self, token: &Token, uri: &Uri) -> Option<Reply> {
        let name = match uri.path().trim_matches('/') {
            "" | PAGE_PATH => PAGE_PATH,
            GATES_PATH => GATES_PATH,
            LISTING_PATH => LISTING_PATH,
            _ => return None,
        };
        let cookie = token.cookie(uri, self.access.secure)?;
        let mut reply = redirect(name, query_without_token(uri.query().unwrap_or_default()).as_deref());
        reply.response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
        Some(reply)
    }

    async fn route<B>(&self, request: &Request<B>) -> Reply {
        let (method, uri) = (request.method(), request.uri());
        // Decoded once; what it leads to is looked up by name, so there is nothing to climb out of.
        let Ok(path) = percent_decode_str(uri.path().strip_prefix('/').unwrap_or("*")).decode_utf8() else {
            return Reply::not_found(method, "no name here is anything but UTF-8\n");
        };
        let path = &*path;
        match path.split_once('/') {
            Some((API_PATH, rest)) if api::is_route(rest) => return self.api(request, rest).await,
            Some((PAGE_PATH, name)) if name.is_empty() || self.page.asset(name).is_some() => {
                return self.page_file(request, name);
            }
            None if path == PAGE_PATH || path == GATES_PATH => return self.page_file(request, ""),
            None if path == LISTING_PATH => return self.listing(method).await,
            None if path.is_empty() => return redirect(PAGE_PATH, uri.query()),
            _ => {}
        }
        let found =
            self.find(|catalogue| catalogue.by_name(path).map(|(model, file)| (Arc::clone(model), Arc::clone(file))));
        match found.await {
            Some((model, file)) => self.file(request, &model, file).await,
            None => Reply::not_found(method, "no such file; /api/models lists what there is\n"),
        }
    }

    /// Looks something up in the catalogue; if it is not there, once more after a look at the folders.
    async fn find<T>(&self, look: impl Fn(&Catalogue) -> Option<T>) -> Option<T> {
        if let Some(found) = look(&self.shelf.current()) {
            return Some(found);
        }
        let shelf = Arc::clone(&self.shelf);
        look(&*blocking(move || shelf.searched_again()).await.ok()?)
    }

    /// A file of the page by its name below `web/dist`; without a name, the page.
    fn page_file<B>(&self, request: &Request<B>, name: &str) -> Reply {
        let method = request.method();
        let Some(asset) = (if name.is_empty() { self.page.index() } else { self.page.asset(name) }) else {
            return match self.page.source() {
                PageSource::Missing => Reply::message(method, StatusCode::SERVICE_UNAVAILABLE, HTML, PAGE_MISSING),
                _ => Reply::not_found(method, "the page has no such file\n"),
            };
        };
        let (content, content_type) = (asset.content.clone(), asset.content_type);
        let resource = Resource { content, content_type, cache_control: NO_CACHE, policy: "same-origin" };
        let version = match resource.content.version() {
            Ok(version) => version,
            Err(error) => return Reply::unreadable(method, &error),
        };
        let mut reply = carry_out(method, request.headers(), &resource, &version, None);
        // A worker needs the policy as its page does.
        if self.isolate && (content_type.starts_with("text/html") || content_type.starts_with("text/javascript")) {
            reply.set(COOP, "same-origin");
            reply.set(COEP, "require-corp");
        }
        reply
    }

    async fn listing(&self, method: &Method) -> Reply {
        match self.model_infos().await {
            Ok(models) => Reply::message(method, StatusCode::OK, HTML, listing::html(&models)),
            Err(error) => Reply::unreadable(method, &error),
        }
    }

    async fn api<B>(&self, request: &Request<B>, path: &str) -> Reply {
        let method = request.method();
        let segments: Vec<&str> = path.split('/').collect();
        let model = async |id: &str| self.find(|catalogue| catalogue.by_id(id).cloned()).await;
        match segments[..] {
            ["health"] => Reply::json(method, StatusCode::OK, &api::health(&self.page, &self.shelf.current())),
            ["models"] => match self.model_infos().await {
                Ok(models) => Reply::json(method, StatusCode::OK, &api::models(&models)),
                Err(error) => Reply::unreadable(method, &error),
            },
            ["models", id, "file", ..] => {
                let Some(model) = model(id).await else { return api::no_model(method) };
                let file = match segments[3..] {
                    [] => model.files.first(),
                    [name] => model.file(name),
                    _ => None,
                };
                match file.cloned() {
                    Some(file) => self.file(request, &model, file).await,
                    None => Reply::not_found(method, "the model has no such file; /api/models lists what there is\n"),
                }
            }
            ["models", id, "hashes"] => match model(id).await {
                Some(model) => self.model_hashes(method, model).await,
                None => api::no_model(method),
            },
            _ => Reply::not_found(method, api::NO_SUCH_ROUTE),
        }
    }

    async fn model_hashes(&self, method: &Method, model: Arc<Model>) -> Reply {
        let (queue, of) = (Arc::clone(&self.hashes), Arc::clone(&model));
        let answer = blocking(move || api::hashes(&queue, &of)).await.flatten();
        answer.map_or_else(|error| Reply::unreadable(method, &error), |answer| answer.reply(method)).about(&model.id)
    }

    /// A file of a model.
    async fn file<B>(&self, request: &Request<B>, model: &Model, file: Arc<ServedFile>) -> Reply {
        let method = request.method();
        let (content, version) = match file.current() {
            Ok(current) => current,
            Err(error) => return Reply::unreadable(method, &error).about(&model.id),
        };
        let sha256 = file.sha256(&version);
        let resource = Resource { content, content_type: BINARY, cache_control: NO_STORE, policy: "cross-origin" };
        carry_out(method, request.headers(), &resource, &version, sha256.as_deref()).about(&model.id)
    }

    /// The list of models after another look at the folders, with headers read where that has not been done yet.
    pub(crate) async fn model_infos(&self) -> io::Result<Vec<ModelInfo>> {
        let (shelf, queue) = (Arc::clone(&self.shelf), Arc::clone(&self.hashes));
        blocking(move || {
            let models = shelf.searched_again();
            models.models().iter().map(|model| model.info(&queue)).collect()
        })
        .await
    }
}

/// Runs what may wait for a disk where that disturbs nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Leads to `/name`.
fn redirect(name: &str, query: Option<&str>) -> Reply {
    let mut reply = Reply::empty(StatusCode::FOUND);
    reply.set(CACHE_CONTROL, NO_STORE);
    let location = query.map_or_else(|| format!("/{name}"), |query| format!("/{name}?{query}"));
    // The query came in as part of a URI, of which every byte may stand in a header.
    if let Ok(location) = HeaderValue::from_bytes(location.as_bytes()) {
        reply.response.headers_mut().insert(LOCATION, location);
    }
    reply
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::body::Bytes;
    use hyper::header::{CONTENT_TYPE, HOST};

    use serve_kit::activity::Traffic;
    use serve_kit::host::HostList;

    use super::*;
    use crate::hashes::HashStore;
    use crate::plan::GRANTS;

    /// A service of the demo model, compiled before the page was built.
    fn without_page() -> Service {
        let page = Arc::new(Page::missing());
        let shelf = Arc::new(Shelf::open(vec![], gptoss_finder::Links::Inside, Box::new(|_| false)).unwrap());
        let access = Access { hosts: HostList::new(vec![]), secure: false };
        let origins = OriginList::new(&[], GRANTS).unwrap();
        let hashes = Arc::new(HashQueue::new(HashStore::default()));
        Service { access, origins, token: None, isolate: false, page, shelf, hashes, log: None }
    }

    async fn answer(service: &Service, method: Method, target: &str) -> Response<LoggedBody> {
        let request = Request::builder().method(method).uri(target).header(HOST, "localhost");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        service.answer(request, &Activity::new(false, Traffic::new())).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_build_without_the_page_says_how_to_get_it() {
        let service = without_page();
        let response = answer(&service, Method::GET, "/gptoss").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], HTML);
        assert_eq!(response.headers()[CACHE_CONTROL], NO_STORE);
        assert_eq!(response.body().size_hint().exact(), Some(PAGE_MISSING.len() as u64));
        assert!(PAGE_MISSING.contains("cargo xtask demo") && PAGE_MISSING.contains("cargo xtask page"));
        // The rest works.
        let response = answer(&service, Method::HEAD, "/gpt-oss-nano.gguf").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(api::health(&service.page, &service.shelf.current())["page"], "missing");
    }

    #[test]
    fn the_page_and_the_api_keep_their_names() {
        let page = Page::missing();
        for name in ["gptoss", "ml-inference", "models", "api/health", "api/models", "api/models/x.gguf"] {
            assert!(is_taken(&page, name), "{name}");
        }
        for name in ["gptoss.gguf", "gptoss/x.gguf", "models/x.gguf", "api.gguf", "api/x.gguf", "x/api/models"] {
            assert!(!is_taken(&page, name), "{name}");
        }
    }
}
