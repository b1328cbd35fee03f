//! `/v1/messages`: Anthropic's dialect.

mod error;
mod reply;
mod request;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub(crate) use self::error::{error_at, in_dialect};
pub(crate) use self::reply::create;
pub(crate) use self::request::MessagesRequest;
use crate::error::ApiError;
use crate::server::{Engaged, Shared};

/// Where this dialect is spoken.
pub(crate) const PATH: &str = "/v1/messages";

/// `POST /v1/messages/count_tokens`: the tokens of what a request would have the model read.
pub(crate) async fn count_tokens<A: Engaged>(
    shared: Arc<Shared<A>>,
    request: MessagesRequest,
) -> Result<Response, ApiError> {
    let model = shared.model_of(request.model.as_deref())?;
    let tokens = model.count(request.into_asked(&model.served)?.prompt).await?;
    Ok(Json(json!({ "input_tokens": tokens })).into_response())
}
