//! Errors as Anthropic's clients read them: `{"type": "error", "error": {type, message}}`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::ApiError;

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

/// An error's body.
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
    json!({"type": "error", "error": {"type": kind, "message": error.message}})
}
