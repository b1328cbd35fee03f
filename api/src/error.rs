//! Errors as OpenAI's clients read them: `{"error": {message, type, param, code}}`, all four keys.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gptoss_protocol::{Failure, FailureKind, OptionId};
use serde::Serialize;

/// Why a request was not, or not wholly, served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// A word for programs, where there is one that clients know.
    pub code: Option<&'static str>,
}

/// The inside of an error's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorBody {
    pub message: String,
    r#type: &'static str,
    param: Option<String>,
    pub code: Option<&'static str>,
}

#[derive(Serialize)]
struct Envelope {
    error: ErrorBody,
}

impl ApiError {
    /// A field of the request cannot be used.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            param: Some(param.into()),
            code: Some("invalid_value"),
        }
    }

    /// Something is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into(), param: None, code: Some("not_found") }
    }

    /// The request as a whole is refused.
    pub fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// More wait than there is room for.
    pub fn busy(waiting: usize) -> Self {
        let message = format!(
            "{waiting} requests are being answered or wait, which is as many as this server takes: try again later"
        );
        Self { status: StatusCode::TOO_MANY_REQUESTS, message, param: None, code: Some("rate_limit_exceeded") }
    }

    /// The engine ended the request.
    pub fn engine(failure: &Failure) -> Self {
        let Failure { kind, message, advice, parameter } = failure;
        let message = if advice.is_empty() { message.clone() } else { format!("{message}. {advice}") };
        match kind {
            FailureKind::Request => {
                let is_too_long = parameter.as_ref().is_some_and(|refused| refused.option == OptionId::Prompt);
                Self {
                    status: StatusCode::BAD_REQUEST,
                    message,
                    param: None,
                    code: Some(if is_too_long { "context_length_exceeded" } else { "invalid_value" }),
                }
            }
            FailureKind::Upstream => {
                Self { status: StatusCode::BAD_GATEWAY, message, param: None, code: Some("upstream_error") }
            }
            FailureKind::DeviceLost | FailureKind::Memory | FailureKind::Unavailable => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, message, param: None, code: Some("engine_unavailable") }
            }
            _ => Self::internal(message),
        }
    }

    /// A fault of this server, of the model's file or of the machine.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message, param: None, code: Some("server_error") }
    }

    pub fn body(&self) -> ErrorBody {
        let r#type = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        ErrorBody { message: self.message.clone(), r#type, param: self.param.clone(), code: self.code }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let is_busy = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let mut response = (self.status, Json(Envelope { error: self.body() })).into_response();
        if is_busy {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
