//! What comes before and after every endpoint: who may ask, limits of bodies, ids, records.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, CONTENT_LENGTH, EXPECT, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use gptoss_protocol::TUNNEL_PATH;
use hyper::body::{Frame, Incoming, SizeHint};
use serve_kit::access::Access;
use serve_kit::activity::{Activity, Answering};
use serve_kit::origin::{Grants, OriginList};
use serve_kit::token::{Secret, bearers};
use serve_kit::{Responder, must_close};
use tokio::time::{Sleep, timeout};
use tower_service::Service;

use crate::error::ApiError;
use crate::messages;
use crate::metrics::ServerMetrics;
use crate::models::Models;
use crate::record::{ANTHROPIC_REQUEST_ID, PendingRecord, RECORD, REQUEST_ID, RequestLog, current};
use crate::server::Engaged;
use crate::tunnel::Connection;

/// What pages of allowed origins may do. Clients send many headers of their own; only `Authorization` is not in the `*`.
pub const GRANTS: Grants = Grants {
    methods: "GET, POST, DELETE, OPTIONS",
    request_headers: "*, authorization",
    response_headers: "x-request-id, request-id, retry-after",
};

/// Where Anthropic's clients have the key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Hosts that are answered to, and whether connections are encrypted.
    pub access: Access,
    /// Origins whose pages may ask; pages of others are refused.
    pub origins: OriginList,
    /// Every request has to bring this, if there is one, but those for health.
    pub key: Option<Secret>,
    /// Limits of bodies of requests.
    pub body: BodyLimits,
}

/// Limits of the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Most bytes: enough for a long conversation with large tool results, and no more than a server can hold.
    pub bytes: u64,
    /// Time from its headers until all of it is here.
    pub read: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes: 32 << 20, read: Duration::from_secs(60) }
    }
}

/// Answers all requests.
pub(crate) struct Front<A> {
    pub models: Arc<Models<A>>,
    pub router: Router,
    pub rules: Rules,
    pub log: Option<RequestLog>,
    pub metrics: Arc<ServerMetrics>,
}

impl<A: Engaged> Responder for Front<A> {
    type Body = AnswerBody;

    // Who goes away is not computed for.
    const ANSWERS_HALF_CLOSED: bool = false;

    async fn answer(&self, request: hyper::Request<Incoming>, activity: &Arc<Activity>) -> Response<AnswerBody> {
        let mut answering = activity.answering();
        answering.set_computing(true);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let request_is_head = method == Method::HEAD;
        let (log, metrics) = (self.log.clone(), Arc::clone(&self.metrics));
        let record = PendingRecord::new(method, path.clone(), request.headers(), log, metrics);
        let origin = request.headers().get(ORIGIN).cloned();
        let is_anthropic = path.starts_with(messages::PATH);
        let mut response = match RECORD.sync_scope(Arc::clone(&record), || self.refusal(&request)) {
            Some(mut refusal) => {
                let (version, would_close) = (request.version(), must_close(request.body()));
                let is_read = timeout(self.rules.body.read, read_away(request.map(Body::new))).await == Ok(true);
                if !is_read && version < Version::HTTP_2 && would_close {
                    refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                refusal
            }
            None => RECORD.scope(Arc::clone(&record), self.route(request, activity)).await,
        };
        let asked = HeaderMap::from_iter(origin.map(|origin| (ORIGIN, origin)));
        self.rules.origins.annotate(&asked, response.headers_mut());
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(&record.id()) {
            if is_anthropic {
                headers.insert(ANTHROPIC_REQUEST_ID, id.clone());
            }
            headers.insert(REQUEST_ID, id);
        }
        record.answered(response.status());
        if request_is_head || response.body().is_end_stream() {
            record.set_whole();
        }
        answering.set_computing(false);
        response.map(|body| AnswerBody { body, answering, record })
    }

    fn stopping(&self) {
        self.models.iter().for_each(|model| model.hub.close());
    }

    fn end_answers(&self) -> bool {
        self.models.iter().for_each(|model| model.engine.stop_all());
        true
    }
}

impl<A: Engaged> Front<A> {
    async fn route(&self, mut request: hyper::Request<Incoming>, activity: &Arc<Activity>) -> Response {
        let limits = self.rules.body;
        request.extensions_mut().insert(Connection(Arc::clone(activity)));
        let request = request.map(|body| Body::new(LimitedBody::new(body, limits)));
        let answer = self.router.clone().call(request).await;
        answer.unwrap_or_else(|impossible| match impossible {})
    }

    /// The answer to whoever has no business here, and to preflights.
    fn refusal<B>(&self, request: &hyper::Request<B>) -> Option<Response> {
        let in_dialect = |error: ApiError| messages::error_at(request.uri().path(), error);
        let refuse = |status, message: String| Some(in_dialect(ApiError::refused(status, message)));
        let Rules { access, origins, key, body } = &self.rules;
        if let Err(fault) = access.check(request) {
            let asked = request.uri().authority().map(|authority| authority.as_str());
            let asked = asked.or_else(|| text(request.headers(), axum::http::header::HOST)).unwrap_or("none");
            return refuse(fault.status(), format!("the host is {asked:?}: {fault}"));
        }
        if let Some(origin) = text(request.headers(), ORIGIN)
            && !origins.allows(origin)
        {
            let advice = "start it with --allow-origin ORIGIN, or --allow-host NAME, if they should";
            return refuse(StatusCode::FORBIDDEN, format!("pages of {origin} may not ask this server; {advice}"));
        }
        if is_embedded(request.headers()) {
            let message =
                "a page of another site may not have this as a picture, a script or a form: a page asks with fetch";
            return refuse(StatusCode::FORBIDDEN, message.into());
        }
        if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            // Whatever path it is of: what is not there is told to the request itself, whose answer the page may read.
            let mut response = StatusCode::NO_CONTENT.into_response();
            origins.preflight(request.headers(), response.headers_mut());
            return Some(response);
        }
        if let Some(key) = key
            && !is_open(request)
        {
            let given = request.headers().get_all(API_KEY).iter().map(HeaderValue::as_bytes);
            if !bearers(request.headers()).chain(given).any(|given| key.is(given)) {
                let message = "the API key is missing or wrong: expected the one of --api-key in the header \
                               Authorization, after \"Bearer \"";
                let error = ApiError::refused(StatusCode::UNAUTHORIZED, message);
                return Some(in_dialect(ApiError { code: Some("invalid_api_key"), ..error }));
            }
        }
        let length = text(request.headers(), CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > body.bytes) {
            return Some(in_dialect(BodyFault::TooLong(body.bytes).to_error()));
        }
        None
    }
}

/// Whether it may be asked without a key: whoever watches over processes has none, the tunnel asks for it itself, and which methods
/// there are is no secret.
fn is_open<B>(request: &hyper::Request<B>) -> bool {
    request.method() == Method::OPTIONS || matches!(request.uri().path(), "/health" | "/healthz" | TUNNEL_PATH)
}

/// Whether a page of another site would have the answer as a picture or the like. Browsers tell no origin with such requests, and let
/// every page make them.
fn is_embedded(headers: &HeaderMap) -> bool {
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|it| it == value);
    says("sec-fetch-site", "cross-site") && says("sec-fetch-mode", "no-cors")
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("not text"))
}

/// Bytes of a body that nobody wants, and time for it, that are read before its request is refused.
const READ_AWAY_BYTES: usize = 64 << 20;
const READ_AWAY_WITHIN: Duration = Duration::from_secs(5);

/// Reads what nobody wants, and tells whether that was all of it. A client that is still sending when its connection ends loses the
/// answer: Node's clients read EPIPE in its place, and curl 7.88 an error of the HTTP/2 stream.
pub(crate) async fn read_away(request: Request) -> bool {
    // Whoever asks whether to send has sent nothing, and hears that in the answer.
    if request.headers().contains_key(EXPECT) {
        return false;
    }
    let mut body = request.into_body().into_data_stream();
    let reading = async {
        let mut read = 0;
        while let Some(bytes) = body.next().await {
            read += match bytes {
                Ok(bytes) => bytes.len(),
                Err(_) => return false,
            };
            if read > READ_AWAY_BYTES {
                return false;
            }
        }
        true
    };
    timeout(READ_AWAY_WITHIN, reading).await.unwrap_or(false)
}

/// Notes which route answers.
pub(crate) async fn note_route(request: Request, next: Next) -> Response {
    if let (Some(record), Some(path)) = (current(), request.extensions().get::<MatchedPath>()) {
        // How much of a path a name stands for is the router's business.
        record.routed(&path.as_str().replace("{*", "{"));
    }
    next.run(request).await
}

/// Why the body of a request was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It has more bytes than these.
    TooLong(u64),
    /// It took longer than this.
    TooSlow(Duration),
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => {
                write!(f, "the body has more than {} MiB, which --max-body-mib sets", bytes >> 20)
            }
            Self::TooSlow(time) => {
                write!(f, "the body was not here after {} s, which --body-seconds sets", time.as_secs_f64())
            }
        }
    }
}

impl std::error::Error for BodyFault {}

impl BodyFault {
    /// What the client is told.
    pub fn to_error(self) -> ApiError {
        let status = match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        };
        ApiError::refused(status, self.to_string())
    }

    /// The fault behind an error, if there is one.
    pub fn behind(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref::<Self>().copied())
    }
}

/// The body of a request, which ends with an error when it is too long or too slow.
struct LimitedBody {
    body: Incoming,
    limits: BodyLimits,
    left_bytes: u64,
    deadline: Pin<Box<Sleep>>,
}

impl LimitedBody {
    fn new(body: Incoming, limits: BodyLimits) -> Self {
        let deadline = Box::pin(tokio::time::sleep(limits.read));
        Self { body, limits, left_bytes: limits.bytes, deadline }
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            ready!(this.deadline.as_mut().poll(cx));
            return Poll::Ready(Some(Err(BodyFault::TooSlow(this.limits.read).into())));
        };
        let frame = frame.map(|frame| {
            let frame = frame?;
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.left_bytes = this.left_bytes.checked_sub(bytes).ok_or(BodyFault::TooLong(this.limits.bytes))?;
            Ok(frame)
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. Its record is written when it is dropped, and until then its connection is not idle.
pub(crate) struct AnswerBody {
    body: Body,
    answering: Answering,
    record: Arc<PendingRecord>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        // Without a frame the client waits for the model; with one, it is the client's turn.
        this.answering.set_computing(frame.is_pending());
        let frame = ready!(frame);
        if frame.is_none() || this.body.is_end_stream() {
            this.record.set_whole();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
