//! The server: where each request goes, and what they share.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gptoss_protocol::{Command, Event, Prompt};
use serde::de::DeserializeOwned;
use serde_json::json;
use serve_kit::limits::Limits;
use serve_kit::server::{Running, Tasks, start};
use serve_kit::tls::TlsAcceptor;
use tokio::net::TcpListener;

use crate::engine::{Engine, UnderWay};
use crate::error::ApiError;
use crate::front::{BodyFault, Front, Rules, note_route};
use crate::metrics::{self, Gauge};
use crate::prompt::seconds_since_1970;
use crate::record::RequestLog;
use crate::responses::Store;
use crate::served::Served;
use crate::tunnel::{self, Hub};
use crate::upstreams::Upstreams;
use crate::{chat, completions, messages, responses};

/// What travels beside a command to the node: nothing, for a question.
pub trait Engaged: Default + Send + Sync + 'static {}

impl<A: Default + Send + Sync + 'static> Engaged for A {}

/// JSON may be nested so deep: the limit of its parser, which is there so that no body overflows the stack.
const MOST_JSON_DEPTH: u32 = 128;

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

/// What computes, as whoever watches over the server wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineCard {
    /// The device, in words.
    pub device: String,
    /// Size of the KV cache, of all sequences together.
    pub kv_bytes: u64,
    /// Memory of the GPU that was planned for everything; `None` where no GPU computes.
    pub gpu_bytes: Option<u64>,
}

/// How the server is run.
#[derive(Clone)]
pub struct ApiOptions {
    /// The one model that is served.
    pub model: ModelCard,
    /// What computes it.
    pub engine: EngineCard,
    /// The engines elsewhere that do, if it is them. Of their tokens no probabilities are known.
    pub upstreams: Option<Upstreams>,
    /// Who may ask.
    pub rules: Rules,
    /// Requests that are answered or wait at the same time; further ones are told to come again.
    pub most_requests: usize,
    /// Called once per request; `None` for no log.
    pub log: Option<RequestLog>,
}

/// What all requests share.
pub(crate) struct Shared<A> {
    engine: Engine<A>,
    options: ApiOptions,
    hub: Arc<Hub<A>>,
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

    /// Refuses a field that asks for probabilities, where they are not known.
    pub fn require_probabilities(&self, field: &str) -> Result<(), ApiError> {
        match self.options.upstreams {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "{field} is not served with --engine upstream, which is told no probabilities: leave it out"
                );
                Err(ApiError::invalid(field, message))
            }
        }
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

/// Serves the API in the background. When it is shut down, answers that take longer than [`Limits::drain`] are stopped, and
/// end as their dialect has it.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub fn serve<A: Engaged>(
    listeners: Vec<TcpListener>,
    encrypt: Option<TlsAcceptor>,
    limits: Limits,
    engine: Engine<A>,
    options: ApiOptions,
) -> Running {
    let (rules, log, metrics) = (options.rules.clone(), options.log.clone(), engine.metrics());
    let hub = Hub::new(engine.clone(), options.model.id.clone(), options.most_requests, rules.key.clone());
    let hub = Arc::new(hub);
    let router = router(engine.clone(), options, Arc::clone(&hub));
    let front = Front { engine, router, rules, log, metrics, hub };
    start(listeners, encrypt, limits, Tasks::default(), Arc::new(front))
}

fn router<A: Engaged>(engine: Engine<A>, options: ApiOptions, hub: Arc<Hub<A>>) -> Router {
    let (started, served, store) = (seconds_since_1970(), Served::default(), Store::default());
    let shared = Arc::new(Shared { engine, options, hub, started, served, store });
    Router::new()
        .route("/health", get(health::<A>))
        .route("/healthz", get(health::<A>))
        .route("/openapi.json", get(crate::openapi::document))
        .route("/bench", get(bench::<A>))
        .route("/metrics", get(metrics_text::<A>))
        .route("/tunnel", get(open_tunnel::<A>))
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
        .layer(middleware::from_fn(note_route))
        .with_state(shared)
}

fn nowhere(path: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is nothing at {path}: /v1/models, /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages"
    ))
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    // How much may come, and for how long, is limited by the body itself.
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| match BodyFault::behind(&error) {
        Some(fault) => fault.to_error(),
        None => ApiError::refused(StatusCode::BAD_REQUEST, "the body was cut off"),
    })?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes)).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        let advice = advice_on(&error.to_string());
        // A body that is no JSON at all has no place in it.
        if path == "." || error.is_syntax() || error.is_eof() {
            let message = format!("the body cannot be read: {error}{advice}");
            return ApiError::refused(StatusCode::BAD_REQUEST, message);
        }
        ApiError::invalid(&path, format!("{path} cannot be read: {error}"))
    })
}

/// What to do about an error of the JSON parser, where its words leave that open.
fn advice_on(error: &str) -> String {
    if error.starts_with("recursion limit") {
        format!("; it is nested deeper than {MOST_JSON_DEPTH} levels")
    } else if error.contains("hex escape") {
        "; a \\u escape of d800 to dfff is half of a surrogate pair, and needs its other half".into()
    } else {
        String::new()
    }
}

async fn health<A: Engaged>(State(shared): State<Arc<Shared<A>>>) -> Response {
    let ApiOptions { model, engine, most_requests, upstreams, .. } = &shared.options;
    let metrics = shared.engine.metrics();
    let open = shared.engine.open_requests();
    let mut health = json!({
        "status": "ok", "model": model.id, "engine": engine.device,
        "tunnel_sessions": shared.hub.count(), "open_requests": open, "waiting_requests": open.saturating_sub(metrics.answering() as usize),
        "most_requests": most_requests,
        "memory": {"kv_cache_bytes": engine.kv_bytes, "gpu_bytes": engine.gpu_bytes},
        "uptime_seconds": metrics.uptime().as_secs(),
    });
    let mut status = StatusCode::OK;
    if let Some(upstreams) = upstreams {
        let states = upstreams.states();
        if !states.iter().any(|state| state.is_ready) {
            // Whoever spreads requests over servers is to send none here.
            status = StatusCode::SERVICE_UNAVAILABLE;
            health["status"] = "no upstream is ready".into();
        }
        health["upstreams"] = json!(states);
    }
    (status, axum::Json(health)).into_response()
}

async fn metrics_text<A: Engaged>(State(shared): State<Arc<Shared<A>>>) -> Response {
    let ApiOptions { model, engine, upstreams, .. } = &shared.options;
    let metrics = shared.engine.metrics();
    let open = shared.engine.open_requests();
    let gauge = |name, help, value| Gauge { name, help, labels: &[], value };
    let names = [("model", model.id.as_str()), ("device", engine.device.as_str())];
    let waiting = open.saturating_sub(metrics.answering() as usize);
    let mut text = metrics.to_text(&[
        Gauge { labels: &names, ..gauge("pylon_model_info", "The model, and what computes it.", 1.0) },
        gauge("pylon_open_requests", "Requests that are being answered or wait.", open as f64),
        gauge("pylon_waiting_requests", "Requests that wait for their turn.", waiting as f64),
        gauge("pylon_tunnel_sessions", "Sessions of the tunnel.", shared.hub.count() as f64),
        gauge("pylon_kv_capacity_tokens", "Tokens that one sequence has room for.", f64::from(model.context_tokens)),
        gauge("pylon_kv_cache_bytes", "Size of the KV cache of all sequences.", engine.kv_bytes as f64),
    ]);
    if let Some(upstreams) = upstreams {
        metrics::write_upstreams(&mut text, &upstreams.states());
    }
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
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

async fn open_tunnel<A: Engaged>(State(shared): State<Arc<Shared<A>>>, request: Request) -> Result<Response, ApiError> {
    if shared.options.upstreams.is_some() {
        let message = "nothing is computed here (--engine upstream): open the tunnel of a pylon that computes";
        return Err(ApiError::not_found(message));
    }
    tunnel::open(&shared.hub, request)
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
