//! Errors as Anthropic's clients read them: `{"type": "error", "error": {type, message}}`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::PATH;
use super::request::NO_THREADS;
use crate::error::ApiError;
use crate::record::current;

/// An answer, whose error is written in this dialect: status and headers are those of every dialect.
pub(crate) fn in_dialect(answer: Result<Response, ApiError>) -> Response {
    answer.unwrap_or_else(|error| {
        let body = Json(body(&error)).into_response().into_body();
        let (mut parts, _) = error.into_response().into_parts();
        // That of the other body.
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, body)
    })
}

/// An error of a path, in the dialect that is spoken there.
pub(crate) fn error_at(path: &str, error: ApiError) -> Response {
    match path.starts_with(PATH) {
        true => in_dialect(Err(error)),
        false => error.into_response(),
    }
}

/// An error's body. Within a stream, whose headers have told it, the id of the request is not told again.
pub(super) fn body(error: &ApiError) -> Value {
    let kind = match error.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    let mut body = json!({"type": "error", "error": {"type": kind, "message": error.message}});
    if error.code == Some(NO_THREADS) {
        body["error"]["details"] = json!({"error_code": NO_THREADS});
    }
    if let Some(record) = current() {
        body["request_id"] = record.id().into();
    }
    body
}
