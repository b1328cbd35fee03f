//! The server: where each request goes, and what they share.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Path, RawQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gptoss_protocol::Prompt;
use serde::de::DeserializeOwned;
use serde_json::json;
use serve_kit::limits::Limits;
use serve_kit::server::{Running, Tasks, start};
use serve_kit::tls::TlsAcceptor;
use tokio::net::TcpListener;

use crate::error::ApiError;
use crate::front::{BodyFault, Front, Rules, note_route, read_away};
use crate::metrics::{self, ModelNumbers, ServerMetrics};
use crate::models::{EngineCard, Model, ModelCard, Models, ServedModel};
use crate::prompt::seconds_since_1970;
use crate::query::text_value;
use crate::reading::wrong_at;
use crate::record::RequestLog;
use crate::responses::Store;
use crate::tunnel;
use crate::upstreams::Upstreams;
use crate::{chat, completions, elsewhere, messages, responses};

/// What travels beside a command to the node: nothing, for a question.
pub trait Engaged: Default + Send + Sync + 'static {}

impl<A: Default + Send + Sync + 'static> Engaged for A {}

/// JSON may be nested so deep: the limit of its parser, which is there so that no body overflows the stack.
const MOST_JSON_DEPTH: u32 = 128;

/// How the server is run.
#[derive(Clone)]
pub struct ApiOptions {
    /// The engines elsewhere that compute, if it is them. Of their tokens no probabilities are known.
    pub upstreams: Option<Upstreams>,
    /// Who may ask.
    pub rules: Rules,
    /// Requests that are answered or wait at the same time, of all models together; further ones are told to come again.
    pub most_requests: usize,
    /// Called once per request; `None` for no log.
    pub log: Option<RequestLog>,
}

/// What all requests share.
pub(crate) struct Shared<A> {
    models: Arc<Models<A>>,
    options: ApiOptions,
    metrics: Arc<ServerMetrics>,
    started: u64,
    pub store: Store,
}

impl<A: Engaged> Shared<A> {
    /// The model that a request is for: one that names none is for the first.
    pub fn model_of(&self, wanted: Option<&str>) -> Result<Arc<Model<A>>, ApiError> {
        self.models.asked(wanted)
    }

    /// Requests that are answered or wait at the same time.
    pub fn most_requests(&self) -> usize {
        self.options.most_requests
    }

    /// Tokens that a prompt and its answer have room for together: with engines elsewhere, as these say now.
    fn context_tokens_of(&self, model: &Model<A>) -> u32 {
        let told = self.options.upstreams.as_ref().and_then(Upstreams::context_tokens);
        model.card.context_tokens.min(told.unwrap_or(u32::MAX))
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

    /// Takes from a prompt what only an engine of this process enforces, where others compute, and gives the names of the tools
    /// that it was asked for. `format_field` is where the request says what form the answer has.
    pub fn loosen(&self, prompt: &mut Prompt, format_field: &str) -> Result<Vec<String>, ApiError> {
        match self.options.upstreams {
            None => Ok(Vec::new()),
            Some(_) => elsewhere::loosen(prompt, format_field),
        }
    }
}

/// Serves the API in the background. When it is shut down, answers that take longer than [`Limits::drain`] are stopped, and
/// end as their dialect has it.
///
/// # Panics
/// There is no model; outside a tokio runtime with I/O and time enabled.
pub fn serve<A: Engaged>(
    listeners: Vec<TcpListener>,
    encrypt: Option<TlsAcceptor>,
    limits: Limits,
    models: Vec<ServedModel<A>>,
    options: ApiOptions,
) -> Running {
    let (rules, log, metrics) = (options.rules.clone(), options.log.clone(), Arc::<ServerMetrics>::default());
    let models = Arc::new(Models::new(models, options.most_requests, rules.key.as_ref()));
    let router = router(Arc::clone(&models), options, Arc::clone(&metrics));
    let front = Front { models, router, rules, log, metrics };
    start(listeners, encrypt, limits, Tasks::default(), Arc::new(front))
}

fn router<A: Engaged>(models: Arc<Models<A>>, options: ApiOptions, metrics: Arc<ServerMetrics>) -> Router {
    let (started, store) = (seconds_since_1970(), Store::default());
    let shared = Arc::new(Shared { models, options, metrics, started, store });
    Router::new()
        .route("/health", get(health::<A>))
        .route("/healthz", get(health::<A>))
        .route("/openapi.json", get(crate::openapi::document))
        .route("/bench", get(bench::<A>))
        .route("/metrics", get(metrics_text::<A>))
        .route("/tunnel", get(open_tunnel::<A>))
        .route("/v1/models", get(list_models::<A>))
        .route("/v1/models/{*id}", get(get_model::<A>))
        .route("/v1/chat/completions", post(chat_completions::<A>))
        .route("/v1/completions", post(text_completions::<A>))
        .route("/v1/messages", post(create_message::<A>))
        .route("/v1/messages/count_tokens", post(count_tokens::<A>))
        .route("/v1/responses", post(create_response::<A>))
        .route("/v1/responses/input_tokens", post(count_input::<A>))
        .route("/v1/responses/{id}", get(get_response::<A>).delete(delete_response::<A>))
        .route("/v1/responses/{id}/input_items", get(input_items::<A>))
        .route("/v1/responses/{id}/cancel", post(cancel_response::<A>))
        .fallback(|request: Request| async move {
            let path = request.uri().path().to_owned();
            read_away(request).await;
            messages::error_at(&path, nowhere(&path))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            // The router adds which methods there are.
            if request.method() == Method::OPTIONS {
                return StatusCode::NO_CONTENT.into_response();
            }
            if request.method() == Method::POST && request.uri().path() == "/v1/responses/compact" {
                let error =
                    ApiError::not_found("conversations are not compacted here: send the items that are to be read");
                return error.into_response();
            }
            let path = request.uri().path().to_owned();
            let message = format!("{} is not for {path}", request.method());
            read_away(request).await;
            messages::error_at(&path, ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message))
        })
        .layer(middleware::from_fn(note_route))
        .with_state(shared)
}

/// The id in an address, which is text.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        let wrong = |_| ApiError::invalid("id", format!("the id in {} is no text, expected UTF-8", parts.uri.path()));
        id.map(|Path(id)| Self(id)).map_err(wrong)
    }
}

fn nowhere(path: &str) -> ApiError {
    const PATHS: [&str; 5] = ["/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"];
    let advice = match PATHS.iter().find(|known| known.strip_prefix("/v1") == Some(path)) {
        Some(known) => format!("{known} is what is meant, if the base URL of the client ends in /v1"),
        None => PATHS.join(", "),
    };
    ApiError::not_found(format!("there is nothing at {path}: {advice}"))
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
        if error.is_syntax() || error.is_eof() {
            let message = format!("the body cannot be read: {error}{advice}");
            return ApiError::refused(StatusCode::BAD_REQUEST, message);
        }
        wrong_at(&path, &error.to_string())
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
    let ApiOptions { most_requests, upstreams, .. } = &shared.options;
    let (models, first) = (&shared.models, shared.models.first());
    let sum = |number: fn(&Model<A>) -> usize| models.iter().map(|model| number(model)).sum::<usize>();
    let gpu_bytes = models.iter().filter_map(|model| model.engine_card.gpu_bytes).reduce(|all, one| all + one);
    let mut health = json!({
        "status": "ok", "model": first.id(), "engine": first.engine_card.device,
        "models": models.iter().map(|model| health_of(model)).collect::<Vec<_>>(),
        "tunnel_sessions": sum(|model| model.hub.count()),
        "open_requests": sum(Model::open_requests), "waiting_requests": sum(Model::waiting_requests),
        "most_requests": most_requests,
        "memory": {
            "kv_cache_bytes": models.iter().map(|model| model.engine_card.kv_bytes).sum::<u64>(), "gpu_bytes": gpu_bytes,
        },
        "uptime_seconds": shared.metrics.uptime().as_secs(),
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
    let mut answer = (status, axum::Json(health)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// How one model is.
fn health_of<A: Engaged>(model: &Model<A>) -> serde_json::Value {
    let EngineCard { device, kv_bytes, gpu_bytes } = &model.engine_card;
    json!({
        "id": model.id(), "engine": device, "tunnel_sessions": model.hub.count(),
        "open_requests": model.open_requests(), "waiting_requests": model.waiting_requests(),
        "memory": {"kv_cache_bytes": kv_bytes, "gpu_bytes": gpu_bytes},
    })
}

async fn metrics_text<A: Engaged>(State(shared): State<Arc<Shared<A>>>) -> Response {
    let numbers: Vec<_> = shared.models.iter().map(|model| numbers_of(&shared, model)).collect();
    let mut text = shared.metrics.to_text(&numbers);
    if let Some(upstreams) = &shared.options.upstreams {
        metrics::write_upstreams(&mut text, &upstreams.states());
    }
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

fn numbers_of<'a, A: Engaged>(shared: &Shared<A>, model: &'a Model<A>) -> ModelNumbers<'a> {
    ModelNumbers {
        id: model.id(),
        device: &model.engine_card.device,
        metrics: model.engine.metrics(),
        open_requests: model.open_requests(),
        waiting_requests: model.waiting_requests(),
        tunnel_sessions: model.hub.count(),
        context_tokens: shared.context_tokens_of(model),
        kv_bytes: model.engine_card.kv_bytes,
    }
}

fn model_object<A: Engaged>(shared: &Shared<A>, model: &Model<A>) -> serde_json::Value {
    let (ModelCard { id, .. }, context_tokens) = (&model.card, shared.context_tokens_of(model));
    json!({
        "id": id, "object": "model", "created": shared.started, "owned_by": "openai", "context_length": context_tokens,
        // What Anthropic's clients read.
        "type": "model", "display_name": id, "created_at": time_of(shared.started),
    })
}

/// Seconds since 1970 as RFC 3339 writes that time; null beyond the years that are written with four digits.
fn time_of(seconds: u64) -> Option<String> {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds.try_into().ok()?).ok()?;
    let (hour, minute, second) = time.to_hms();
    Some(format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date()))
}

async fn list_models<A: Engaged>(State(shared): State<Arc<Shared<A>>>) -> Response {
    let data: Vec<_> = shared.models.iter().map(|model| model_object(&shared, model)).collect();
    let id_of = |object: Option<&serde_json::Value>| object.map(|object| object["id"].clone());
    let (first_id, last_id) = (id_of(data.first()), id_of(data.last()));
    axum::Json(json!({"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": false}))
        .into_response()
}

async fn get_model<A: Engaged>(State(shared): State<Arc<Shared<A>>>, Id(id): Id) -> Result<Response, ApiError> {
    let model = shared.model_of(Some(&id))?;
    Ok(axum::Json(model_object(&shared, &model)).into_response())
}

async fn chat_completions<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Result<Response, ApiError> {
    chat::create(shared, read(body).await?).await
}

async fn text_completions<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Result<Response, ApiError> {
    completions::create(shared, read(body).await?).await
}

async fn bench<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    if method == Method::HEAD {
        let message = "HEAD is not for /bench: it would compute what nobody is told";
        return Err(ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    crate::bench::run(shared, query.as_deref().unwrap_or_default()).await
}

async fn open_tunnel<A: Engaged>(State(shared): State<Arc<Shared<A>>>, request: Request) -> Result<Response, ApiError> {
    if shared.options.upstreams.is_some() {
        let error = ApiError::not_found("nothing is computed at this node, which asks others (--engine upstream)");
        return tunnel::open_none(request, error, "Give the address of a pylon that computes.");
    }
    match shared.model_of(text_value(request.uri().query().unwrap_or_default(), "model").as_deref()) {
        Ok(model) => tunnel::open(&model.hub, request),
        Err(error) => tunnel::open_none(request, error, "Give the id of a model that /v1/models lists."),
    }
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

async fn count_input<A: Engaged>(State(shared): State<Arc<Shared<A>>>, body: Body) -> Result<Response, ApiError> {
    responses::count_tokens(&shared, read(body).await?).await
}

async fn get_response<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    responses::get(&shared, &id, query.as_deref().unwrap_or_default())
}

async fn delete_response<A: Engaged>(State(shared): State<Arc<Shared<A>>>, Id(id): Id) -> Result<Response, ApiError> {
    responses::delete(&shared, &id).await
}

async fn input_items<A: Engaged>(
    State(shared): State<Arc<Shared<A>>>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    responses::input_items(&shared, &id, query.as_deref().unwrap_or_default())
}

async fn cancel_response<A: Engaged>(State(shared): State<Arc<Shared<A>>>, Id(id): Id) -> Result<Response, ApiError> {
    responses::cancel(&shared, &id).await
}
