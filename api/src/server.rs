//! The server: who may ask, where each request goes, and what they share.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gptoss_protocol::{Command, Event, Prompt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;

use crate::engine::{Engine, UnderWay};
use crate::error::ApiError;
use crate::prompt::seconds_since_1970;
use crate::responses::Store;
use crate::served::Served;
use crate::{chat, completions, messages, responses};

/// What travels beside a command to the node: nothing, for a question.
pub trait Engaged: Default + Send + Sync + 'static {}

impl<A: Default + Send + Sync + 'static> Engaged for A {}

/// A body may have so many bytes: a long conversation with large tool results, and no more than a server can hold.
const MOST_BODY_BYTES: usize = 32 << 20;

/// The model, as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Its id in `/v1/models`.
    pub id: String,
    /// Other names that requests may have; upper and lower case are one.
    pub aliases: Vec<String>,
    /// Tokens that a sequence has room for.
    pub context_tokens: u32,
}

/// How the server is run.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// The one model that is served.
    pub model: ModelCard,
    /// Every request has to bring this as `Authorization: Bearer …`, if there is one.
    pub api_key: Option<String>,
    /// Names in `Host` and `Origin` that are allowed beside loopback.
    pub hosts: Vec<String>,
    /// Requests that are answered or wait at the same time; further ones are told to come again.
    pub most_requests: usize,
}

/// What all requests share.
pub(crate) struct Shared<A> {
    engine: Engine<A>,
    options: ApiOptions,
    started: u64,
    pub served: Served,
    pub store: Store,
}

impl<A: Engaged> Shared<A> {
    /// The id of the model that a request is for.
    pub fn model_of(&self, wanted: Option<&str>) -> Result<String, ApiError> {
        let ModelCard { id, aliases, .. } = &self.options.model;
        let is_known =
            |wanted: &str| std::iter::once(id).chain(aliases).any(|known| known.eq_ignore_ascii_case(wanted));
        match wanted {
            Some(wanted) if !is_known(wanted) => Err(ApiError {
                param: Some("model".into()),
                code: Some("model_not_found"),
                ..ApiError::not_found(format!("model is {wanted:?}, and this server has {id:?}"))
            }),
            _ => Ok(id.clone()),
        }
    }

    /// Asks the engine, unless too many do.
    pub fn ask(&self, prompt: Prompt) -> Result<UnderWay<A>, ApiError> {
        let open = self.engine.open_requests();
        if open >= self.options.most_requests {
            return Err(ApiError::busy(open));
        }
        Ok(self.engine.ask(prompt))
    }

    /// The tokens of a prompt. Does not wait for answers.
    pub async fn count(&self, prompt: Prompt) -> Result<u32, ApiError> {
        let mut under_way = self.engine.begin(Command::Count { prompt }, A::default());
        while let Some(event) = under_way.next().await {
            match event {
                Event::Counted { tokens } => return Ok(tokens),
                Event::Failed { failure, .. } => return Err(ApiError::engine(&failure)),
                _ => {}
            }
        }
        Err(ApiError::internal("the engine ended without an answer"))
    }
}

/// Serves the API until `ended` does; what is being answered then is answered to its end.
///
/// # Errors
/// The listener fails.
pub async fn serve<A: Engaged>(
    listener: TcpListener,
    engine: Engine<A>,
    options: ApiOptions,
    ended: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = router(engine, options, listener.local_addr()?);
    axum::serve(listener, router).with_graceful_shutdown(ended).await
}

fn router<A: Engaged>(engine: Engine<A>, mut options: ApiOptions, address: SocketAddr) -> Router {
    options.hosts.push(address.ip().to_string());
    let started = seconds_since_1970();
    let shared = Arc::new(Shared { engine, options, started, served: Served::default(), store: Store::default() });
    Router::new()
        .route("/health", get(health::<A>))
        .route("/healthz", get(health::<A>))
        .route("/openapi.json", get(crate::openapi::document))
        .route("/bench", get(bench::<A>))
        .route("/v1/models", get(models::<A>))
        .route("/v1/models/{id}", get(model::<A>))
        .route("/v1/chat/completions", post(chat_completions::<A>))
        .route("/v1/completions", post(text_completions::<A>))
        .route("/v1/messages", post(create_message::<A>))
        .route("/v1/messages/count_tokens", post(count_tokens::<A>))
        .route("/v1/responses", post(create_response::<A>))
        .route("/v1/responses/{id}", get(get_response::<A>).delete(delete_response::<A>))
        .route("/v1/responses/{id}/input_items", get(input_items::<A>))
        .route("/v1/responses/{id}/cancel", post(cancel_response::<A>))
        .fallback(|request: Request| async move { nowhere(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("{} is not for {}", request.method(), request.uri().path());
            ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::<A>))
        .with_state(shared)
}

fn nowhere(path: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is nothing at {path}: /v1/models, /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages"
    ))
}

/// Refuses whoever has no business here: pages of other origins, names that were bound to this machine from afar, and whoever
/// lacks the key.
async fn guard<A: Engaged>(State(shared): State<Arc<Shared<A>>>, request: Request, next: Next) -> Response {
    let options = &shared.options;
    let headers = request.headers();
    let host = header_text(headers, header::HOST).or_else(|| request.uri().authority().map(|it| it.as_str()));
    if let Some(host) = host.filter(|host| !is_allowed(host_of(host), &options.hosts)) {
        let message = format!("the host {host:?} is not served here: --allow-host names others than this machine");
        return ApiError::refused(StatusCode::FORBIDDEN, message).into_response();
    }
    if let Some(origin) = header_text(headers, header::ORIGIN)
        && !is_allowed(origin.split_once("://").map_or(origin, |(_, host)| host_of(host)), &options.hosts)
    {
        let message = format!("pages of {origin} may not ask this server: --allow-host names others than this machine");
        return ApiError::refused(StatusCode::FORBIDDEN, message).into_response();
    }
    if let Some(key) = &options.api_key
        && !request.uri().path().starts_with("/health")
    {
        let given = header_text(headers, header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
        if !given.is_some_and(|given| is_same(given, key)) {
            let message = "the API key is missing or wrong: it goes into the header Authorization, after \"Bearer \"";
            return ApiError::refused(StatusCode::UNAUTHORIZED, message).into_response();
        }
    }
    next.run(request).await
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("not text"))
}

/// A host without its port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_allowed(host: &str, allowed: &[String]) -> bool {
    let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost") || allowed.iter().any(|it| it.eq_ignore_ascii_case(host))
}

/// Compares in a time that says nothing of where texts differ.
fn is_same(given: &str, key: &str) -> bool {
    let differences = given.bytes().zip(key.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == key.len() && differences == 0
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = to_bytes(body, MOST_BODY_BYTES).await.map_err(|_| {
        let message = format!("the body was cut off, or has more than {} MB", MOST_BODY_BYTES >> 20);
        ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, message)
    })?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes)).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        // A body that is no JSON at all has no place in it.
        if path == "." || error.is_syntax() || error.is_eof() {
            return ApiError::refused(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"));
        }
        ApiError::invalid(&path, format!("{path} cannot be read: {error}"))
    })
}

async fn health<A: Engaged>(State(shared): State<Arc<Shared<A>>>) -> Response {
    axum::Json(json!({
        "status": "ok", "model": shared.options.model.id, "open_requests": shared.engine.open_requests(),
        "most_requests": shared.options.most_requests,
    }))
    .into_response()
}

fn model_object<A>(shared: &Shared<A>) -> serde_json::Value {
    let ModelCard { id, context_tokens, .. } = &shared.options.model;
    json!({"id": id, "object": "model", "created": shared.started, "owned_by": "openai", "context_length": context_tokens})
}

async fn models<A: Engaged>(State(shared): State<Arc<Shared<A>>>) -> Response {
    axum::Json(json!({"object": "list", "data": [model_object(&shared)]})).into_response()
}

async fn model<A: Engaged>(State(shared): State<Arc<Shared<A>>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    shared.model_of(Some(&id))?;
    Ok(axum::Json(model_object(&shared)).into_response())
}

async fn chat_completions<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Result<Response, ApiError> {
    chat::create(shared, read(body).await?).await
}

async fn text_completions<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Result<Response, ApiError> {
    completions::create(shared, read(body).await?).await
}

async fn bench<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    crate::bench::run(shared, query.as_deref().unwrap_or_default()).await
}

async fn create_message<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Response {
    let answer = async { messages::create(shared, read(body).await?).await };
    messages::in_dialect(answer.await)
}

async fn count_tokens<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Response {
    let answer = async { messages::count_tokens(shared, read(body).await?).await };
    messages::in_dialect(answer.await)
}

async fn create_response<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Result<Response, ApiError> {
    responses::create(shared, read(body).await?).await
}

async fn get_response<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    responses::get(&shared, &id)
}

async fn delete_response<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    responses::delete(&shared, &id)
}

async fn input_items<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    responses::input_items(&shared, &id, query.as_deref().unwrap_or_default())
}

async fn cancel_response<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    responses::cancel(&shared, &id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_allowed_and_what_was_named() {
        let allowed = |host: &str| is_allowed(host_of(host), &["models.example".into()]);
        for host in ["localhost", "LOCALHOST:9899", "127.0.0.1:80", "127.9.9.9", "[::1]:9899", "models.example:1"] {
            assert!(allowed(host), "{host}");
        }
        for host in ["example.org", "localhost.example.org:80", "10.0.0.1", "[::2]", "127.0.0.1.example.org", ""] {
            assert!(!allowed(host), "{host}");
        }
    }

    #[test]
    fn a_key_is_the_whole_key() {
        assert!(is_same("secret", "secret"));
        assert!(!is_same("secre", "secret") && !is_same("secrets", "secret") && !is_same("Secret", "secret"));
    }
}
